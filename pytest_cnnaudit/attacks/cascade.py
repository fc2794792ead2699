"""A cascade of attacks: each chosen by name or given as a callable, and bound to its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pytest_cnnaudit.attacks.adapters import adapted
from pytest_cnnaudit.attacks.apgd import apgd
from pytest_cnnaudit.attacks.apgd_t import apgd_t
from pytest_cnnaudit.attacks.carlini_wagner import carlini_wagner
from pytest_cnnaudit.attacks.ddn import ddn
from pytest_cnnaudit.attacks.deepfool import deepfool
from pytest_cnnaudit.attacks.fab import fab_t
from pytest_cnnaudit.attacks.fgsm import fgsm
from pytest_cnnaudit.attacks.fmn import fmn
from pytest_cnnaudit.attacks.nearest import nearest
from pytest_cnnaudit.attacks.norms import Norm, length
from pytest_cnnaudit.attacks.pgd import pgd
from pytest_cnnaudit.attacks.sigma_zero import sigma_zero
from pytest_cnnaudit.attacks.square import square
from pytest_cnnaudit.errors import AuditError

Attack = Callable[..., Tensor]
AttackChoice = str | Attack | Sequence[str | Attack]
Auto = Literal["fast", "standard"]

WITHIN: Mapping[str, Attack] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd-ce": partial(apgd, loss="ce"),
    "apgd-dlr": partial(apgd, loss="dlr"),
    "apgd-t": apgd_t,
    "fab-t": fab_t,
    "square": square,
}
"""Attacks that look for the most confident mistake within eps."""

SMALLEST: Mapping[str, Attack] = {
    "nearest": nearest,
    "deepfool": deepfool,
    "ddn": ddn,
    "fmn": fmn,
    "carlini-wagner": carlini_wagner,
    "sigma-zero": sigma_zero,
    "fab-t": fab_t,
}
"""Attacks that look for the smallest perturbation that fools."""

ATTACKS: Mapping[str, Attack] = {**WITHIN, **SMALLEST}

_FIRST: Sequence[tuple[str, dict[str, Any]]] = (("pgd", {"steps": 10}), ("nearest", {"steps": 40}))
_FAST = (*_FIRST, ("apgd-t", {"rounds": ((5, 5), (2, 20), (1, 60)), "hope": 100.0}))
_STANDARD = (
    *_FIRST,
    ("apgd-ce", {"steps": 100, "restarts": 2, "hope": None}),
    ("apgd-t", {"rounds": ((9, 10), (3, 30), (1, 100)), "hope": None}),
    ("fab-t", {"targets": 3, "steps": 50}),
    ("square", {"queries": 5000, "hope": 2.0}),
)
_NORMS = {"fgsm": ("linf", "l2"), "pgd": ("linf", "l2"), "square": ("linf", "l2")}

_GIVEN = {"model", "images", "labels", "norm", "eps", "targeted", "seeds", "at_once"}
_ANY = "**"


@dataclass(frozen=True, slots=True)
class Bound:
    """An attack with its settings: ``run(model, images, labels, seeds, at_once) -> images``."""

    name: str
    run: Callable[[Any, Tensor, Tensor, Tensor, int], Tensor]


def automatic(auto: str, norm: Norm, *, targeted: bool) -> Sequence[tuple[str, dict[str, Any]]]:
    """The attacks behind ``attack="auto"``, cheapest first, each next one only on the samples still standing.

    Both begin with a short PGD, which undefended models do not survive, and with `nearest`, which alone finds most of
    what there is. ``"standard"`` goes on with the four of AutoAttack (Croce & Hein 2020). It spends less than theirs
    where more is unlikely to help: APGD-T on targets that stay far, Square on samples whose margin does not shrink.
    ``"fast"`` goes on with a few steps of APGD-T. In L1 and L0 it is those that have the norm; towards a target, those
    that can aim.
    """
    if auto not in get_args(Auto):
        raise AuditError(f"There is no auto={auto!r}; use 'fast' or 'standard'.")
    if norm == "l0":
        return (("nearest", {}), ("sigma-zero", {"steps": 100 if auto == "fast" else 1000}))
    chosen = [each for each in (_FAST if auto == "fast" else _STANDARD) if norm in _NORMS.get(each[0], (norm,))]
    return [each for each in chosen if not (targeted and each[0] in ("apgd-t", "fab-t"))]


def bind(
    choice: AttackChoice,
    *,
    norm: Norm,
    eps: float | None,
    targeted: bool = False,
    auto: str = "fast",
    options: Mapping[str, Any],
) -> tuple[Bound, ...]:
    """The attacks of a cascade, in order: of `ATTACKS`, or of `SMALLEST` where `eps` is None.

    A callable is called as ``attack(model, images, labels)``; of `norm`, `eps`, `targeted`, `seeds` and `at_once` it
    gets those that it has a parameter for. An option goes to every attack that takes it. What one of `SMALLEST` returns
    counts if it lies within `eps`.

    Raises:
        AuditError: there is no such attack, none takes an option, or a callable cannot be targeted.
    """
    chosen: Sequence[tuple[str | Attack, dict[str, Any]]]
    if choice == "auto":
        chosen = [("nearest", {})] if eps is None else automatic(auto, norm, targeted=targeted)
    else:
        several = choice if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]
        chosen = [(adapted(each) or each, {}) for each in several]
    if not chosen:
        raise AuditError("attack=[] holds no attack; give at least one, or leave it at 'auto'.")
    offered = ATTACKS if eps is not None else SMALLEST
    attacks = [(_name(each), _function(each, offered), own) for each, own in chosen]
    taken = [_parameters(function) for _, function, _ in attacks]
    for option in options:
        if not any(option in each or _ANY in each for each in taken):
            known = ", ".join(sorted(set().union(*taken) - _GIVEN)) or "no options"
            raise AuditError(
                f"No attack of {', '.join(name for name, *_ in attacks)} takes {option!r}; they take {known}."
            )
    for (name, *_), parameters in zip(attacks, taken, strict=True):
        if targeted and "targeted" not in parameters:
            raise AuditError(f"The attack {name} has no parameter 'targeted', so it cannot be used with targeted=True.")
    settings = {"norm": norm, "targeted": targeted, **({} if eps is None else {"eps": eps})}
    return tuple(
        _bound(name, function, parameters, settings, {**own, **options})
        for (name, function, own), parameters in zip(attacks, taken, strict=True)
    )


def _bound(
    name: str, function: Attack, parameters: set[str], settings: Mapping[str, Any], options: Mapping[str, Any]
) -> Bound:
    arguments = {key: value for key, value in settings.items() if key in parameters}
    arguments |= {key: value for key, value in options.items() if key in parameters or _ANY in parameters}

    def run(model: Any, images: Tensor, labels: Tensor, seeds: Tensor, at_once: int) -> Tensor:
        def attacked(part: Tensor, **more: Any) -> Tensor:
            here = part.to(images.device)
            drawn = {"seeds": seeds[part]} if "seeds" in parameters else {}
            return function(model, images[here], labels[here], **arguments, **drawn, **more)

        everything = torch.arange(len(images))
        if "at_once" in parameters:
            found = attacked(everything, at_once=at_once)
        else:  # an attack that does not mind the size of its batches gets no more at a time than fits
            found = _joined([attacked(part) for part in torch.split(everything, at_once)])
        if name not in SMALLEST or "eps" not in settings:
            return found
        return _kept_within(images, found, settings["norm"], settings["eps"])

    return Bound(name, run)


def _joined(chunks: Sequence[Tensor]) -> Tensor:
    """What is no tensor of images is handed on as it is, for whoever checks the result to name it."""
    wrong = [each for each in chunks if not isinstance(each, Tensor)]
    return wrong[0] if wrong else torch.cat(list(chunks)) if len(chunks) > 1 else chunks[0]


def _kept_within(images: Tensor, found: Tensor, norm: Norm, eps: float) -> Tensor:
    """What a search for the smallest perturbation found beyond eps is no success within eps."""
    return found.where((length(found - images, norm) <= eps)[:, None, None, None], images)


def _name(attack: str | Attack) -> str:
    return attack.replace("_", "-") if isinstance(attack, str) else getattr(attack, "__name__", type(attack).__name__)


def _function(attack: str | Attack, offered: Mapping[str, Attack]) -> Attack:
    if isinstance(attack, str):
        name = attack.replace("_", "-")
        if name not in offered:
            aim = "" if name not in ATTACKS else " that looks for the smallest perturbation"
            raise AuditError(
                f"There is no attack {attack!r}{aim}; use 'auto', {', '.join(map(repr, offered))} or a callable."
            )
        return offered[name]
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
