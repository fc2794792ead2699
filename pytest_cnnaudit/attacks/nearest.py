"""The smallest perturbation that fools, found in as few passes as we know how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import ascent, input_gradient, margin
from pytest_cnnaudit.attacks.hyperplane import to_hyperplane
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, project, project_in_box, spread, steepest
from pytest_cnnaudit.errors import AuditError

_HOPS = 5  # DeepFool's steps at most; it needs two or three
_OVERSHOOT = 0.05
_TINY = 1e-12


class _Pace(NamedTuple):
    """The schedule of a norm: step length in units of the current perturbation, momentum, and the change of eps."""

    step: tuple[float, float]
    momentum: float
    change: tuple[float, float]


_PACES = {
    "linf": _Pace((1.0, 0.02), 0.0, (0.2, 0.001)),
    "l2": _Pace((1.0, 0.02), 0.0, (0.2, 0.001)),
    "l1": _Pace((2.0, 0.05), 0.5, (0.2, 0.001)),
    "l0": _Pace((3.0, 0.3), 0.0, (0.3, 0.05)),
}
"""Measured on a ResNet-20. L0: the step is in pixel units, since sparse changes go to the borders of [0, 1] anyway."""


def nearest(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 40,
    targeted: bool = False,
    confidence: float | None = None,
    at_once: int | None = None,
) -> Tensor:
    """DeepFool to get across the boundary, then FMN at the scale that it found.

    1. Steps to the nearest hyperplane, as in DeepFool (Moosavi-Dezfooli et al. 2016), along the one gradient of the
       margin to the likeliest other class, until something fools.
    2. The fast minimum-norm attack (Pintor et al. 2021, algorithm 1): step up the gradient, project onto the ball of
       radius eps; shrink eps where the point fools, else widen it. The paper's steps have one length for all samples
       (1.0 in L2), and most of them are spent on coming down to the scale of the perturbation. Here that scale is known
       from the start, and steps are measured in it, so that 40 do better than 100 (`tests/benchmarks`).

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
        steps: of the second part; each is a forward and a backward pass.
        targeted: find the nearest image of class `labels` instead of any other class.
        confidence: softmax probability that the target must reach, where `targeted`; None is the largest of all.
        at_once: samples in a pass of the model; all where None.

    Returns:
        For each sample the nearest image found in [0, 1] that fools, or the image itself where none was.
    """
    check_norm(norm)
    if steps < 1:
        raise AuditError(f"nearest was given steps={steps}; it must be at least 1.")
    if confidence is not None and not (targeted and 0 < confidence < 1):
        raise AuditError(f"confidence={confidence} needs targeted=True and a probability between 0 and 1.")
    needed = 0.0 if confidence is None else math.log(confidence / (1 - confidence))
    pace = _PACES[norm]

    def objective(logits: Tensor, label: Tensor) -> Tensor:
        """Above 0 where the attack has what it wants."""
        if confidence is None:
            return margin(logits, label, targeted=targeted)
        return ascent(logits, label, targeted=True) - needed

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        per_sample = clean[:, 0, 0, 0]
        return {
            "clean": clean,
            "label": labels[here],
            "x": clean,
            "result": clean,
            "fooled": torch.zeros_like(here, dtype=torch.bool),
            "length": torch.full_like(per_sample, torch.inf),
            "eps": torch.full_like(per_sample, torch.inf),
            "velocity": torch.zeros_like(clean),
            "hops": torch.zeros_like(here),
            "taken": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x, eps = state["clean"], state["label"], state["x"], state["eps"]
        _, value, gradient = input_gradient(model, x, lambda logits: objective(logits, label))
        fools, size = value > 0, length(x - clean, norm)
        closer = fools & (size < state["length"])
        shortest = size.where(closer, state["length"])
        found = state["fooled"] | fools

        hopping = ~found & (state["hops"] < _HOPS) & (state["taken"] == 0)
        hop = to_hyperplane(x, gradient, -value * (1 + _OVERSHOOT), "l1" if norm == "l0" else norm)

        cosine = (1 + torch.cos(math.pi * state["taken"] / steps)) / 2
        change = (pace.change[1] + (pace.change[0] - pace.change[1]) * cosine).to(x.dtype)
        eps = _radius(eps.where(eps.isfinite(), size), fools, size, shortest, change, norm)
        rate = (pace.step[1] + (pace.step[0] - pace.step[1]) * cosine).to(x.dtype)
        push = _push(gradient, x - clean, norm) * spread(rate)
        velocity = pace.momentum * state["velocity"] + (1 - pace.momentum) * push
        moved = _within(clean, x - clean + velocity, norm, eps)

        taken = state["taken"] + ~hopping
        return state | {
            "x": (x + hop).clamp(0, 1).where(spread(hopping), moved),
            "result": x.where(spread(closer), state["result"]),
            "fooled": found,
            "length": shortest,
            "eps": eps.where(~hopping, torch.inf),
            "velocity": velocity.where(~spread(hopping), 0),
            "hops": state["hops"] + hopping,
            "taken": taken,
        }, (taken == steps) | (shortest == 0)

    return flow(len(images), start, step, at_once=at_once)[0]


def _radius(eps: Tensor, fools: Tensor, size: Tensor, shortest: Tensor, change: Tensor, norm: Norm) -> Tensor:
    """The next radius: smaller where the point fools, else larger, and always below the shortest found."""
    if norm == "l0":
        smaller = torch.minimum((size * (1 - change)).floor(), size - 1)
        larger = torch.maximum((eps * (1 + change)).floor(), eps + 1)
        return torch.minimum(smaller.where(fools, larger), shortest - 1).clamp(min=1)
    smaller = torch.minimum(eps, shortest) * (1 - change)
    return torch.minimum(smaller.where(fools, eps * (1 + change)), shortest)


def _push(gradient: Tensor, difference: Tensor, norm: Norm) -> Tensor:
    """A step up the gradient of unit length: as long as the perturbation itself, or one pixel unit in L0."""
    if norm == "linf":
        return gradient.sign() * spread(length(difference, "linf"))
    direction = steepest(gradient, "l2")
    return direction if norm == "l0" else direction * spread(length(difference, "l2"))


def _within(clean: Tensor, difference: Tensor, norm: Norm, eps: Tensor) -> Tensor:
    """The image that differs so, brought into the ball and into [0, 1]; in L2 onto the sphere."""
    if norm == "l1":
        return clean + project_in_box(clean, difference, eps)
    if norm == "l0":
        return clean + project((clean + difference).clamp(0, 1) - clean, norm, eps)
    if norm == "l2":
        difference = difference * spread(eps / length(difference, norm).clamp(min=_TINY))
    return (clean + project(difference, norm, eps)).clamp(0, 1)
