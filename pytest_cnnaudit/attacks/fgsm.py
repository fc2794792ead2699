"""The fast gradient sign method: one step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pytest_cnnaudit.attacks.goal import ascent, input_gradient
from pytest_cnnaudit.attacks.norms import Norm, check_norm, steepest


def fgsm(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "linf",
    eps: float,
    targeted: bool = False,
) -> Tensor:
    """One steepest step of length `eps`: x' = clip(x + eps · sign(∇ₓ loss)).

    Goodfellow, Shlens & Szegedy 2015, "Explaining and Harnessing Adversarial Examples", equation in section 4; with
    ``norm="l2"`` the step is the gradient's direction. Costs one forward and one backward pass a sample.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W in [0, 1].
        labels: N; the classes to reach where `targeted`.
        norm: ``"linf"`` or ``"l2"``.
        eps: length of the step, in pixel units.
        targeted: move towards `labels` instead of away.

    Returns:
        Images N×C×H×W in [0, 1] within `eps` of the given ones, fooling or not.
    """
    check_norm(norm, ("linf", "l2"), "FGSM")
    _, _, gradient = input_gradient(model, images, lambda logits: ascent(logits, labels, targeted=targeted))
    return (images + eps * steepest(gradient, norm)).clamp(0, 1)
