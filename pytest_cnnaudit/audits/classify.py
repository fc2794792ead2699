"""The clean forward pass that audits share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from pytest_cnnaudit.engine.measure import out_of_memory
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.samples import Batch


class Clean(NamedTuple):
    """Predicted classes N, the softmax confidence in them N, the number of classes, and the logits N×K."""

    prediction: Tensor
    confidence: Tensor
    classes: int
    logits: Tensor

    def of(self, part: Tensor) -> Clean:
        """The same of some of the samples, by their positions in the batch."""
        return Clean(self.prediction[part], self.confidence[part], self.classes, self.logits[part])


@contextmanager
def fitting(model: AuditModel, images: Tensor) -> Iterator[None]:
    """Within, what torch says of images that the model does not take becomes an `AuditError` that names their shape."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        shape = "×".join(map(str, images.shape[1:]))
        raise AuditError(
            f"The model {model.name!r} does not take images of {shape}: {error}. Check size= and mode= of the samples."
        ) from None


def outputs(borrowed: BorrowedModel, images: Tensor, at_once: int) -> Tensor:
    """Logits of images of any number, N×K, `at_once` at a time."""
    with torch.no_grad():
        return torch.cat([borrowed(chunk) for chunk in torch.split(images, at_once)])


def classify(model: AuditModel, borrowed: BorrowedModel, batch: Batch, at_once: int | None = None) -> Clean:
    """What the model says of a batch as it is.

    Raises:
        AuditError: a label is no class of the model, or there are more names than classes.
    """
    with fitting(model, batch.images):
        logits = outputs(borrowed, batch.images, at_once or len(batch))
    classes = logits.shape[1]
    for sample in batch.samples:
        if not 0 <= sample.label < classes:
            raise AuditError(
                f"The label of {sample.id} is {sample.label}, but the model {model.name!r} has {classes} classes (0 to "
                f"{classes - 1}). Check the order of the class folders (classes=), or the model's last layer."
            )
    if model.class_names is not None and len(model.class_names) != classes:
        raise AuditError(
            f"The model {model.name!r} has {classes} classes, but class_names names {len(model.class_names)}."
        )
    confidence, prediction = logits.softmax(1).max(1)
    return Clean(prediction, confidence, classes, logits)
