"""Probes of a model's passes: what it does in forward, what comes back, and a version that attacks survive."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.goal import input_gradient

Model = Callable[[Tensor], Tensor]

_SAME = 1e-4  # of the largest logit: passes that differ by less differ by rounding (as AutoAttack's flag has it)
_SUM = 1e-3  # probabilities add up to 1 within this, in half precision too


def optimising(model: Model, images: Tensor) -> tuple[Tensor, bool]:
    """Logits N×K, and whether the model differentiates anything on its way to them, although nobody asked it to.

    A backward pass unpacks what its forward pass has saved, and the hooks see that: in this thread, only within, and
    without a patch to torch.
    """
    unpacked = False

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal unpacked
        unpacked = True
        return tensor

    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        logits = model(images)
    return logits, unpacked


def answers_twice(model: Model, images: Tensor, logits: Tensor) -> Tensor:
    """Whether a second pass gives each sample other logits than the first (`logits`, N×K) did, N bool.

    The samples come in reverse: a model that seeds itself anew in every pass draws the same again, but for others.
    """
    with torch.no_grad():
        again = model(images.flip(0)).flip(0)
    return (logits - again).abs().amax(1) > _SAME * logits.abs().amax(1)


def probabilities(logits: Tensor) -> Tensor:
    """Whether each sample's outputs are a probability distribution already, N bool."""
    return (logits >= 0).all(1) & ((logits.sum(1) - 1).abs() <= _SUM)


def without_gradient(model: Model, images: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether the input gradient of each sample is zero everywhere, or not finite somewhere, N bool."""
    gradient = input_gradient(_connected(model), images, objective)[2].flatten(1)
    return (gradient == 0).all(1) | ~gradient.isfinite().all(1)


def differentiable(model: Model) -> Model:
    """The same logits, with gradients that an attack survives: zero where they are missing, NaN or infinite."""
    connected = _connected(model)

    def finite(images: Tensor) -> Tensor:
        if images.requires_grad:
            images = images.clone()
            images.register_hook(lambda gradient: gradient.nan_to_num(0, 0, 0))  # type: ignore[no-untyped-call]
        return connected(images)

    return finite


def _connected(model: Model) -> Model:
    """The same logits; where the model has cut itself off from its input, the gradient is zero instead of an error."""
    return lambda images: model(images) + 0 * images.flatten(1).sum(1, keepdim=True)
