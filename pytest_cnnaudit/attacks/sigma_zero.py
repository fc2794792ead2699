"""σ-zero: few values changed, by descending a smooth count of them and dropping the small ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.adam import adam
from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import input_gradient, margin, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread
from pytest_cnnaudit.attacks.search import annealed, check_steps, keep_smallest, nothing_found

_SIGMA = 1e-3  # σ, how sharply the smooth count tells zero from nonzero
_THRESHOLD = 0.3  # τ at the beginning
_CHANGE = 0.01  # t, by how much τ changes in a step, in units of the step size


def sigma_zero(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l0",
    steps: int = 100,
    targeted: bool = False,
    at_once: int | None = None,
) -> Tensor:
    """Descend max(−m, 0) + 1/d Σ δᵢ² / (δᵢ² + σ), and after every step set the |δᵢ| < τ to zero.

    Cinà et al. 2024, "σ-zero: Gradient-based Optimization of ℓ0-norm Adversarial Examples", algorithm 1, with the Adam
    steps of the authors' code. m is the margin, d the number of values. The gradient is divided by its largest value;
    the step size η falls from 1 to 0.1 along a cosine; τ grows by 0.01 η after a step that fooled and shrinks by as
    much after one that did not. The iterate with the fewest changed values that fools is the answer. A sample that
    none or one is enough for leaves at once; the others take all steps.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"l0"`` (values, not pixels).
        steps: passes of the model for each sample; the first sees the image itself.
        targeted: move towards `labels` instead of away.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: the nearest found that fools, and the image itself where none was found.
    """
    check_norm(norm, ("l0",), "σ-zero")
    check_steps("sigma_zero", steps)

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        return nothing_found(clean) | {
            "clean": clean,
            "label": labels[here],
            "x": clean,
            "mean": torch.zeros_like(clean),
            "square": torch.zeros_like(clean),
            "threshold": torch.full_like(clean[:, 0, 0, 0], _THRESHOLD),
            "taken": torch.zeros_like(here),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x, taken = (state[name] for name in ("clean", "label", "x", "taken"))
        last = taken + 1 == steps
        difference = x - clean
        size = length(difference, norm)

        def gap(logits: Tensor) -> Tensor:
            return margin(logits, label, targeted=targeted)

        # Where the margin is above zero already, its part of the loss is flat.
        logits, ahead, gradient = input_gradient(model, x, gap, enough=lambda logits: last | (gap(logits) > 0))
        fooled = reached(logits, label, targeted=targeted)
        slope = 2 * _SIGMA * difference / (difference.square() + _SIGMA).square() / clean[0].numel()
        slope = slope - gradient.where(spread(ahead <= 0), 0)
        slope = slope / spread(length(slope, "linf").clamp(min=1e-12))
        move, mean, square = adam(slope, state["mean"], state["square"], taken + 1)
        moved = (x - spread(annealed(taken, steps, 1.0, 0.1, x)) * move).clamp(0, 1)
        change = _CHANGE * annealed(taken + 1, steps, 1.0, 0.1, x)
        threshold = (state["threshold"] + change.where(fooled, -change)).clamp(0, 1)
        moved = clean.where((moved - clean).abs() < spread(threshold), moved)
        return state | keep_smallest(state, x, size, fooled) | {
            "x": moved,
            "mean": mean,
            "square": square,
            "threshold": threshold,
            "taken": taken + 1,
        }, last | (fooled & (size <= 1))

    return flow(len(images), start, step, at_once=at_once)[0]
