"""A cascade of attacks: each chosen by name or given as a callable, and bound to its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pytest_cnnaudit.attacks.fgsm import fgsm
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.attacks.pgd import pgd
from pytest_cnnaudit.errors import AuditError

Attack = Callable[..., Tensor]
AttackChoice = str | Attack | Sequence[str | Attack]

ATTACKS: Mapping[str, Attack] = {"fgsm": fgsm, "pgd": pgd}

AUTO = ("fgsm", "pgd")
"""The cascade behind ``attack="auto"``: cheapest first, each next one only on the samples still standing."""

_GIVEN = {"model", "images", "labels", "norm", "eps", "targeted", "seeds"}
_ANY = "**"


@dataclass(frozen=True, slots=True)
class Bound:
    """An attack with its settings: ``run(model, images, labels, seeds) -> images``."""

    name: str
    run: Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def bind(
    choice: AttackChoice, *, norm: Norm, eps: float, targeted: bool, options: Mapping[str, Any]
) -> tuple[Bound, ...]:
    """The attacks of a cascade, in order.

    A callable is called as ``attack(model, images, labels)``; of `norm`, `eps`, `targeted` and `seeds` it gets those
    that it has a parameter for. An option goes to every attack that takes it.

    Raises:
        AuditError: there is no such attack, none takes an option, or a callable cannot be targeted.
    """
    chosen: Sequence[str | Attack]
    if choice == "auto":
        chosen = AUTO
    else:
        chosen = choice if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]
    if not chosen:
        raise AuditError("attack=[] holds no attack; give at least one, or leave it at 'auto'.")
    attacks = [(_name(each), _function(each)) for each in chosen]
    taken = [_parameters(function) for _, function in attacks]
    for option in options:
        if not any(option in each or _ANY in each for each in taken):
            known = ", ".join(sorted(set().union(*taken) - _GIVEN)) or "no options"
            raise AuditError(
                f"No attack of {', '.join(name for name, _ in attacks)} takes {option!r}; they take {known}."
            )
    for (name, _), parameters in zip(attacks, taken, strict=True):
        if targeted and "targeted" not in parameters:
            raise AuditError(f"The attack {name} has no parameter 'targeted', so it cannot be used with targeted=True.")
    settings = {"norm": norm, "eps": eps, "targeted": targeted}
    return tuple(
        _bound(name, function, parameters, settings, options)
        for (name, function), parameters in zip(attacks, taken, strict=True)
    )


def _bound(
    name: str, function: Attack, parameters: set[str], settings: Mapping[str, Any], options: Mapping[str, Any]
) -> Bound:
    arguments = {key: value for key, value in settings.items() if key in parameters}
    arguments |= {key: value for key, value in options.items() if key in parameters or _ANY in parameters}

    def run(model: Any, images: Tensor, labels: Tensor, seeds: Tensor) -> Tensor:
        drawn = {"seeds": seeds} if "seeds" in parameters else {}
        return function(model, images, labels, **arguments, **drawn)

    return Bound(name, run)


def _name(attack: str | Attack) -> str:
    return attack if isinstance(attack, str) else getattr(attack, "__name__", type(attack).__name__)


def _function(attack: str | Attack) -> Attack:
    if isinstance(attack, str):
        if attack not in ATTACKS:
            raise AuditError(
                f"There is no attack {attack!r}; use 'auto', {', '.join(map(repr, ATTACKS))} or a callable."
            )
        return ATTACKS[attack]
    if not callable(attack):
        raise AuditError(f"An attack is a name or a callable (model, images, labels) -> images, not {attack!r}.")
    return attack


def _parameters(function: Attack) -> set[str]:
    """The names of a callable's parameters, with ``"**"`` where it takes any; none where that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return set()
    return {_ANY if each.kind is each.VAR_KEYWORD else name for name, each in parameters.items()}
