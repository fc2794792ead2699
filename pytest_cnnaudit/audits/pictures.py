"""Tensors to pixels: pictures are H×W×3 (or H×W) arrays of bytes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.results import Form

Pixels = NDArray[np.uint8]

# Anchors of matplotlib's "inferno" (public domain), interpolated linearly.
_INFERNO = np.array(
    [
        [0, 0, 4],
        [31, 12, 72],
        [85, 15, 109],
        [136, 34, 106],
        [186, 54, 85],
        [227, 89, 51],
        [249, 140, 10],
        [249, 201, 50],
        [252, 255, 164],
    ],
    dtype=np.float64,
)
_BOX = np.array([0, 255, 170], dtype=np.uint8)
_ENLARGED = 128  # pixels of the longer side up to which the page shows a picture pixel by pixel


def image(tensor: Tensor) -> Pixels:
    """An image C×H×W in [0, 1], or N of them; the first channel, in grey, unless there are three."""
    first = tensor.narrow(-3, 0, 1)
    shown = tensor if tensor.shape[-3] == 3 else torch.cat([first, first, first], -3)
    return np.asarray((shown.detach().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu())


def form(picture: Pixels) -> Form:
    """How a picture that is for the eye is stored: one with few pixels is shown enlarged, and each of them is seen."""
    return "photo" if max(picture.shape[:2]) > _ENLARGED else "lossless"


def difference(change: Tensor, gain: float = 1.0) -> Pixels:
    """A signed change C×H×W, `gain` times, centred on grey: brighter pixels grew, darker ones shrank."""
    return image(0.5 + gain * change)


def heat(saliency: Tensor) -> Pixels:
    """A map H×W, 0 and above, from black over red to yellow at its largest value."""
    values = saliency.detach().cpu().double().numpy()
    top = values.max()
    scaled = values / top if top > 0 else values
    at = scaled * (len(_INFERNO) - 1)
    return np.stack([np.interp(at, np.arange(len(_INFERNO)), channel) for channel in _INFERNO.T], axis=-1).astype(
        np.uint8
    )


def overlay(picture: Pixels, heated: Pixels) -> Pixels:
    """The map over the image, half and half; the image is greyed, so that colour means the map."""
    grey = picture.mean(axis=2, keepdims=True)
    mixed: Pixels = (0.45 * grey + 0.55 * heated).astype(np.uint8)
    return mixed


def outlined(picture: Pixels, region: Tensor) -> Pixels:
    """The picture with the border of a region H×W drawn around it."""
    inside = region.cpu().numpy()
    core = np.ones_like(inside)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        neighbour = np.roll(inside, step, axis)
        edge: list[slice | int] = [slice(None), slice(None)]
        edge[axis] = 0 if step == 1 else -1
        neighbour[tuple(edge)] = False  # outside the image there is no region
        core &= neighbour
    result = picture.copy()
    result[inside & ~core] = _BOX
    return result


def enlarged(picture: Pixels, times: int) -> Pixels:
    """Each pixel as a square of so many pixels a side."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def kernel(weight: Tensor) -> Pixels:
    """A filter I×h×w, grey at 0 and full at its largest tap; in colour for three input channels, else side by side."""
    scaled = 0.5 + weight.detach() / (2 * weight.abs().amax().clamp(min=torch.finfo(weight.dtype).tiny))
    if len(weight) in (1, 3):
        return image(scaled)
    columns = math.ceil(math.sqrt(len(weight)))
    height, width = weight.shape[1:]
    rows = math.ceil(len(weight) / columns)
    sheet = torch.ones(rows * (height + 1) - 1, columns * (width + 1) - 1)  # one white pixel between input channels
    for number, channel in enumerate(scaled.cpu()):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = channel
    return image(sheet[None])
