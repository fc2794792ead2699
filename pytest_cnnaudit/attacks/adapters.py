"""Attack objects of foolbox and torchattacks, as callables that a cascade takes."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getdoc
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.attacks.norms import Norm, length, spread
from pytest_cnnaudit.errors import AuditError


def adapted(attack: object) -> Callable[..., Tensor] | None:
    """``(model, images, labels, *, norm, eps, targeted) -> images`` for an attack object of a known library, else None.

    Without `eps` it looks for the smallest perturbation, where it is made for that.

    Objects are known by the names of their classes' bases, so that no library is imported to look for one.
    """
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(attack).__mro__}
    if "foolbox.attacks.base.Attack" in bases:
        run, name = _foolbox, f"foolbox {type(attack).__name__}"
    elif "torchattacks.attack.Attack" in bases:
        run, name = _torchattacks, f"torchattacks {type(attack).__name__}"
    else:
        return None

    def call(
        model: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        *,
        norm: Norm,
        eps: float | None = None,
        targeted: bool = False,
    ) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of theirs, about what is no business of the suite's
            result = run(attack, name, _View(model), images, labels, norm, eps, targeted)
        return result.detach().clamp(0, 1)  # some round to −1e-9

    call.__name__ = name
    return call


class _View(nn.Module):
    """The model as a module without parts: whoever moves it, trains it or sets its mode does so to this shell alone."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.__dict__["model"] = model  # not a submodule
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        seen = images.view_as(images)
        if seen.requires_grad:  # they `view` gradients, which come in the order of the model's maps,
            seen.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]
        logits: Tensor = self.__dict__["model"](seen)
        return logits.to(images.dtype)  # and write logits among images


def _keeps_to_eps(name: str) -> str:
    return (
        f"The attack {name} keeps to a radius and does not look for the smallest perturbation; use one that does, such "
        "as foolbox's DDNAttack or torchattacks' CW, or audit.attack(eps=…)."
    )


def _within(candidates: Tensor, images: Tensor, norm: Norm, eps: float) -> Tensor:
    """The candidates with ‖δ‖ ≤ eps, and the image itself in place of the others (and of those that are not finite)."""
    return candidates.where(spread(length(candidates - images, norm) <= eps), images)


# foolbox -------------------------------------------------------------------------------------------------------------


def _foolbox(
    attack: Any, name: str, view: _View, images: Tensor, labels: Tensor, norm: Norm, eps: float | None, targeted: bool
) -> Tensor:
    foolbox: Any = sys.modules["foolbox"]
    try:
        power = attack.distance.p
    except (AttributeError, ValueError) as error:  # ValueError: of an attack for any distance, made without one
        raise AuditError(
            f"The attack {name} has no distance, so it cannot be held to norm={norm!r}; if it takes one, give "
            "distance=foolbox.distances.linf, .l2, .l1 or .l0."
        ) from error
    if f"l{power}" != norm:
        raise AuditError(f"The attack {name} measures {attack.distance}, but the norm asked for is {norm!r}.")
    if targeted and any(base.__name__ == "DeepFoolAttack" for base in type(attack).__mro__):
        raise AuditError(f"The attack {name} cannot be targeted: it would leave the class for any other.")
    if eps is None and not any(base.__name__ == "MinimizationAttack" for base in type(attack).__mro__):
        raise AuditError(_keeps_to_eps(name))
    criteria = foolbox.criteria
    criterion = criteria.TargetedMisclassification(labels) if targeted else criteria.Misclassification(labels)
    model = foolbox.PyTorchModel(view, bounds=(0, 1), device=images.device)
    # It cannot clip to a ball in L0. In L1, thousands of sums x + δ, all rounded up, would leave the ball.
    radius = None if norm == "l0" or eps is None else eps * (1 - 1e-5) if norm == "l1" else eps
    try:
        found, clipped, _ = attack(model, images, criterion, epsilons=radius)
    except ValueError as error:
        if str(error) != "unsupported criterion":
            raise
        raise AuditError(f"The attack {name} does not go with targeted={targeted}.") from error
    result: Tensor = clipped if eps is None or norm != "l0" else _within(found, images, norm, eps)
    return result


# torchattacks --------------------------------------------------------------------------------------------------------


def _torchattacks(
    attack: Any, name: str, view: _View, images: Tensor, labels: Tensor, norm: Norm, eps: float | None, targeted: bool
) -> Tensor:
    parts, members = _parts(attack), _members(attack)
    for measures in filter(None, map(_measures, members)):
        if norm not in measures:
            raise AuditError(
                f"The attack {name} measures {' and '.join(measures)}, but the norm asked for is {norm!r}."
            )
    for own in filter(None, map(_eps, parts)):
        if eps is None:
            raise AuditError(_keeps_to_eps(name))
        if not math.isclose(own, eps, rel_tol=1e-6):
            raise AuditError(
                f"The attack {name} was made with eps={own:.6g}, but the eps asked for is {eps:.6g}; give the same eps "
                "to both."
            )
    bounded = all(_eps(member) is not None for member in members)
    if not bounded and members != [attack]:  # it ends with the first that fools a sample, however far away
        raise AuditError(
            f"The attack {name} holds attacks that know no eps; give its attacks one by one: attack=[…, …]."
        )
    if targeted and ("targeted" not in attack.supported_mode or _is_fab(attack)):
        raise AuditError(f"The attack {name} cannot be targeted at given classes.")
    if not targeted and any(part.attack_mode == "targeted(label)" for part in parts):
        raise AuditError(
            f"The attack {name} is in the mode 'targeted(label)', which takes the labels for targets; give "
            "targeted=True, or call its set_mode_default()."
        )
    with _lent(parts, view, images.device):
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        result: Tensor = attack(images, labels)
    return result if bounded or eps is None else _within(result, images, norm, eps)


@contextmanager
def _lent(parts: list[Any], view: _View, device: torch.device) -> Iterator[None]:
    """Within: the attack and those inside it attack `view` on `device`, which normalises itself. After: as before."""
    before = [(vars(part), {**vars(part), "_attacks": part._attacks.copy()}) for part in parts]
    try:
        for part in parts:
            vars(part).update(model=view, device=device, normalization_used=None, _normalization_applied=None)
            if isinstance(getattr(part, "seed", None), float):  # the time of day, where AutoAttack was given no seed
                part.seed = torch.initial_seed()
        yield
    finally:
        for state, values in before:
            state.clear()
            state.update(values)


def _parts(attack: Any) -> list[Any]:
    """The attack and all those that it uses, directly or not."""
    return [attack, *(part for inner in attack._attacks.values() for part in _parts(inner))]


def _members(attack: Any) -> list[Any]:
    """The attacks that a MultiAttack was made of, or the attack itself."""
    if not hasattr(attack, "attacks"):
        return [attack]
    return [member for inner in attack.attacks for member in _members(inner)]


def _eps(attack: Any) -> float | None:
    """The radius that the attack keeps to; a minimum-norm attack has none."""
    own = getattr(attack, "eps", getattr(attack, "max_epsilon", None))
    return None if own is None else float(own)


def _measures(attack: Any) -> list[str]:
    """The norms that the attack is for: its setting, or what its documentation says under "Distance Measure"."""
    said = getattr(attack, "norm", None) or re.findall(r"Distance Measure *: *(.*)", getdoc(type(attack)) or "")
    return [each.lower() for each in re.findall(r"L(?:inf|\d)", str(said))]


def _is_fab(attack: Any) -> bool:
    """FAB says that it can be targeted by label, but then takes every sample for fooled before it starts."""
    return any(base.__name__ == "FAB" for base in type(attack).__mro__)
