"""SmoothGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.mean_gradient import mean_gradient
from pytest_cnnaudit.lenses.scores import plain


def smooth_grad(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    copies: int = 50,
    noise_level: float = 0.15,
    noise: Tensor | None = None,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """The mean of ∂ logit[target] / ∂ image over noisy copies x + 𝒩(0, σ²) of the image.

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", section 3; 50 copies and a noise level of 10% to
    20% are what section 3.2 recommends. Noisy pixels are not clipped to [0, 1]. Costs `copies` forward and backward
    passes a sample.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        copies: n of the paper.
        noise_level: σ over the range of the image's values, max x − min x.
        noise: copies×N×C×H×W, to add in place of what is drawn.
        seeds: N integers that the noise of each sample follows from; 0, 1, 2, … where None.
        at_once: images in a pass of the model; N where None.

    Returns:
        Signed attributions, N×C×H×W.

    Raises:
        AuditError: a setting is out of range, the noise does not fit, or gradients do not lead to the images.
    """
    if copies < 1 or noise_level < 0:
        raise AuditError(f"smooth_grad was given copies={copies}, noise_level={noise_level}; it needs ≥ 1 and ≥ 0.")
    if noise is not None and noise.shape[1:] != images.shape:
        raise AuditError(
            f"The noise of shape {tuple(noise.shape)} does not fit images of shape {tuple(images.shape)}; give "
            f"(copies, {', '.join(map(str, images.shape))})."
        )
    copies = copies if noise is None else len(noise)
    images = plain(images)
    drawn_from = (torch.arange(len(images)) if seeds is None else seeds).to(images.device)
    sigma = noise_level * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def points(samples: slice, versions: range) -> Tensor:
        if noise is not None:
            return images[samples] + noise[versions.start : versions.stop, samples]
        clean = images[samples]
        return clean + sigma[samples] * torch.stack([_normal(drawn_from[samples], each, clean) for each in versions])

    return mean_gradient(model, targets, points, images.new_full((copies,), 1 / copies), at_once)


def _normal(seeds: Tensor, step: int, like: Tensor) -> Tensor:
    """Standard normal numbers, as many as in `like`, that follow from the seed of each sample and the step.

    By the inverse of the normal distribution, at uniform numbers in the middles of 2²⁴ intervals: neither end is met.
    """
    uniform = draw(seeds, torch.full_like(seeds, step), like[0].numel())
    return (math.sqrt(2) * torch.erfinv(2 * uniform - 1 + 2**-24)).view_as(like).to(like.dtype)
