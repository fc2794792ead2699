"""Projected gradient descent, where samples that are fooled leave the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import ascent, input_gradient, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, project, spread, steepest, uniform
from pytest_cnnaudit.errors import AuditError

STRIDE = 1_000_003
"""Between the seeds of two restarts of a sample."""


def pgd(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    targeted: bool = False,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """X ← Π(x + a · steepest(∇ₓ loss)), `steps` times, from a random point of the ball.

    Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1. The forward pass of
    a step tells which samples are fooled already: they leave, and cost nothing more. What comes back for them is the
    first iterate that fools; for the others the last one of the last restart.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"`` or ``"l2"``.
        eps: radius of the ball, in pixel units.
        steps: gradient steps a restart.
        step_size: length a of a step; 2.5 · eps / steps where None, so that the ball's edge is in reach from any point
            of it (as in the paper's experiments).
        random_start: begin at a uniform point of the ball instead of the image.
        restarts: how often to begin anew, with the samples still standing.
        targeted: move towards `labels` instead of away.
        seeds: N integers, the random start of each sample; 0, 1, 2, … where None. A sample's result depends on
            its own seed alone, never on its batch.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm, ("linf", "l2"), "PGD")
    if steps < 1 or restarts < 1:
        raise AuditError(f"pgd was given steps={steps} and restarts={restarts}; both must be at least 1.")
    if restarts > 1 and not random_start:
        raise AuditError(f"pgd was given restarts={restarts} without random_start: every restart would be the same.")
    size = 2.5 * eps / steps if step_size is None else step_size
    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()
    total = restarts * (steps + 1) - 1

    def begin(clean: Tensor, seed: Tensor) -> Tensor:
        return (clean + uniform(clean, norm, eps, seed)).clamp(0, 1) if random_start else clean

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean, seed = images[here], seeds[index]
        return {
            "clean": clean,
            "label": labels[here],
            "seed": seed.to(images.device),
            "taken": torch.zeros_like(here),
            "result": begin(clean, seed),
            "fooled": torch.zeros_like(here, dtype=torch.bool),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, seed, x, taken = (state[name] for name in ("clean", "label", "seed", "result", "taken"))

        def done(logits: Tensor) -> Tensor:
            return reached(logits, label, targeted=targeted)

        logits, _, gradient = input_gradient(
            model, x, lambda logits: ascent(logits, label, targeted=targeted), enough=done
        )
        fooled = done(logits)
        moved = (clean + project(x + size * steepest(gradient, norm) - clean, norm, eps)).clamp(0, 1)
        # A restart begins where the last iterate of the one before has been seen not to fool.
        over = (taken % (steps + 1) == steps).nonzero()[:, 0]
        if len(over):
            moved[over] = begin(clean[over], seed[over].cpu() + (taken[over].cpu() + 1) // (steps + 1) * STRIDE)
        taken = taken + ~fooled
        x = x.where(spread(fooled), moved)
        return state | {"result": x, "fooled": fooled, "taken": taken}, fooled | (taken == total)

    return flow(len(images), start, step, at_once=at_once)[0]
