"""Projected gradient descent, where samples that are fooled leave the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.goal import ascent, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, project, steepest, uniform
from pytest_cnnaudit.errors import AuditError

_STRIDE = 1_000_003  # between the seeds of two restarts of a sample


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

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm)
    if steps < 1 or restarts < 1:
        raise AuditError(f"pgd was given steps={steps} and restarts={restarts}; both must be at least 1.")
    if restarts > 1 and not random_start:
        raise AuditError(f"pgd was given restarts={restarts} without random_start: every restart would be the same.")
    step_size = 2.5 * eps / steps if step_size is None else step_size
    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()

    result = images.clone()
    standing = torch.arange(len(images), device=images.device)
    for restart in range(restarts):
        if restart:
            with torch.no_grad():
                fooled = reached(model(result[standing]), labels[standing], targeted=targeted)
            standing = standing[~fooled]
        if not len(standing):
            break
        clean, wanted = images[standing], labels[standing]
        x = clean
        if random_start:
            x = (clean + uniform(clean, norm, eps, seeds[standing.cpu()] + restart * _STRIDE)).clamp(0, 1)
        for _ in range(steps):
            x = x.detach().requires_grad_()
            logits = model(x)
            fooled = reached(logits, wanted, targeted=targeted)
            if fooled.any():
                result[standing[fooled]] = x.detach()[fooled]
                if fooled.all():
                    standing = standing[~fooled]
                    break
            (gradient,) = torch.autograd.grad(ascent(logits, wanted, targeted=targeted).sum(), x)
            left = ~fooled
            standing, clean, wanted = standing[left], clean[left], wanted[left]
            x = x.detach()[left] + step_size * steepest(gradient[left], norm)
            x = (clean + project(x - clean, norm, eps)).clamp(0, 1)
        else:
            result[standing] = x
    return result
