"""Decoupled direction and norm: the gradient turns the difference, the answer of each step lengthens or shortens it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import ascent, input_gradient, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread, steepest, uniform
from pytest_cnnaudit.attacks.pgd import STRIDE
from pytest_cnnaudit.attacks.search import annealed, check_steps, farthest, keep_smallest, nothing_found
from pytest_cnnaudit.errors import AuditError


def ddn(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    steps: int = 100,
    gamma: float = 0.05,
    init_norm: float = 1.0,
    levels: int | None = None,
    targeted: bool = False,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """δ ← δ + α ∇/‖∇‖₂, then ‖δ‖₂ ← (1 − γ) ε where the step before fooled, (1 + γ) ε where it did not.

    Rony et al. 2019, "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses",
    algorithm 1; α falls from 1 to 0.01 along a cosine. The smallest iterate that fools is the answer. A sample whose
    image fools as it is leaves at once; the others take all steps.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"l2"``.
        steps: passes of the model for each sample; the first sees the image itself.
        gamma: γ, by how much the norm changes in a step.
        init_norm: ε at the beginning, in pixel units.
        levels: how many values a pixel can take, 256 for 8-bit images: every iterate is rounded to them. None: any.
        targeted: move towards `labels` instead of away.
        seeds: N integers; from them follows a random direction where the gradient is zero. 0, 1, 2, … where None.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: the nearest found that fools, and the image itself where none was found.
    """
    check_norm(norm, ("l2",), "DDN")
    check_steps("ddn", steps)
    if levels is not None and levels < 2:
        raise AuditError(f"ddn was given levels={levels}; a pixel takes at least 2 (256 in 8-bit images).")
    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        return nothing_found(clean) | {
            "clean": clean,
            "label": labels[here],
            "seed": seeds[index].to(images.device),
            "x": clean,
            "eps": torch.full_like(clean[:, 0, 0, 0], init_norm),
            "taken": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x, taken = (state[name] for name in ("clean", "label", "x", "taken"))
        last = taken + 1 == steps
        size = length(x - clean, norm)

        def hit(logits: Tensor) -> Tensor:
            return reached(logits, label, targeted=targeted)

        def done(logits: Tensor) -> Tensor:
            return last | (hit(logits) & (size == 0))

        logits, _, gradient = input_gradient(
            model, x, lambda logits: ascent(logits, label, targeted=targeted), enough=done
        )
        fooled = hit(logits)
        direction = _never_zero(steepest(gradient, norm), state["seed"] + taken * STRIDE)
        difference = x - clean + spread(annealed(taken, steps, 1.0, 0.01, x)) * direction
        eps = torch.where(fooled, (1 - gamma) * state["eps"], (1 + gamma) * state["eps"])
        eps = torch.minimum(eps, farthest(clean, norm))
        moved = (clean + spread(eps) * steepest(difference, norm)).clamp(0, 1)
        if levels is not None:
            moved = (moved * (levels - 1)).round() / (levels - 1)
        found = keep_smallest(state, x, size, fooled)
        return state | found | {"x": moved, "eps": eps, "taken": taken + 1}, done(logits)

    return flow(len(images), start, step, at_once=at_once)[0]


def _never_zero(direction: Tensor, seeds: Tensor) -> Tensor:
    """Random directions in place of those that are zero: a flat spot would hold a sample for ever."""
    flat = (direction == 0).flatten(1).all(1).nonzero()[:, 0]
    if not len(flat):
        return direction
    drawn = uniform(direction[flat], "l2", 1.0, seeds[flat].cpu())
    return direction.index_copy(0, flat, steepest(drawn, "l2"))
