"""The geometry of the norm balls: lengths, projections, steepest steps, random points.

Every function takes differences N×C×H×W and works on each sample by itself. `eps` may be one radius, or N of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError

Norm = Literal["linf", "l2", "l1", "l0"]

_TINY = 1e-30  # keeps zero divided by zero a zero
_FEW = 16  # the part of the values, one in so many, that is tried first where all would have to be sorted


def check_norm(norm: str, offered: tuple[str, ...] = get_args(Norm), by: str = "") -> None:
    """Raise an `AuditError` for a norm that there is not, or that is not `offered` `by` an attack."""
    if norm not in offered:
        where = f"{by} has" if by and norm in get_args(Norm) else "There is"
        raise AuditError(f"{where} no norm {norm!r}; use one of {', '.join(map(repr, offered))}.")


def length(difference: Tensor, norm: Norm) -> Tensor:
    """‖δ‖ of each sample, N; for L0 the number of values (pixels × channels) that are not zero."""
    flat = difference.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(flat.dtype)
    if norm == "linf":
        return flat.abs().amax(1)
    size: Tensor = flat.norm(p=2 if norm == "l2" else 1, dim=1)
    return size


def project(difference: Tensor, norm: Norm, eps: float | Tensor) -> Tensor:
    """The nearest difference (in L2) with ‖δ‖ ≤ eps."""
    radius = torch.as_tensor(eps, dtype=difference.dtype, device=difference.device).expand(len(difference))
    if norm == "linf":
        return torch.maximum(torch.minimum(difference, spread(radius)), -spread(radius))
    if norm == "l2":
        return difference * spread((radius / length(difference, norm).clamp(min=_TINY)).clamp(max=1))
    if norm == "l1":
        return _soft_threshold(difference, radius)
    return _largest(difference, radius)


def project_in_box(images: Tensor, difference: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest difference with ‖δ‖₁ ≤ eps and images + δ in [0, 1].

    Croce & Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", proposition 2.1: it
    is soft-thresholding, clipped to the box; the threshold solves a piecewise linear equation. (For L∞ clipping one
    after the other is exact already; for L2 and L0 it is what attacks do.)
    """
    room = torch.where(difference > 0, 1 - images, images)
    radius = torch.as_tensor(eps, dtype=images.dtype, device=images.device).expand(len(images))
    return _soft_threshold(difference, radius, room).add(images).clamp(0, 1).sub(images)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step with ‖s‖ = 1 that increases a linear function the most: sign(g), g / ‖g‖₂, or one coordinate in L1."""
    if norm == "linf":
        return gradient.sign()
    if norm == "l1":
        flat = gradient.flatten(1)
        most = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, most, flat.gather(1, most).sign()).view_as(gradient)
    largest = spread(length(gradient, "linf").clamp(min=_TINY))
    scaled = gradient / largest  # first: squares of small numbers are 0 in floating point
    return scaled / spread(length(scaled, "l2").clamp(min=_TINY))


def uniform(like: Tensor, norm: Norm, eps: float, seeds: Tensor) -> Tensor:
    """A point drawn uniformly from the ball of radius `eps`, for each sample by its own seed.

    The draw happens on the CPU, so that a sample gets the same point on every device and in every batch. For L2: a
    normal vector gives the direction, and U^(1/d) · eps the radius; for L1, exponential magnitudes with random signs.
    """

    def draw(generator: torch.Generator) -> Tensor:
        if norm == "linf":
            return (2 * torch.rand(like.shape[1:], generator=generator) - 1) * eps
        if norm == "l1":
            uniforms = torch.rand(like.shape[1:], generator=generator)
            signs = torch.randint(2, like.shape[1:], generator=generator) * 2 - 1
            direction = signs * -(1 - uniforms).log()
        else:
            direction = torch.randn(like.shape[1:], generator=generator)
        radius = eps * torch.rand((), generator=generator) ** (1 / direction.numel())
        return direction / length(direction[None], norm) * radius

    return each_by_its_seed(draw, seeds).to(like) if len(seeds) else torch.zeros_like(like)


def each_by_its_seed(draw: Callable[[torch.Generator], Tensor], seeds: Tensor) -> Tensor:
    """Stack what `draw` gives for each sample's own generator."""
    return torch.stack([draw(torch.Generator().manual_seed(int(seed))) for seed in seeds])


def spread(values: Tensor) -> Tensor:
    """N values as N×1×1×1, to go with images."""
    return values[:, None, None, None]


def _soft_threshold(difference: Tensor, radius: Tensor, room: Tensor | None = None) -> Tensor:
    """sign(δᵢ) max(|δᵢ| − λ, 0), with the least λ ≥ 0 for which Σ min(max(|δᵢ| − λ, 0), roomᵢ) ≤ radius (N).

    All of it is measured downwards from the largest |δᵢ|, the top: beside a λ of 1e6, a radius of 1 would be rounded.
    """
    magnitude = difference.flatten(1).abs()
    room = torch.full_like(magnitude, torch.inf) if room is None else room.flatten(1)
    top = magnitude.amax(1, keepdim=True)
    depth, enough = _depth(magnitude, room, top, radius)
    size = (magnitude - top + depth).clamp(min=0).where(enough, magnitude)
    return difference.sign() * size.view_as(difference)


def _depth(magnitude: Tensor, room: Tensor, top: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """How far λ lies below the top, N×1, and whether the radius is used up at all: else λ is 0, N×1 bool.

    Perturbations are sparse, so mostly the few largest values use up the radius, and the others need not be sorted.
    """
    some = magnitude.shape[1] // _FEW
    if not some:
        return _used_up(magnitude, room, top, radius, torch.zeros_like(top))
    largest, where = magnitude.topk(some + 1, dim=1)
    few, rest = room.gather(1, where[:, :-1]), largest[:, -1:]
    depth, enough = _used_up(largest[:, :-1], few, top, radius, rest)
    left = (~enough[:, 0]).nonzero()[:, 0]
    if len(left):
        nothing = torch.zeros_like(top[left])
        deeper, used = _used_up(magnitude[left], room[left], top[left], radius[left], nothing)
        depth, enough = depth.index_copy(0, left, deeper), enough.index_copy(0, left, used)
    return depth, enough


def _used_up(magnitude: Tensor, room: Tensor, top: Tensor, radius: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """The same for the λ from `least` (N×1) on, with the values that are larger.

    The sum is piecewise linear in λ: its slope grows by one at each |δᵢ| from above, and falls by one at |δᵢ| − roomᵢ.
    """
    height = top - least
    bends = torch.cat([top - magnitude, torch.minimum(top - magnitude + room, height)], 1)
    slopes = torch.cat([torch.ones_like(magnitude), -torch.ones_like(magnitude)], 1)
    bends, order = bends.sort(dim=1)
    slope = slopes.gather(1, order).cumsum(1)
    gain = slope * (torch.cat([bends[:, 1:], height], 1) - bends)  # from each bend to the next, at last to `least`
    total = gain.cumsum(1)
    before = torch.cat([torch.zeros_like(top), total[:, :-1]], 1)
    over = total > radius[:, None]
    first = over.int().argmax(1, keepdim=True)
    depth = bends.gather(1, first) + (radius[:, None] - before.gather(1, first)) / slope.gather(1, first).clamp(min=1)
    return depth, over.any(1, keepdim=True)


def _largest(difference: Tensor, count: Tensor) -> Tensor:
    """The `count` values of largest magnitude, the rest zero; of equal ones the first."""
    flat = difference.flatten(1)
    count = count.floor().clamp(max=flat.shape[1])[:, None].long()
    magnitude = flat.abs()
    ordered = magnitude.topk(max(int(count.max()), 1), dim=1).values
    least = ordered.gather(1, (count - 1).clamp(min=0))
    larger, equal = magnitude > least, magnitude == least
    room = count - larger.sum(1, keepdim=True)
    return flat.where((larger | (equal & (equal.cumsum(1) <= room))) & (count > 0), 0).view_as(difference)
