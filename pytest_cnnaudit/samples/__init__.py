"""Labelled images in [0, 1], streamed."""

from pytest_cnnaudit.samples.boxes import Box
from pytest_cnnaudit.samples.samples import Batch, Sample, Samples

__all__ = ["Batch", "Box", "Sample", "Samples"]
