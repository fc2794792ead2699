"""Fast minimum norm: gradient steps in a ball that closes in on the boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import input_gradient, margin, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, project, spread, steepest
from pytest_cnnaudit.attacks.search import annealed, check_steps, farthest, keep_smallest, nothing_found

_DUAL: Final[dict[Norm, Norm]] = {"linf": "l1", "l2": "l2", "l1": "linf"}


def fmn(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 100,
    targeted: bool = False,
    at_once: int | None = None,
) -> Tensor:
    """δ ← Π_ε(δ + α ∇m/‖∇m‖₂), where ε shrinks after a step that fooled and grows after one that did not.

    Pintor et al. 2021, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", algorithm 1. m is the
    margin. Before a sample has fooled for the first time, ε is where a linear m would cross zero:
    ‖δ‖ + |m| / ‖∇m‖_q, with the dual norm q (and a little further, see `_up_to_the_boundary`). Then it changes by the
    factor 1 ∓ γ; in L0 it always does, by one value at least. α falls from 1 to 0.01 and γ from 0.05 to 0.001, each
    along a cosine. The smallest iterate that fools is the answer. A sample whose image fools as it is leaves at once,
    as does one that one value is enough for in L0; the others take all steps.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"`` (values, not pixels).
        steps: passes of the model for each sample; the first sees the image itself.
        targeted: move towards `labels` instead of away.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: the nearest found that fools, and the image itself where none was found.
    """
    check_norm(norm, by="FMN")
    check_steps("fmn", steps)
    least = 1 if norm == "l0" else 0  # the image itself is seen first, so that nothing smaller is left to find

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        return nothing_found(clean) | {
            "clean": clean,
            "label": labels[here],
            "x": clean,
            "eps": torch.full_like(clean[:, 0, 0, 0], least),
            "taken": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x, taken = (state[name] for name in ("clean", "label", "x", "taken"))
        last = taken + 1 == steps
        size = length(x - clean, norm)

        def hit(logits: Tensor) -> Tensor:
            return reached(logits, label, targeted=targeted)

        def done(logits: Tensor) -> Tensor:
            return last | (hit(logits) & (size <= least))

        logits, gap, gradient = input_gradient(
            model, x, lambda logits: margin(logits, label, targeted=targeted), enough=done
        )
        fooled = hit(logits)
        found = keep_smallest(state, x, size, fooled)
        gamma = annealed(taken, steps, 0.05, 0.001, x)
        smaller, larger = state["eps"] * (1 - gamma), state["eps"] * (1 + gamma)
        if norm == "l0":
            smaller = torch.minimum(smaller.floor(), state["eps"] - 1)
            larger = torch.maximum(larger.floor(), state["eps"] + 1)
        else:
            distance = gap.abs() / length(gradient, _DUAL[norm]).clamp(min=1e-12)
            larger = larger.where(found["fooled"], _up_to_the_boundary(larger, size, distance, gamma))
        eps = torch.where(fooled, torch.minimum(smaller, found["size"]), larger)
        eps = torch.minimum(eps, farthest(clean, norm))
        alpha = annealed(taken, steps, 1.0, 0.01, x)
        moved = _into_box_and_ball(clean, x + spread(alpha) * steepest(gradient, "l2"), norm, eps)
        return state | found | {"x": moved, "eps": eps, "taken": taken + 1}, done(logits)

    return flow(len(images), start, step, at_once=at_once)[0]


def _up_to_the_boundary(larger: Tensor, size: Tensor, distance: Tensor, gamma: Tensor) -> Tensor:
    """The radius for a sample that has never fooled: ‖δ‖ + `distance` in the paper, here beyond it by the factor 1 + γ.

    On a boundary that is met to the bit rounding decides, and δ would not get further: the distance is zero. Neither
    would it where values are at 0 or 1, and clipping takes as much as the distance adds. So ε grows in every step.
    """
    return torch.maximum(larger, size + (1 + gamma) * distance)


def _into_box_and_ball(clean: Tensor, moved: Tensor, norm: Norm, eps: Tensor) -> Tensor:
    """Clipped to [0, 1], then projected on the ball, which leads back towards the image and so stays in [0, 1].

    In the paper it is the other way round; then the ball is spent on values that clipping takes back.
    """
    return (clean + project(moved.clamp(0, 1) - clean, norm, eps)).clamp(0, 1)
