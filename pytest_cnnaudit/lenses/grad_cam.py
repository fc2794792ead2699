"""Grad-CAM: the channels of a layer, weighted by what they do for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pytest_cnnaudit.errors import AuditError


def grad_cam(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, *, layer: nn.Module) -> Tensor:
    """ReLU(Σₖ αₖ Aᵏ) with αₖ = mean over positions of ∂ logit[target] / ∂ Aᵏ.

    Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2; upsampled bilinearly to the image. One forward pass; the
    backward pass ends at the layer, because the layer's output is cut off from what is below it.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        layer: a module inside the model that runs once and returns maps N×c×h×w: the last one with a map, usually.

    Returns:
        Maps N×1×H×W, 0 and above.

    Raises:
        AuditError: the layer does not run, runs more than once, or returns no map.
    """
    seen: list[Tensor] = []

    def cut(_: nn.Module, __: Any, returned: Any) -> Tensor:
        if seen:
            raise AuditError("Grad-CAM's layer runs more than once in a forward pass; name a layer that runs once.")
        if not isinstance(returned, Tensor) or returned.ndim != 4:
            kind = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
            raise AuditError(f"Grad-CAM needs a layer that returns a map N×C×H×W; this one returns {kind}.")
        seen.append(returned.detach().requires_grad_())
        return seen[0].clone()  # what follows may change it in place (an in-place ReLU, `out += identity`)

    handle = layer.register_forward_hook(cut)
    try:
        logits = model(images)
    finally:
        handle.remove()
    if not seen:
        raise AuditError("Grad-CAM's layer did not run in the forward pass; name a layer that does.")
    activations = seen[0]
    if not logits.requires_grad:
        raise AuditError("The class scores do not depend on Grad-CAM's layer; name a layer on the way to the logits.")
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), activations)
    weights = gradients.mean((2, 3), keepdim=True)  # α, equation 1
    maps = (weights * activations.detach()).sum(1, keepdim=True).relu()  # equation 2
    return interpolate(maps, size=images.shape[2:], mode="bilinear", align_corners=False)
