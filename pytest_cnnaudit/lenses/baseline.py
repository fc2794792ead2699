"""What stands for "nothing there" where a method compares an image with its absence."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError

Baseline = float | Tensor
"""A value in [0, 1] for all pixels, or a tensor that fits the images: C×1×1 (a colour), C×H×W or N×C×H×W."""


def baseline_of(baseline: Baseline, images: Tensor) -> Tensor:
    """The baseline of each image, N×C×H×W.

    Raises:
        AuditError: it does not fit the images.
    """
    values = torch.as_tensor(baseline, dtype=images.dtype, device=images.device)
    try:
        return values.expand_as(images)
    except RuntimeError:
        raise AuditError(
            f"The baseline of shape {tuple(values.shape)} does not fit images of shape {tuple(images.shape)}; give a "
            "number, a colour C×1×1, an image C×H×W, or one a sample."
        ) from None
