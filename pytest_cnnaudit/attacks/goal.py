"""What an attack wants: another class than the label, or one class in particular."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def reached(logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
    """Whether each sample is where the attack wants it, N bool. `labels` are the targets where `targeted`."""
    hit = logits.argmax(1) == labels
    return hit if targeted else ~hit


def ascent(logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
    """What the attack increases, N: cross-entropy against the label, or minus cross-entropy to the target."""
    loss = cross_entropy(logits, labels, reduction="none")
    return -loss if targeted else loss


def input_gradient(
    model: Callable[[Tensor], Tensor], images: Tensor, objective: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the summed `objective(logits)` for the images alone: never for the weights."""
    images = images.clone() if images.is_inference() else images.detach()
    images.requires_grad_()
    logits = model(images)
    (gradient,) = torch.autograd.grad(objective(logits).sum(), images)
    return logits.detach(), gradient
