"""The nearest point of a hyperplane within the box [0, 1]: the step of FAB and `nearest`, in L∞, L2 and L1."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.norms import Norm


def to_hyperplane(images: Tensor, weight: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The δ of least ‖δ‖ with ⟨w, δ⟩ = gap and images + δ in [0, 1].

    Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", section 2.2.
    Each pixel moves along sign(gap · w), by at most cᵢ, its room to 0 or 1, and contributes |wᵢ| |δᵢ|:

    - L2: |δᵢ| = min(λ |wᵢ|, cᵢ); L∞: |δᵢ| = min(λ, cᵢ); the λ at which the contributions add up to |gap|;
    - L1: pixels of the largest |wᵢ| go all the way to their border, until |gap| is reached.

    Where all pixels at their borders do not reach the hyperplane, they stay there: the nearest the box allows.

    Args:
        images: N×C×H×W in [0, 1].
        weight: the normal w, N×C×H×W.
        gap: N; what ⟨w, δ⟩ must become.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
    """
    w, x = weight.flatten(1) * gap.sign()[:, None], images.flatten(1)
    scale = w.abs().amax(1, keepdim=True).clamp(min=_TINY)  # first: squares of small numbers are 0 in floating point
    w = w / scale
    room = torch.where(w > 0, 1 - x, x).where(w != 0, 0).clamp(min=0)
    slope, wanted = w.abs(), gap.abs()[:, None] / scale
    if norm == "l1":
        slope, order = slope.sort(dim=1, descending=True)
        gain = slope * room.gather(1, order)
        left = (wanted - (gain.cumsum(1) - gain)).clamp(min=0)  # what the pixels before leave to be done
        moved = torch.minimum(left / slope.clamp(min=_TINY), room.gather(1, order))
        size = torch.zeros_like(x).scatter(1, order, moved)
    else:
        rate = slope if norm == "l2" else torch.ones_like(slope)
        size = torch.minimum(_multiplier(slope, rate, room, wanted) * rate, room)
    return (size * w.sign()).view_as(images)


_TINY = 1e-30  # keeps a division by a zero slope finite


def _multiplier(slope: Tensor, rate: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """λ with Σ slopeᵢ · min(λ rateᵢ, roomᵢ) = wanted, N×1: the sum is piecewise linear, with bends at roomᵢ / rateᵢ."""
    bend, order = (room / rate.clamp(min=_TINY)).where(slope > 0, 0).sort(dim=1)
    speed = (slope * rate).gather(1, order)
    full = (slope * room).gather(1, order)
    # At the k-th bend the pixels before it are full, and those from it on still move.
    moving = speed.flip(1).cumsum(1).flip(1)
    before = full.cumsum(1) - full
    at_bend = before + bend * moving
    k = (at_bend < wanted).sum(1, keepdim=True).clamp(max=bend.shape[1] - 1)
    multiplier = (wanted - before.gather(1, k)) / moving.gather(1, k).clamp(min=_TINY)
    # λ lies between two bends, whatever rounding makes of a difference of large numbers over a small one.
    lower = torch.cat([torch.zeros_like(bend[:, :1]), bend[:, :-1]], 1).gather(1, k)
    return torch.minimum(torch.maximum(multiplier, lower), bend.gather(1, k))
