"""The features of an image: one vector, of what a layer returns or of what goes into the classifier."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.tap import check_runs_once, tap
from pytest_cnnaudit.model import BorrowedModel
from pytest_cnnaudit.model.rounding import in_full


def last_linear(model: BorrowedModel, images: Tensor) -> str | None:
    """The name of the last `nn.Linear` in a forward pass that gets a vector an image, if it ends the network.

    None where a layer after it returns maps again (it then weighs channels, as in squeeze-and-excitation), and where
    there is none: the classifier is a convolution, as in SqueezeNet.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W, to send through it (one forward pass).
    """
    last: list[str] = []

    def watch(name: str, part: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def after(_: nn.Module, __: Any, returned: Any) -> None:
            if not isinstance(returned, Tensor):
                return
            if returned.ndim == 4:
                last.clear()
            elif isinstance(part, nn.Linear) and returned.ndim == 2 and len(returned) == len(images):
                last.append(name)

        return part.register_forward_hook(after)

    handles = [watch(name, part) for name, part in model.module.named_modules()]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    if last:
        check_runs_once(last.count(last[-1]), last[-1])
    return last[-1] if last else None


def features_from(model: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Module, name: str = "") -> Tensor:
    """What the layer returns, N×c: maps N×c×h×w are averaged over their positions, vectors are taken as they are.

    One forward pass, no further than the layer.

    Raises:
        AuditError: the layer does not run, or returns no maps N×c×h×w or vectors N×c.
    """
    found: list[Tensor] = []
    tap(model, images, {name: layer}, lambda _, maps: found.append(_averaged(maps)))
    return found[0]


def features_into(model: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Module, name: str = "") -> Tensor:
    """What goes into the layer, N×D. One forward pass, which ends there.

    Krizhevsky et al. 2012, "ImageNet Classification with Deep CNNs", section 6.1, take the 4096 values of the last
    hidden layer: what goes into the classifier.

    Raises:
        AuditError: the layer does not run, or gets something else than vectors N×D.
    """
    found: list[Tensor] = []

    def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        vectors = given[0] if given else named["input"]
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise AuditError(
                f"The layer {name!r} is given {tuple(vectors.shape)} for {len(images)} images, not one vector each; "
                "name a layer with layer=."
            )
        found.append(_averaged(vectors[:, :, None, None]))
        raise _Arrived

    handle = layer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with torch.no_grad(), suppress(_Arrived):
            model(images)
    finally:
        handle.remove()
    check_runs_once(len(found), name)
    return found[0]


class _Arrived(BaseException):  # not an Exception: a model may catch those
    """Leaves the forward pass."""


def _averaged(maps: Tensor) -> Tensor:
    """A copy: what follows in the model may change the maps in place. NumPy knows no bfloat16."""
    return in_full(maps.mean((2, 3)))
