"""Occlusion: how much the score falls when a patch of the image is covered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.baseline import Baseline, baseline_of
from pytest_cnnaudit.lenses.blocks import blocks
from pytest_cnnaudit.lenses.scores import class_scores, plain


def occlusion(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    baseline: Baseline = 0.5,
    at_once: int | None = None,
) -> Tensor:
    """The score of the image less its score with a patch covered, averaged over the patches that cover a pixel.

    Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2. They show the probability
    that is left, low where the object is; here it is the fall of the logit (before the softmax), so that a positive
    value speaks for the class, and a negative one against it.

    Patches start at the upper left corner and go on until they have covered the image; the last ones are cut off at its
    border. Costs one forward pass a sample and one a patch, without gradients.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        window: height and width of a patch in pixels; a quarter of the image's shorter side where None.
        stride: steps down and across in pixels, no larger than the window; half of the window where None.
        baseline: what covers the image; the paper's grey where 0.5.
        at_once: images in a pass of the model; N where None.

    Returns:
        Signed maps N×1×H×W, in units of the logit.

    Raises:
        AuditError: window or stride do not fit the image, or the baseline does not.
    """
    size = (images.shape[2], images.shape[3])
    height, width = _pair(window, (max(1, min(size) // 4),) * 2)
    down, across = _pair(stride, (max(1, height // 2), max(1, width // 2)))
    if not (0 < height <= size[0] and 0 < width <= size[1] and 0 < down <= height and 0 < across <= width):
        raise AuditError(
            f"occlusion was given a window of {height}×{width} and a stride of {down}×{across} for images of "
            f"{size[0]}×{size[1]}; the window must fit the image, and the stride be 1 or more, up to the window."
        )
    rows, columns = _covered(size[0], height, down), _covered(size[1], width, across)
    with torch.inference_mode(mode=False), torch.no_grad():
        images, targets = plain(images), plain(targets)
        rows, columns = rows.to(images.device), columns.to(images.device)
        cover = baseline_of(baseline, images)
        falls = images.new_zeros(len(images), len(rows) * len(columns))
        for samples, _ in blocks(len(images), 1, at_once):
            falls[samples] = class_scores(model(images[samples]), targets[samples])[:, None].to(falls)
        for samples, patches in blocks(len(images), falls.shape[1], at_once):
            shown, number = images[samples], torch.arange(patches.start, patches.stop, device=images.device)
            hidden = rows[number // len(columns), :, None] & columns[number % len(columns), None]
            covered = torch.where(hidden[:, None, None], cover[samples], shown)
            scores = class_scores(model(covered.flatten(0, 1)), targets[samples].repeat(len(patches)))
            falls[samples, patches.start : patches.stop] -= scores.view(len(patches), -1).T.to(falls)
        down_to, across_to = rows.to(falls), columns.to(falls)
        sums = torch.einsum("nrc,rh,cw->nhw", falls.view(-1, len(rows), len(columns)), down_to, across_to)
        return sums[:, None] / (down_to.sum(0)[:, None] * across_to.sum(0))


def _pair(sides: int | tuple[int, int] | None, default: tuple[int, int]) -> tuple[int, int]:
    if sides is None:
        return default
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])


def _covered(size: int, window: int, stride: int) -> Tensor:
    """Which pixels of a side each patch covers, patches×size, bool."""
    starts = torch.arange(-(-(size - window) // stride) + 1)[:, None] * stride
    pixels = torch.arange(size)
    return (starts <= pixels) & (pixels < starts + window)
