"""Where gradient ascent starts: the size of its images, and the mean of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.samples import Samples

Size = tuple[int, int]


def image_size(model: AuditModel, samples: Samples | None, size: int | Size | None) -> Size:
    """Height and width: as given, or as the model takes them, or as the samples have them.

    Raises:
        AuditError: none of these says it, or it is no size.
    """
    if size is not None:
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise AuditError(f"size={size!r} is no size; give a side in pixels, or (height, width).")
        return sides[0], sides[1]
    if model.input_size is not None:
        return model.input_size
    if samples is None:
        raise AuditError(
            "It is not known how large the images shall be; pass size=, or input_size to AuditModel, or samples."
        )
    height, width = samples[0].image.shape[1:]
    return height, width


def channels_of(model: AuditModel, samples: Samples | None) -> int:
    """How many channels an image has: one for each mean, else as the samples, else as the first convolution takes."""
    if model.mean is not None:
        return len(model.mean)
    if samples is not None:
        return len(samples[0].image)
    first = next((part for part in model.module.modules() if isinstance(part, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def centre_colour(model: AuditModel, channels: int, device: torch.device) -> Tensor:
    """The colour that stands for nothing, C in [0, 1]: the mean that the model was trained with, or grey."""
    return torch.tensor(model.mean or (0.5,) * channels, device=device).clamp(0, 1)


def mean_images(
    samples: Samples | None, engine: Engine, classes: Sequence[int | None], size: Size, *, title: str
) -> Tensor:
    """The mean of the samples of each class, or of all samples where None or where there are none: N×C×H×W.

    Nguyen, Yosinski & Clune 2016, "Multifaceted Feature Visualization", section 2.3. One pass over the samples.
    """
    if samples is None:
        raise AuditError(f"{title} needs samples for start='mean'; pass samples, or use start='noise' or 'zero'.")
    sums: dict[int | None, Tensor] = {}
    counts: dict[int | None, int] = {}
    wanted = set(classes)
    for batch in samples.batches(engine.at_once(samples)):
        for label in (None, *wanted.intersection(batch.labels.tolist())):
            chosen = batch.images if label is None else batch.images[batch.labels == label]
            sums[label] = sums.get(label, 0) + chosen.double().sum(0)
            counts[label] = counts.get(label, 0) + len(chosen)
    means = {label: (total / counts[label]).float() for label, total in sums.items()}
    images = torch.stack([means.get(label, means[None]) for label in classes])
    if images.shape[2:] != size:
        images = interpolate(images, size, mode="bilinear", antialias=True)
    return images.clamp(0, 1)  # which rounding may leave
