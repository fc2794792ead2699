"""What can be asked of a model: the methods of `Audit`, one file for each kind of question."""
