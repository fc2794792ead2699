"""What searches for the smallest perturbation share: the best so far, schedules, how far there is to go."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State
from pytest_cnnaudit.attacks.norms import Norm, length, spread
from pytest_cnnaudit.errors import AuditError


def check_steps(attack: str, steps: int) -> None:
    """Raise an `AuditError` where there is no step."""
    if steps < 1:
        raise AuditError(f"{attack} was given steps={steps}; it must be at least 1.")


def nothing_found(clean: Tensor) -> State:
    """The answers before the first step: the images themselves, none of which is known to fool."""
    size = torch.full_like(clean[:, 0, 0, 0], torch.inf)
    return {"result": clean, "fooled": torch.zeros_like(size, dtype=torch.bool), "size": size}


def keep_smallest(state: State, x: Tensor, size: Tensor, fooled: Tensor) -> State:
    """The answers, with `x` in place of those that it undercuts: where it fools, and its `size` is smaller."""
    better = fooled & (size < state["size"])
    return {
        "result": x.where(spread(better), state["result"]),
        "fooled": state["fooled"] | fooled,
        "size": size.where(better, state["size"]),
    }


def annealed(taken: Tensor, steps: int, first: float, last: float, like: Tensor) -> Tensor:
    """From `first` to `last` along half a cosine, N values after `taken` of `steps` steps."""
    return last + (first - last) * (1 + torch.cos(math.pi / steps * taken.to(like.dtype))) / 2


def farthest(clean: Tensor, norm: Norm) -> Tensor:
    """The largest ‖δ‖ that leaves the images in [0, 1], N."""
    return length(torch.maximum(clean, 1 - clean), norm)
