"""Targets of gradient ascent, as people name them: a class, a channel of a layer, or one neuron of it."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.objectives import Position
from pytest_cnnaudit.lenses.tap import check_layer
from pytest_cnnaudit.model import AuditModel, BorrowedModel


class Target(NamedTuple):
    """A class, where `layer` is None, or a channel of that layer, or the neuron at `position` in its map."""

    layer: str | None
    channel: int
    position: Position | None
    name: str


TargetLike = SupportsIndex | str | tuple[str, int] | tuple[str, int, Position] | Target
"""A class by number or name; ``("layer", channel)``; or one neuron, ``("layer", channel, (row, column))``."""


def named_targets(model: AuditModel, wanted: TargetLike | Iterable[TargetLike]) -> tuple[Target, ...]:
    """The targets: one (a number, a name, a tuple), or each of a list of them; or such as this returned, in a list.

    Raises:
        AuditError: one of them is no target, or none or twice the same are given.
    """
    several = not isinstance(wanted, str | tuple) and isinstance(wanted, Iterable) and getattr(wanted, "ndim", 1) > 0
    targets = tuple(_target(model, each) for each in (wanted if several else (wanted,)))  # type: ignore[union-attr]
    if not targets:
        raise AuditError("There is no target in the list; give a class, or a layer and its channel.")
    places, names = [target[:3] for target in targets], [target.name for target in targets]
    for target in targets:
        if places.count(target[:3]) > 1:
            raise AuditError(f"The target {target.name!r} is given twice; name each target once.")
    return tuple(  # two classes may have one name
        target._replace(name=f"{target.name} ({target.channel})") if names.count(target.name) > 1 else target
        for target in targets
    )


def check_targets(model: AuditModel, borrowed: BorrowedModel, targets: Sequence[Target], image: Tensor) -> None:
    """Raise an `AuditError` for a class, layer, channel or position that the model does not have.

    Args:
        image: one as the targets are made for, C×H×W. Costs a forward pass, and one for each layer.
    """
    with fitting(model, image[None]), torch.no_grad():
        classes = borrowed(image[None]).shape[1]
    for layer in dict.fromkeys(target.layer for target in targets):
        shape = (1, classes) if layer is None else tuple(_shape(model, borrowed, layer, image))
        for target in targets:
            if target.layer == layer:
                _check(target, shape)


def _target(model: AuditModel, wanted: object) -> Target:
    if isinstance(wanted, Target):
        return wanted
    if isinstance(wanted, str):
        number = _class_named(model, wanted)
        return Target(None, number, None, wanted)
    if isinstance(wanted, tuple):
        return _in_layer(model, wanted)
    try:
        number = operator.index(wanted)  # type: ignore[arg-type]
    except TypeError:
        raise _no_target(wanted) from None
    return Target(None, number, None, model.class_name(number))


def _in_layer(model: AuditModel, wanted: tuple[object, ...]) -> Target:
    try:
        layer, channel, *rest = wanted
        number = operator.index(channel)  # type: ignore[arg-type]
        position = _position(*rest) if rest else None
    except (TypeError, ValueError):
        raise _no_target(wanted) from None
    if not isinstance(layer, str):
        raise _no_target(wanted)
    model.layer(layer)  # which knows the closest names
    where = "" if position is None else f" at {position}"
    return Target(layer, number, position, f"{layer} channel {number}{where}")


def _position(place: object) -> Position:
    row, column = place  # type: ignore[misc]
    return operator.index(row), operator.index(column)  # type: ignore[has-type]


def _class_named(model: AuditModel, name: str) -> int:
    names = model.class_names or ()
    matching = [number for number, each in enumerate(names) if each == name]
    if len(matching) == 1:
        return matching[0]
    if matching:
        numbers = ", ".join(map(str, matching))
        raise AuditError(
            f"The target {name!r} is the name of {len(matching)} classes of {model.name!r} (numbers {numbers}); give "
            "the number of one."
        )
    if name in dict(model.module.named_modules()):
        raise AuditError(f"The target {name!r} is a layer; name one of its channels, for example ({name!r}, 0).")
    if not names:
        raise AuditError(
            f"The target {name!r} is not known: {model.name!r} has no class names. Give class_names to AuditModel, or "
            "the number of the class."
        )
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    raise AuditError(
        f"The target {name!r} is none of the {len(names)} class names of {model.name!r}. Did you mean "
        f"{' or '.join(map(repr, close))}? A layer's channel goes by ('layer', channel)."
    )


def _no_target(wanted: object) -> AuditError:
    return AuditError(
        f"{wanted!r} is not a target; give a class by number or name, a channel as ('layer', channel), a neuron as "
        "('layer', channel, (row, column)), or a list of these."
    )


def _shape(model: AuditModel, borrowed: BorrowedModel, layer: str, image: Tensor) -> torch.Size:
    try:
        return check_layer(borrowed, image[None], model.layer(layer))
    except AuditError as error:
        raise AuditError(f"Layer {layer!r}: {error}") from None


def _check(target: Target, shape: tuple[int, ...]) -> None:
    """Of a layer that returns N×C×H×W, N×C, or tokens N×T×C."""
    channels = shape[2] if len(shape) == 3 else shape[1]
    if not 0 <= target.channel < channels:
        what = "classes" if target.layer is None else f"channels in {target.layer!r}"
        raise AuditError(f"The target {target.name!r} is not there: there are {channels} {what}, numbered from 0.")
    if target.position is None:
        return
    size = shape[2:] if len(shape) == 4 else ()
    if len(size) != 2 or not all(0 <= place < side for place, side in zip(target.position, size, strict=True)):
        found = f"a map of {size[0]}×{size[1]}" if size else f"{shape}, which is no map"
        raise AuditError(
            f"The target {target.name!r} is not there: {target.layer!r} returns {found} for an image of this size; "
            "give a row and a column inside, or leave the position out."
        )
