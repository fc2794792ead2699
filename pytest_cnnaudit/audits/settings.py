"""How attacks were run, in words: for the settings of a measurement and for its story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_cnnaudit.attacks.cascade import AttackChoice, Auto
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.errors import AuditError


def check_auto(auto: str, attack: AttackChoice) -> None:
    """Raise an `AuditError` for an `auto` that would be passed over."""
    if auto != "fast" and attack != "auto":
        raise AuditError(f"auto={auto!r} goes with attack='auto', but attack={attack!r} was given.")


def described(attack: AttackChoice, names: Sequence[str], auto: Auto = "fast") -> str:
    """The attacks by name; where they were chosen by ``"auto"``, with that.

    >>> described("pgd", ["pgd"]), described("auto", ["pgd", "nearest"]), described("auto", ["square"], "standard")
    ('pgd', 'auto (pgd, nearest)', 'auto standard (square)')
    """
    listed = ", ".join(names)
    return listed if attack != "auto" else f"auto ({listed})" if auto == "fast" else f"auto {auto} ({listed})"


def run_settings(engine: Engine, options: Mapping[str, Any]) -> dict[str, str]:
    """The seed, the precision of the attacks' passes where it is not the usual one, and the attacks' own options."""
    precision = {} if engine.precision == "float32" else {"precision": engine.precision}
    return {"seed": str(engine.seed), **precision, **{key: str(value) for key, value in options.items()}}
