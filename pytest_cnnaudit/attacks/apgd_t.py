"""Auto-PGD towards one class after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.apgd import HOPE, ascend
from pytest_cnnaudit.attacks.goal import dlr_targeted, others
from pytest_cnnaudit.attacks.norms import Norm, check_norm
from pytest_cnnaudit.attacks.pgd import STRIDE
from pytest_cnnaudit.errors import AuditError

Rounds = Sequence[tuple[int, int]]
"""How many targets go on, and with how many steps each."""


def apgd_t(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float,
    rounds: Rounds = ((9, 100),),
    hope: float | None = HOPE,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """APGD with the targeted DLR loss towards each of the likeliest other classes in turn (Croce & Hein 2020).

    A sample leaves as soon as it is fooled, by whichever class. AutoAttack spends the same on every target. Several
    rounds spend more on those that came closest, each from where it was (successive halving: Jamieson & Talwalkar 2016,
    "Non-stochastic best arm identification and hyperparameter optimization").

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius of the ball, in pixel units.
        rounds: (targets, steps for each) of each round; there may be fewer classes than targets.
        hope: as in `apgd`, for each target.
        seeds: N integers, the random start of each sample; 0, 1, 2, … where None.
        at_once: samples in a pass of the model; all where None.

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm, ("linf", "l2", "l1"), "APGD-T")
    if not rounds or min(min(each) for each in rounds) < 1:
        raise AuditError(f"apgd_t was given rounds={tuple(rounds)}; each is (targets, steps), both at least 1.")
    seeds = torch.arange(len(images)) if seeds is None else seeds.cpu()
    ranked = likeliest(model, images, labels, rounds[0][0], at_once=at_once)
    reached: list[Tensor | None] = [None] * ranked.shape[1]  # the points of the round before, of the samples standing
    result, standing = images.clone(), torch.arange(len(images), device=images.device)
    for number, (count, steps) in enumerate(rounds):
        values: list[Tensor] = []
        points: list[Tensor] = []
        for column in range(min(count, ranked.shape[1])):
            found, fooled, value = ascend(
                model,
                images[standing],
                labels[standing],
                ranked[:, column],
                dlr_targeted,
                norm=norm,
                eps=eps,
                steps=steps,
                hope=hope,
                targeted=False,
                seeds=seeds[standing.cpu()] + (number * len(reached) + column) * STRIDE,
                at_once=at_once,
                begin=reached[column],
            )
            result[standing] = found
            left = ~fooled
            standing, ranked = standing[left], ranked[left]
            reached = [None if each is None else each[left] for each in reached]
            values, points = ([each[left] for each in (*seen, new)] for seen, new in ((values, value), (points, found)))
            if not len(standing):
                return result
        closest = torch.stack(values, 1).argsort(1, descending=True)
        everyone = torch.arange(len(standing), device=images.device)
        ranked = ranked.gather(1, closest)
        reached = [torch.stack(points, 1)[everyone, column] for column in closest.T]
    return result


def likeliest(
    model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, count: int, *, at_once: int | None = None
) -> Tensor:
    """The `count` classes with the largest logits besides the label (all where there are fewer), N×count."""
    with torch.no_grad():
        logits = torch.cat([model(chunk) for chunk in torch.split(images, at_once or max(len(images), 1))])
    return others(logits, labels).topk(min(count, logits.shape[1] - 1), dim=1).indices
