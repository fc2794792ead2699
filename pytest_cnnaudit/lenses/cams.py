"""Class activation maps: the channels of a layer, weighted by what they do for a class.

Several of them on one layer share one forward pass, and the backward pass above the layer: `class_activation_maps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.layer import Reshape, activations_at, gradients_at


def class_activation_maps(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    methods: Sequence[str] = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam"),
    reshape: Reshape | None = None,
) -> dict[str, Tensor]:
    """The maps of several methods on one layer, for the price of one.

    One forward pass and one backward pass that ends at the layer; Eigen-CAM alone needs no backward pass. Maps are
    upsampled bilinearly to the image.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        layer: a module inside the model that runs once and returns maps N×c×h×w: the last one with a map, usually.
        methods: of ``"grad_cam"``, ``"grad_cam_plus_plus"``, ``"layer_cam"`` and ``"eigen_cam"``.
        reshape: for a layer that returns something else, such as tokens.

    Returns:
        By method: maps N×1×H×W, 0 and above.

    Raises:
        AuditError: the layer does not run, runs more than once, or returns no maps, or the scores do not depend on it.
    """
    unknown = [method for method in methods if method not in _FORMULAS]
    if unknown:
        raise AuditError(f"There is no class activation map {unknown[0]!r}; use {', '.join(map(repr, _FORMULAS))}.")
    if set(methods) <= {"eigen_cam"}:
        activations = activations_at(model, images, layer, reshape)
        gradients = activations  # not looked at
    else:
        activations, gradients = gradients_at(model, images, targets, layer, reshape)
    size = (images.shape[2], images.shape[3])
    return {method: upsampled(_FORMULAS[method](activations, gradients), size) for method in methods}


def grad_cam(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    reshape: Reshape | None = None,
) -> Tensor:
    """ReLU(Σₖ αₖ Aᵏ) with αₖ = mean over positions of ∂ logit[target] / ∂ Aᵏ.

    Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2. Arguments, map and errors as in `class_activation_maps`.
    """
    return _one("grad_cam", model, images, targets, layer, reshape)


def grad_cam_plus_plus(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    reshape: Reshape | None = None,
) -> Tensor:
    """ReLU(Σₖ wₖ Aᵏ) with wₖ = Σᵢⱼ αᵢⱼ ReLU(∂Y/∂Aᵢⱼ), where each position has a weight α of its own.

    Chattopadhay et al. 2018, "Grad-CAM++", section 3, with their Y = exp(logit[target]): for g = ∂ logit / ∂ A,
    αᵢⱼ = gᵢⱼ² / (2 gᵢⱼ² + Σₐᵦ Aₐᵦ gᵢⱼ³), equation 19. The factor exp(logit) of ∂Y/∂A is left out: it scales a
    sample's map as a whole, and may overflow. Arguments, map and errors as in `class_activation_maps`.
    """
    return _one("grad_cam_plus_plus", model, images, targets, layer, reshape)


def layer_cam(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    reshape: Reshape | None = None,
) -> Tensor:
    """ReLU(Σₖ ReLU(∂ logit[target] / ∂ Aᵏ) ⊙ Aᵏ): each position has its own weight, so that early layers serve as well.

    Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", equations 6 to 8.
    Arguments, map and errors as in `class_activation_maps`.
    """
    return _one("layer_cam", model, images, targets, layer, reshape)


def eigen_cam(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    reshape: Reshape | None = None,
) -> Tensor:
    """The activations projected on their first principal direction: what the layer sees most of, for whatever class.

    Muhammad & Yeasin 2020, "Eigen-CAM", section 3: A = U Σ Vᵀ with the positions of one image as rows and the
    channels as columns, not centred, and the map is A v₁. A singular vector's sign is arbitrary: the map's largest
    magnitude is made positive. One forward pass, no gradient; the target plays no part. Arguments, map and errors as in
    `class_activation_maps`.
    """
    return _one("eigen_cam", model, images, targets, layer, reshape)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps N×1×h×w as N×1×H×W, bilinearly, with the corners' pixels (not their centres) aligned."""
    if maps.shape[2:] == size:
        return maps
    larger: Tensor = interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return larger


def _one(
    method: str,
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    layer: nn.Module,
    reshape: Reshape | None,
) -> Tensor:
    return class_activation_maps(model, images, targets, layer=layer, methods=(method,), reshape=reshape)[method]


def _grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    weights = gradients.mean((2, 3))  # α, equation 1
    return _weighted(weights, activations)  # equation 2


def _grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    # g² cancels in α = 1 / (2 + Σ A g), so that small gradients do not vanish beside a constant that keeps the
    # denominator from 0. It can be 0 before a ReLU only, where activations are negative.
    positive = gradients.relu()
    denominators = (activations.sum((2, 3), keepdim=True) * positive).add_(2)
    denominators.masked_fill_(denominators == 0, torch.inf)
    return _weighted((positive / denominators).sum((2, 3)), activations)


def _layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.relu() * activations).sum(1, keepdim=True).relu()


def _weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """ReLU(Σₖ wₖ Aᵏ), N×1×h×w of N×c and N×c×h×w."""
    return torch.einsum("nc,nchw->nhw", weights, activations)[:, None].relu()


def _eigen_cam(activations: Tensor, _gradients: Tensor) -> Tensor:
    # A v₁ from the smaller of A Aᵀ and Aᵀ A, which is several times faster than singular values.
    rows = activations.flatten(2).transpose(1, 2)
    wide = rows.shape[1] <= rows.shape[2]
    values, vectors = torch.linalg.eigh(rows @ rows.mT if wide else rows.mT @ rows)
    first = vectors[:, :, -1:]
    projected = first * values[:, -1:, None].clamp(min=0).sqrt() if wide else rows @ first
    maps: Tensor = projected.view(-1, 1, *activations.shape[2:])
    largest = maps.flatten(1).gather(1, maps.flatten(1).abs().argmax(1, keepdim=True))
    return (maps * largest.sign()[:, :, None, None]).relu()


_FORMULAS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam": _grad_cam,
    "grad_cam_plus_plus": _grad_cam_plus_plus,
    "layer_cam": _layer_cam,
    "eigen_cam": _eigen_cam,
}
