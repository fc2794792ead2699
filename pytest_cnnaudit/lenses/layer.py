"""A layer's output in one forward pass, and the gradient of the class score there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.scores import differentiating, plain, slope
from pytest_cnnaudit.lenses.tap import check_runs_once
from pytest_cnnaudit.model.rounding import in_full

Reshape = Callable[[Tensor], Tensor]
"""Turns what a layer returns into maps N×c×h×w by moving entries and leaving some out, for layers that return tokens.
For a vision transformer with a class token and 14×14 patches:
``lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)``."""


def activations_at(
    model: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Module, reshape: Reshape | None = None
) -> Tensor:
    """What the layer returns in one forward pass, as maps N×c×h×w.

    Raises:
        AuditError: the layer does not run, runs more than once, or returns no maps.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        seen = _cut(model, plain(images), layer)[0]
        return _maps(seen, reshape)


def gradients_at(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    layer: nn.Module,
    reshape: Reshape | None = None,
) -> tuple[Tensor, Tensor]:
    """What the layer returns, and ∂ logit[target] / ∂ of it; both N×c×h×w.

    One forward pass; the backward pass ends at the layer, because its output is cut off from what is below it. Several
    methods that look at one layer can share both.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        layer: a module inside the model that runs once.
        reshape: for layers that return something else than maps.

    Raises:
        AuditError: the layer does not run, runs more than once, or returns no maps, or the scores do not depend on it.
    """
    with differentiating():
        seen, logits = _cut(model, plain(images), layer)
        found = slope(logits, targets, seen, "the layer")
        maps, gradients = _maps(seen.detach(), reshape), _maps(found, reshape)
    if reshape is not None and found.any() and not gradients.any():
        raise AuditError(
            "The class scores do not depend on what reshape= keeps of this layer: after a transformer's last block the "
            "class token alone counts. Name a layer before it, such as that block's first normalisation."
        )
    return maps, gradients


def _cut(model: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The layer's output, cut off from what is below, and the logits computed from it."""
    seen: list[Tensor] = []

    def cut(returned: Any) -> Tensor:
        if seen:
            raise AuditError("The layer runs more than once in a forward pass; name one that runs once.")
        if not isinstance(returned, Tensor):
            raise AuditError(
                f"The layer returns a {type(returned).__name__}; name one (or one inside it) that returns a tensor."
            )
        seen.append(returned.detach().requires_grad_(torch.is_grad_enabled()))
        return seen[0].clone()  # what follows may change it in place (an in-place ReLU, `out += identity`)

    with _after(layer, cut):
        logits = model(images)
    check_runs_once(len(seen))
    return seen[0], logits


@contextmanager
def _after(layer: nn.Module, change: Callable[[Any], Tensor]) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda _module, _inputs, returned: change(returned))
    try:
        yield
    finally:
        handle.remove()


def _maps(returned: Tensor, reshape: Reshape | None) -> Tensor:
    maps = returned if reshape is None else reshape(returned)
    if maps.ndim == 4 and len(maps) == len(returned):
        return in_full(maps)
    if reshape is not None:
        raise AuditError(f"reshape= turned {tuple(returned.shape)} into {tuple(maps.shape)}; it must be N×c×h×w.")
    tokens = (
        " (tokens N×T×D?). If they have places in the image, give reshape=, which turns them into maps: for a "
        "transformer, lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)"
    )
    raise AuditError(
        f"This method needs a layer that returns a map N×C×H×W; this one returns {tuple(returned.shape)}"
        f"{tokens if maps.ndim == 3 else ''}."
    )
