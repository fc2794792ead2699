"""Auto-PGD: projected gradient ascent with momentum that sets its own step size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import ascent as log_odds
from pytest_cnnaudit.attacks.goal import dlr, input_gradient, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, project, project_in_box, spread, steepest, uniform
from pytest_cnnaudit.attacks.pgd import STRIDE
from pytest_cnnaudit.errors import AuditError

HOPE = 3.0
"""Measured on a ResNet-20 and an adversarially trained ResNet-4B, 228 images: none that 100 steps fool is given up, and
half of the passes are saved."""

_MOMENTUM = 0.75  # α in equation 1
_RHO = 0.75  # share of steps in a window that must gain, or the step size is halved


def apgd(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float,
    steps: int = 100,
    loss: Literal["ce", "dlr"] = "ce",
    restarts: int = 1,
    hope: float | None = HOPE,
    targeted: bool = False,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """Maximise the loss in the ball; where the steps of a window gain too little, halve them and go on from the best.

    Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", algorithm 1; for L1 its sparse steps of Croce & Hein 2021, "Mind the box", algorithm 1. A sample leaves as
    soon as it is fooled. Cross-entropy is climbed as its log-odds, see `ascent`: the same order of values and the same
    directions.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius of the ball, in pixel units.
        steps: gradient steps a restart.
        loss: ``"ce"`` (cross-entropy) or ``"dlr"`` (difference of logits ratio; three classes or more).
        restarts: how often to begin anew, with the samples still standing.
        hope: from the second check of the step size on, give a sample up that would not be fooled even if every window
            to come gained `hope` times what the last one did. None goes on to the end, as in the paper; so does L1,
            whose windows are too short to tell.
        targeted: move towards `labels` instead of away; with ``"ce"`` only (`apgd_t` is the targeted form of DLR).
        seeds: N integers, the random start of each sample; 0, 1, 2, … where None.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm, ("linf", "l2", "l1"), "APGD")
    if loss not in ("ce", "dlr"):
        raise AuditError(f"APGD has no loss {loss!r}; use 'ce' or 'dlr'.")
    if targeted and loss == "dlr":
        raise AuditError("APGD with the DLR loss moves away from the label; use loss='ce' with targeted=True.")

    def objective(logits: Tensor, label: Tensor, _: Tensor) -> Tensor:
        return log_odds(logits, label, targeted=targeted) if loss == "ce" else dlr(logits, label)

    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()
    result, standing = images.clone(), torch.arange(len(images))
    for restart in range(restarts):
        here = standing.to(images.device)
        result[here], fooled, *_ = ascend(
            model,
            images[here],
            labels[here],
            labels[here],
            objective,
            norm=norm,
            eps=eps,
            steps=steps,
            hope=hope,
            targeted=targeted,
            seeds=seeds[standing] + restart * STRIDE,
            at_once=at_once,
        )
        standing = standing[~fooled.cpu()]
        if not len(standing):
            break
    return result


def ascend(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    objective: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    norm: Norm,
    eps: float,
    steps: int,
    hope: float | None,
    targeted: bool,
    seeds: Tensor,
    at_once: int | None,
    begin: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One run of algorithm 1, from a random point with ‖δ‖ = eps or from `begin`.

    Returns:
        The images with the largest `objective(logits, labels, targets)`, whether they fool, and that objective.
    """
    sparse = norm == "l1"
    largest = eps if sparse else 2 * eps
    window, shortest, shrink = (max(int(share * steps), 1) for share in (0.04 if sparse else 0.22, 0.06, 0.03))

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        x = _on_the_sphere(clean, norm, eps, seeds[index]) if begin is None else begin[here]
        nothing = torch.full_like(clean[:, 0, 0, 0], -torch.inf)
        count = torch.zeros_like(here)
        return {
            "clean": clean,
            "label": labels[here],
            "target": targets[here],
            "x": x,
            "before": x,
            "result": x,
            "fooled": count.bool(),
            "best_gradient": torch.zeros_like(x),
            "best": nothing,
            "best_at_check": nothing,
            "last": -nothing,
            "size": torch.full_like(nothing, largest),
            "halved": count.bool(),
            "taken": count,
            "gained": count,
            "since": count,
            "window": torch.full_like(count, window),
            "active": torch.full_like(nothing, 0.2),
            "nonzero": torch.full_like(nothing, clean.shape[1:].numel()),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, x = state["clean"], state["x"]

        def done(logits: Tensor) -> Tensor:
            return reached(logits, state["label"], targeted=targeted)

        logits, value, gradient = input_gradient(
            model, x, lambda logits: objective(logits, state["label"], state["target"]), enough=done
        )
        fooled = done(logits)
        better = (value > state["best"]) | fooled
        best = value.where(better, state["best"])
        best_x = x.where(spread(better), state["result"])
        best_gradient = gradient.where(spread(better), state["best_gradient"])
        first = state["taken"] == 0
        gained = state["gained"] + (value > state["last"])
        since = state["since"] + ~first

        check = since == state["window"]
        size, active, nonzero = state["size"], state["active"], state["nonzero"]
        if sparse:
            now = length(best_x - clean, "l0")
            grew_sparser = now / nonzero < 0.95
            active = torch.where(check, now / (1.5 * clean.shape[1:].numel()), active)
            smaller = torch.where(grew_sparser, largest, (size / 1.5).clamp(min=largest / 10))
            restored, nonzero = check & grew_sparser, now.where(check, nonzero)
            size = smaller.where(check, size)
        else:
            stuck = ~state["halved"] & (best <= state["best_at_check"])
            restored = check & ((gained <= _RHO * since) | stuck)
            size = size.where(~restored, size / 2)
        x = best_x.where(spread(restored), x)
        gradient = best_gradient.where(spread(restored), gradient)

        if sparse:
            moved = clean + project_in_box(clean, x + spread(size) * _sparse_step(gradient, active) - clean, eps)
        else:
            ahead = _clip(clean, x + spread(size) * steepest(gradient, norm), norm, eps)
            momentum = torch.where(first, 1.0, _MOMENTUM).to(x.dtype)
            moved = x + spread(momentum) * (ahead - x) + spread(1 - momentum) * (x - state["before"])
            moved = _clip(clean, moved, norm, eps)
        taken = state["taken"] + 1
        next_window = state["window"] if sparse else (state["window"] - shrink * check).clamp(min=shortest)
        outlook = best + (hope or 0) * (best - state["best_at_check"]) * (steps - taken) / next_window
        # Whatever fools has an objective above 0; towards a target, one above that of equal odds among all classes.
        needed = -math.log(logits.shape[1] - 1) if targeted else 0.0
        given_up = check & (outlook < needed) & (hope is not None and not sparse)
        return state | {
            "x": moved,
            "before": x,
            "result": best_x,
            "fooled": fooled,
            "best_gradient": best_gradient,
            "best": best,
            "best_at_check": best.where(check, state["best_at_check"]),
            "last": value,
            "size": size,
            "halved": restored.where(check, state["halved"]),
            "taken": taken,
            "gained": gained.where(~check, 0),
            "since": since.where(~check, 0),
            "window": next_window,
            "active": active,
            "nonzero": nonzero,
        }, fooled | given_up | (taken == steps)

    return flow(len(images), start, step, at_once=at_once, also=("best",))


def _on_the_sphere(clean: Tensor, norm: Norm, eps: float, seeds: Tensor) -> Tensor:
    """A random point with ‖δ‖ = eps, brought back into [0, 1]."""
    point = uniform(clean, norm, eps, seeds)
    return (clean + point * spread(eps / length(point, norm))).clamp(0, 1)


def _clip(clean: Tensor, x: Tensor, norm: Norm, eps: float) -> Tensor:
    return (clean + project(x - clean, norm, eps)).clamp(0, 1)


def _sparse_step(gradient: Tensor, active: Tensor) -> Tensor:
    """The step of length one in L1 that moves the share `active` of the coordinates, those of the largest gradient."""
    flat = gradient.flatten(1)
    count = (active * flat.shape[1]).ceil().long().clamp(1, flat.shape[1])
    limit = flat.abs().sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    signs = flat.sign().where(flat.abs() >= limit, 0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp(min=1)).view_as(gradient)
