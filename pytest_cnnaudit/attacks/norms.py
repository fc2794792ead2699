"""The geometry of the norm balls: lengths, projections, steepest steps, random points.

Every function takes differences N×C×H×W and works on each sample by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError

Norm = Literal["linf", "l2"]

_TINY = 1e-30  # keeps zero divided by zero a zero


def check_norm(norm: str) -> None:
    """Raise an `AuditError` for a norm that is not offered."""
    if norm not in get_args(Norm):
        raise AuditError(f"There is no norm {norm!r}; use one of {', '.join(map(repr, get_args(Norm)))}.")


def length(difference: Tensor, norm: Norm) -> Tensor:
    """‖δ‖ of each sample, N."""
    flat = difference.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def project(difference: Tensor, norm: Norm, eps: float) -> Tensor:
    """The nearest difference with ‖δ‖ ≤ eps."""
    if norm == "linf":
        return difference.clamp(-eps, eps)
    return difference * (eps / _spread(length(difference, norm).clamp(min=_TINY))).clamp(max=1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step with ‖s‖ = 1 that increases a linear function the most: sign(g), or g / ‖g‖₂."""
    if norm == "linf":
        return gradient.sign()
    largest = _spread(length(gradient, "linf").clamp(min=_TINY))
    scaled = gradient / largest  # first: squares of small numbers are 0 in floating point
    return scaled / _spread(length(scaled, norm).clamp(min=_TINY))


def uniform(like: Tensor, norm: Norm, eps: float, seeds: Tensor) -> Tensor:
    """A point drawn uniformly from the ball of radius `eps`, for each sample by its own seed.

    The draw happens on the CPU, so that a sample gets the same point on every device and in every batch. For L2: a
    normal vector gives the direction, and U^(1/d) · eps the radius.
    """

    def draw(generator: torch.Generator) -> Tensor:
        if norm == "linf":
            return (2 * torch.rand(like.shape[1:], generator=generator) - 1) * eps
        direction = torch.randn(like.shape[1:], generator=generator)
        radius = eps * torch.rand((), generator=generator) ** (1 / direction.numel())
        point: Tensor = direction / direction.norm() * radius
        return point

    return each_by_its_seed(draw, seeds).to(like)


def each_by_its_seed(draw: Callable[[torch.Generator], Tensor], seeds: Tensor) -> Tensor:
    """Stack what `draw` gives for each sample's own generator."""
    return torch.stack([draw(torch.Generator().manual_seed(int(seed))) for seed in seeds])


def _spread(values: Tensor) -> Tensor:
    return values[:, None, None, None]
