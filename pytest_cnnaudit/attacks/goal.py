"""What an attack wants: another class than the label, or one class in particular."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def reached(logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
    """Whether each sample is where the attack wants it, N bool. `labels` are the targets where `targeted`."""
    hit = logits.argmax(1) == labels
    return hit if targeted else ~hit


def ascent(logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
    """What the attack increases, N: the log-odds m against the label, or minus those against the target.

    m = log Σ_{k≠y} exp z_k − z_y, so cross-entropy is log(1 + eᵐ) and its gradient σ(m) ∇m: the same direction, and an
    attack that normalises its steps takes the same ones. But σ(m) vanishes where a model is sure of itself, and with it
    the cross-entropy's gradient in floating point; ∇m does not, so scaling the logits hides nothing.
    """
    chosen = one_hot(labels, logits.shape[1]).bool()
    odds = logits.masked_fill(chosen, -torch.inf).logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]
    return -odds if targeted else odds


def input_gradient(
    model: Callable[[Tensor], Tensor], images: Tensor, objective: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the summed `objective(logits)` for the images alone: never for the weights."""
    images = images.clone() if images.is_inference() else images.detach()
    images.requires_grad_()
    logits = model(images)
    (gradient,) = torch.autograd.grad(objective(logits).sum(), images)
    return logits.detach(), gradient
