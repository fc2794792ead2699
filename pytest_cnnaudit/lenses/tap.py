"""Tap layers: a forward pass hands over what they return, and is left as soon as the last of them has answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import BorrowedModel
from pytest_cnnaudit.model.rounding import in_full


def tap(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    layers: Mapping[str, nn.Module],
    read: Callable[[str, Tensor], None],
) -> None:
    """One forward pass without gradients, no further than the last of the layers.

    `read` must take what it needs at once: what follows may change the maps in place (an in-place ReLU,
    ``out += identity``). So nothing is copied, and the maps of many layers are never held together.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        layers: modules inside the model, by name; of one that runs several times, the first run is read.
        read: is called with a layer's name and its maps N×c×h×w; where the layer returns N×c, these are maps of a
            single position.

    Raises:
        AuditError: a layer does not run, or returns no maps.
    """
    names = {layer: name for name, layer in layers.items()}

    def hear(layer: nn.Module, returned: Any) -> None:
        read(names[layer], _maps(returned, len(images), names[layer]))

    with torch.no_grad():
        for layer in _left_after(model, images, layers.values(), hear):
            check_runs_once(0, names[layer])


def up_to(model: Callable[[Tensor], Tensor], images: Tensor, layers: Sequence[nn.Module]) -> list[Tensor]:
    """What the layers return, in their order, for gradients to follow; what comes after the last of them is spared.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K. Where it counts its passes, a backward pass from here counts.
        images: N×C×H×W.
        layers: modules inside the model that return a tensor of one entry a sample; of one that runs several times, the
            first run counts, and `check_layer` finds such layers out.

    Raises:
        AuditError: a layer does not run, or returns something else.
    """
    found: dict[nn.Module, Tensor] = {}

    def hear(layer: nn.Module, returned: Any) -> None:
        # a clone: what follows may change it in place (an in-place ReLU, `out += identity`)
        found[layer] = in_full(_entries(returned, len(images))).clone()

    for _ in _left_after(model, images, layers, hear):
        check_runs_once(0)
    last = next(reversed(found.values()))  # the backward pass goes through it, whatever else it goes through
    if isinstance(model, BorrowedModel) and last.requires_grad:
        last.register_hook(model._count_backward)  # type: ignore[no-untyped-call]
    return [found[layer] for layer in layers]


def runs(model: Callable[[Tensor], Tensor], images: Tensor, layers: Mapping[str, nn.Module]) -> Counter[str]:
    """How often each layer runs in a forward pass, a whole one."""
    counts: Counter[str] = Counter()
    names = {layer: name for name, layer in layers.items()}
    with torch.no_grad(), _listening(names, lambda layer, _: counts.update([names[layer]])):
        model(images)
    return counts


def check_layer(model: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Module) -> torch.Size:
    """The shape of what the layer returns for `images`, in one whole forward pass.

    Raises:
        AuditError: the layer does not run, or more than once, or returns no tensor of one entry a sample.
    """
    shapes: list[torch.Size] = []
    with torch.no_grad(), _listening([layer], lambda _, out: shapes.append(_entries(out, len(images)).shape)):
        model(images)
    check_runs_once(len(shapes))
    return shapes[0]


def check_runs_once(count: int, name: str = "") -> None:
    """Raise an `AuditError` for a layer that does not run in a forward pass, or more than once."""
    if count < 1:
        raise AuditError(
            f"{_the_layer(name)} did not run in the forward pass; name one that does. A compiled or traced model runs "
            "without its modules: hand over the model itself."
        )
    if count > 1:
        raise AuditError(
            f"{_the_layer(name)} runs {count} times in a forward pass, and it is not said which run is meant; name one "
            "that runs once."
        )


class _Heard(BaseException):  # not an Exception: a model may catch those
    """Leaves the forward pass."""


def _left_after(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    layers: Iterable[nn.Module],
    hear: Callable[[nn.Module, Any], None],
) -> set[nn.Module]:
    """Run until each of the layers has been heard once, and no further. Returns those that do not run."""
    left = set(layers)

    def once(layer: nn.Module, returned: Any) -> None:
        if layer in left:
            left.remove(layer)
            hear(layer, returned)
            if not left:
                raise _Heard

    with _listening(left.copy(), once), suppress(_Heard):
        model(images)
    return left


@contextmanager
def _listening(layers: Iterable[nn.Module], hear: Callable[[nn.Module, Any], None]) -> Iterator[None]:
    handles = [layer.register_forward_hook(lambda layer, _, returned: hear(layer, returned)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _maps(returned: Any, count: int, name: str) -> Tensor:
    entries = _tensor(returned, name)
    if entries.ndim not in (2, 4) or len(entries) != count or not entries.numel():
        raise AuditError(
            f"The layer {name!r} returns {tuple(entries.shape)} for {count} images; name one that returns maps "
            "N×C×H×W, or N×C."
        )
    return entries if entries.ndim == 4 else entries[:, :, None, None]


def _entries(returned: Any, count: int) -> Tensor:
    entries = _tensor(returned)
    if entries.ndim < 2 or len(entries) != count:
        raise AuditError(
            f"The layer returns {tuple(entries.shape)} for {count} images; name one that returns N×C×H×W or N×C."
        )
    return entries


def _tensor(returned: Any, name: str = "") -> Tensor:
    if not isinstance(returned, Tensor):
        raise AuditError(
            f"{_the_layer(name)} returns a {type(returned).__name__}; name one (or one inside it) that returns a "
            "tensor."
        )
    return returned


def _the_layer(name: str) -> str:
    return f"The layer {name!r}" if name else "The layer"
