"""What an attack wants: another class than the label, or one class in particular; and how far it is from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pytest_cnnaudit.errors import AuditError


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
    odds = others(logits, labels).logsumexp(1) - of(logits, labels)
    return -odds if targeted else odds


def margin(logits: Tensor, labels: Tensor, *, targeted: bool = False) -> Tensor:
    """max_{k≠y} z_k − z_y, or minus that where `targeted`: above 0 exactly where the attack has what it wants."""
    gap = others(logits, labels).amax(1) - of(logits, labels)
    return -gap if targeted else gap


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, −(z_y − max_{k≠y} z_k) / (z_π1 − z_π3): the same for logits shifted or scaled.

    Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", equation 6; π sorts the logits downwards.
    """
    _needs(logits, 3, "the DLR loss")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2) (Croce & Hein 2020, equation 7).

    With fewer than four classes there is no such ratio, and it is the difference alone.
    """
    gap = of(logits, targets) - of(logits, labels)
    if logits.shape[1] < 4:
        return gap
    top = logits.topk(4, dim=1).values
    return gap / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits with −∞ at the label, N×K."""
    return logits.masked_fill(one_hot(labels, logits.shape[1]).bool(), -torch.inf)


def of(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit of each sample's label, N."""
    return logits.gather(1, labels[:, None])[:, 0]


def input_gradient(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    enough: Callable[[Tensor], Tensor] = lambda logits: torch.zeros(len(logits), dtype=torch.bool),
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits N×K, `objective(logits)` N, and the gradient of its sum for the images alone: never for the weights.

    Where `enough(logits)` (N bool) holds for every sample, the backward pass is saved and the gradient is zero.
    """
    images = images.clone() if images.is_inference() else images.detach()
    images.requires_grad_()
    logits = model(images)
    values = objective(logits)
    if enough(logits.detach()).all():
        gradient = torch.zeros_like(images)
    else:
        (gradient,) = torch.autograd.grad(values.sum(), images)
    return logits.detach(), values.detach().to(images.dtype), gradient


def _needs(logits: Tensor, classes: int, what: str) -> None:
    if logits.shape[1] < classes:
        raise AuditError(
            f"{what[0].upper()}{what[1:]} needs {classes} classes, but the model has {logits.shape[1]}; use 'apgd-ce'."
        )
