"""FAB: the smallest perturbation that fools, by steps to the linearised boundary that stay close to the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.apgd_t import likeliest
from pytest_cnnaudit.attacks.flow import State, flow
from pytest_cnnaudit.attacks.goal import input_gradient, of, reached
from pytest_cnnaudit.attacks.hyperplane import to_hyperplane
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length, spread, uniform
from pytest_cnnaudit.attacks.pgd import STRIDE
from pytest_cnnaudit.errors import AuditError

_REACH = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # the eps of random starts where there is none, as in AutoAttack
_TINY = 1e-8  # keeps zero divided by zero a zero


def fab_t(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float | None = None,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """Step onto the boundary between the label and another class, as if it were a hyperplane, drawn to the image.

    Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", algorithm 1, in
    the targeted form of the authors' AutoAttack: one boundary after the other, instead of the nearest each time. A
    step leads from the current point x, with the projections p of x and q of the image x₀ onto the hyperplane, to

        (1 − α) (x + η (p − x)) + α (x₀ + η (q − x₀)),   α = min(‖p − x‖ / (‖p − x‖ + ‖q − x₀‖), alpha_max),

    and a point that fools is first drawn back to x₀ + β (x − x₀).

    A step takes one forward and one backward pass: the logits of a point tell whether it fools, and their gradient is
    the next hyperplane. (The paper asks for both at the point drawn back to, which is another forward pass a step. The
    point that fools lies as close to the boundary: what is found is as near, for two thirds of the passes.)

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius in pixel units; a sample leaves as soon as something within it fools. None goes on for the smallest
            perturbation.
        steps: steps for each target and restart.
        targets: how many classes are tried, the likeliest first; at most all others.
        restarts: runs for each target; all but the first begin at a random point, half as far away as `eps` or what has
            been found.
        alpha_max: the most that a step is drawn to the image.
        eta: η, how far a step overshoots the hyperplane; 1 ends on it.
        beta: β, the share of a perturbation that fools from which the search goes on.
        seeds: N integers, the random starts of each sample; 0, 1, 2, … where None.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1]: for each sample the nearest found that fools (and is within `eps`, where given), or
        else the sample itself.
    """
    check_norm(norm, ("linf", "l2", "l1"), "FAB")
    if steps < 1 or targets < 1 or restarts < 1:
        raise AuditError(f"fab_t was given steps={steps}, targets={targets}, restarts={restarts}; each is 1 or more.")
    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()
    ranked = likeliest(model, images, labels, targets, at_once=at_once)
    far_enough, near_enough = (torch.inf, 0.0) if eps is None else (eps, eps)
    total = ranked.shape[1] * restarts * (steps + 1)  # the last point of a run is looked at, too

    def start(index: Tensor) -> State:
        here = index.to(images.device)
        clean = images[here]
        return {
            "clean": clean,
            "label": labels[here],
            "targets": ranked[here],
            "seed": seeds[index].to(images.device),
            "x": clean,
            "result": clean,
            "nearest": torch.full_like(clean[:, 0, 0, 0], torch.inf),
            "taken": torch.zeros_like(here),
            "fooled": torch.zeros_like(here, dtype=torch.bool),
        }

    def step(state: State) -> tuple[State, Tensor]:
        clean, label, x, nearest = (state[name] for name in ("clean", "label", "x", "nearest"))
        run = state["taken"] // (steps + 1)
        target = state["targets"].gather(1, (run // restarts)[:, None])[:, 0]
        size = length(x - clean, norm)

        logits, value, gradient = input_gradient(
            model,
            x,
            lambda logits: of(logits, target) - of(logits, label),
            enough=lambda logits: reached(logits, label, targeted=False) & (size <= near_enough),
        )
        fools = reached(logits, label, targeted=False)
        found = fools & (size <= far_enough) & (size < nearest)
        nearest = size.where(found, nearest)

        back = (clean + beta * (x - clean)).where(spread(fools), x)
        moved = _step(clean, back, value + _dot(gradient, back - x), gradient, norm, alpha_max=alpha_max, eta=eta)
        taken = state["taken"] + 1
        begins = taken % (steps + 1) == 0
        moved = clean.where(spread(begins), moved)
        again = (begins & (taken // (steps + 1) % restarts > 0)).nonzero()[:, 0]
        if len(again):
            number = taken[again] // (steps + 1)
            point = uniform(clean[again], norm, 1.0, (state["seed"][again] + number * STRIDE).cpu())
            reach = nearest[again].clamp(max=_REACH[norm] if eps is None else eps)
            moved[again] = (clean[again] + spread(reach / 2) * point).clamp(0, 1)
        return state | {
            "x": moved,
            "result": x.where(spread(found), state["result"]),
            "nearest": nearest,
            "taken": taken,
            "fooled": nearest.isfinite(),
        }, (nearest <= near_enough) | (taken == total)

    return flow(len(images), start, step, at_once=at_once)[0]


def _step(
    clean: Tensor, x: Tensor, value: Tensor, gradient: Tensor, norm: Norm, *, alpha_max: float, eta: float
) -> Tensor:
    """One step from x towards the hyperplane on which `value` + ⟨gradient, · − x⟩ is zero (`value` is N)."""
    gap = torch.cat([-value, -value - _dot(gradient, clean - x)])
    change = to_hyperplane(torch.cat([x, clean]), torch.cat([gradient, gradient]), gap, norm)
    (of_x, of_clean), (far, far_clean) = change.chunk(2), length(change, norm).clamp(min=_TINY).chunk(2)
    alpha = spread((far / (far + far_clean)).clamp(max=alpha_max))
    return ((1 - alpha) * (x + eta * of_x) + alpha * (clean + eta * of_clean)).clamp(0, 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
