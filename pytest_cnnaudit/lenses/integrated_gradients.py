"""Integrated gradients: what each pixel adds to the score on the way from a baseline to the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.baseline import Baseline, baseline_of
from pytest_cnnaudit.lenses.mean_gradient import mean_gradient
from pytest_cnnaudit.lenses.scores import plain

Rule = Literal["left", "middle", "right", "gauss_legendre"]


def integrated_gradients(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    baseline: Baseline = 0.0,
    steps: int = 50,
    rule: Rule = "middle",
    at_once: int | None = None,
) -> Tensor:
    """(x − x′) ⊙ ∫₀¹ ∂ logit[target] / ∂ x at x′ + α (x − x′) dα, with the baseline x′.

    Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1; the integral is a sum over
    `steps` points, equation 3 being the rule ``"right"``. Completeness (proposition 1): the attributions sum to the
    score of the image less that of the baseline, up to the error of the rule, for which ``"middle"`` needs the fewest
    steps. Costs `steps` forward and backward passes a sample.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        baseline: black where 0. A pixel like its baseline has no part in the score.
        steps: m of the paper.
        rule: where in its interval each point lies; ``"gauss_legendre"`` chooses points and weights for smooth scores.
        at_once: images in a pass of the model; N where None.

    Returns:
        Signed attributions, N×C×H×W.

    Raises:
        AuditError: a setting is not possible, the baseline does not fit, or gradients do not lead to the images.
    """
    if steps < 1 or rule not in get_args(Rule):
        raise AuditError(
            f"integrated_gradients was given steps={steps} and rule={rule!r}; it needs steps ≥ 1 and one of "
            f"{', '.join(map(repr, get_args(Rule)))}."
        )
    images = plain(images)
    start = baseline_of(baseline, images)
    way = images - start
    alphas, weights = (torch.tensor(each, dtype=images.dtype, device=images.device) for each in _rule(steps, rule))

    def points(samples: slice, versions: range) -> Tensor:
        alpha = alphas[versions.start : versions.stop, None, None, None, None]
        return torch.addcmul(start[samples], alpha, way[samples])

    return way * mean_gradient(model, targets, points, weights, at_once)


def _rule(steps: int, rule: Rule) -> tuple[list[float], list[float]]:
    """The points in [0, 1] and their weights, which sum to 1."""
    if rule == "gauss_legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)  # on [−1, 1]
        return ((1 + points) / 2).tolist(), (weights / 2).tolist()
    offset = {"left": 0.0, "middle": 0.5, "right": 1.0}[rule]
    return [(step + offset) / steps for step in range(steps)], [1 / steps] * steps
