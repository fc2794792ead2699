"""One file per question asked of a model: its measurement, and the pictures that show it."""
