"""A weighted sum of gradients at several points of each sample, as SmoothGrad and integrated gradients take it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.lenses.blocks import blocks
from pytest_cnnaudit.lenses.gradient import gradient


def mean_gradient(
    model: Callable[[Tensor], Tensor],
    targets: Tensor,
    points: Callable[[slice, range], Tensor],
    weights: Tensor,
    at_once: int | None,
) -> Tensor:
    """Σₛ weights[s] · ∂ logit[target] / ∂ image at the points s of each sample, N×C×H×W.

    Costs one forward and one backward pass a point, in chunks of `at_once` images (N where None), so that memory does
    not grow with the number of points.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        targets: N, the class whose score is explained.
        points: the images at some points of some samples, points×samples×C×H×W.
        weights: S.
    """
    sums: list[Tensor] = []
    for samples, versions in blocks(len(targets), len(weights), at_once):
        images = points(samples, versions)
        found = gradient(model, images.flatten(0, 1), targets[samples].repeat(len(versions)))
        weighted = torch.tensordot(weights[versions.start : versions.stop], found.view_as(images), dims=1)
        if versions.start == 0:
            sums.append(weighted)
        else:
            sums[-1] += weighted
    return torch.cat(sums)
