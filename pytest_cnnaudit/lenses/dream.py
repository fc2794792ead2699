"""DeepDream: whatever a layer sees in an image, more of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.objectives import Objective
from pytest_cnnaudit.lenses.scores import differentiating, gradient_at, plain


def deep_dream(
    objective: Objective,
    images: Tensor,
    *,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    step_size: float = 1.5 / 255,
    jitter: float = 0.14,
    tile: int = 512,
    seed: int = 0,
) -> list[Tensor]:
    """The images after each octave, the smallest first; the last ones are the dreams.

    Mordvintsev, Olah & Tyka 2015, "Inceptionism: Going Deeper into Neural Networks", and their notebook: steps along
    the gradient, divided by its mean magnitude, of an image that is rolled about; from a small copy of it to the whole,
    where the details that an octave added are enlarged and added to the next. Costs `steps` forward and backward passes
    an image and octave, of smaller images in the smaller octaves; as many for each tile where there are several.

    Args:
        objective: images to scores N, as from `activity_objective`: of images of any size.
        images: N×C×H×W in [0, 1].
        octaves: sizes to dream at.
        octave_scale: from one size to the next.
        steps: in each octave.
        step_size: the mean change of a value in a step.
        jitter: the largest shift of a step, as a share of the side.
        tile: the longest side that the gradient is computed for at once; larger images take several passes a step, and
            the jitter moves the seams about.
        seed: of the jitter.

    Raises:
        AuditError: a setting does not do, or a gradient is not finite or does not reach the image.
    """
    _check(octaves, octave_scale, steps, step_size, jitter, tile)
    with differentiating():
        images = plain(images)
        height, width = images.shape[2:]
        generator = torch.Generator().manual_seed(seed)
        dreamt: list[Tensor] = []
        for number in reversed(range(octaves)):
            size = max(round(height / octave_scale**number), 1), max(round(width / octave_scale**number), 1)
            base = _resized(images, size)
            if dreamt:  # the details so far, enlarged
                smaller = dreamt[-1].shape[2:]
                base = (base + _resized(dreamt[-1] - _resized(images, (smaller[0], smaller[1])), size)).clamp(0, 1)
            for _ in range(steps):
                down, right = (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1).tolist()
                shift = round(jitter * size[0] * down), round(jitter * size[1] * right)
                slope = _tiled_slope(objective, base.roll(shift, (2, 3)), tile).roll((-shift[0], -shift[1]), (2, 3))
                unit = slope.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
                base = (base + step_size * slope / unit).clamp(0, 1)
            dreamt.append(base)
        return dreamt


def _tiled_slope(objective: Objective, images: Tensor, tile: int) -> Tensor:
    """∂ score / ∂ image, tile by tile: each tile's score is weighted by its area, so that they add up."""
    slope = torch.empty_like(images)
    for rows in _pieces(images.shape[2], tile):
        for columns in _pieces(images.shape[3], tile):
            part = images[..., rows, columns].contiguous().requires_grad_()
            score = objective(part.clone())  # a clone: a model may write into its input
            found = gradient_at(score, part, "The layer does not depend on the image")
            slope[..., rows, columns] = found * (part.shape[2] * part.shape[3])
    if not slope.isfinite().all():
        raise AuditError("The gradient of the layer's activity is not finite; check the model's weights.")
    return slope


def _pieces(length: int, most: int) -> Iterator[slice]:
    """Nearly equal pieces of at most `most`: no sliver that a network cannot take is left over."""
    count = -(-length // most)
    return (slice(length * piece // count, length * (piece + 1) // count) for piece in range(count))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _check(octaves: int, octave_scale: float, steps: int, step_size: float, jitter: float, tile: int) -> None:
    def is_count(value: object) -> bool:
        return isinstance(value, int) and value >= 1

    def is_number(value: object) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    for name, value, holds, wanted in (
        ("octaves", octaves, is_count(octaves), "a number of sizes, 1 or more"),
        ("octave_scale", octave_scale, is_number(octave_scale) and octave_scale > 1, "a factor above 1"),
        ("steps", steps, is_count(steps), "a number of steps, 1 or more"),
        ("step_size", step_size, is_number(step_size) and step_size > 0, "a change above 0, for example 1.5 / 255"),
        ("jitter", jitter, is_number(jitter) and 0 <= jitter < 1, "a share of the side from 0 to below 1"),
        ("tile", tile, is_count(tile), "a side in pixels, for example 512"),
    ):
        if not holds:
            raise AuditError(f"{name}={value!r} does not do for DeepDream; give {wanted}.")
