"""Radii of perturbations: checked, and as people write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pytest_cnnaudit.attacks.norms import Norm, check_norm
from pytest_cnnaudit.errors import AuditError


def checked_radius(norm: str, eps: Any) -> float:
    """The radius `eps`, any number above 0 and finite: a plain one, NumPy's, or a tensor of no dimension.

    Raises:
        AuditError: this is no norm, or no radius.
    """
    check_norm(norm)
    try:
        size = math.nan if isinstance(eps, str | bytes) or np.ndim(eps) else float(eps)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last two: a huge integer, a complex tensor
        size = math.nan
    if not 0 < size < math.inf:
        raise AuditError(f"eps={eps!r} is not a radius; give a positive number in pixel units, for example 4 / 255.")
    return size


def checked_radii(norm: str, eps: Any) -> tuple[float, ...]:
    """The radii in `eps`, any iterable of numbers but a string, ascending and each once.

    Raises:
        AuditError: there are none, this is no norm, or one of them is no radius.
    """
    try:
        several = () if isinstance(eps, str | bytes) else tuple(eps)
    except TypeError:  # no iterable; or an array or a tensor of no dimension, which seems to be one
        several = ()
    if not several:
        raise AuditError(f"eps={eps!r} is no list of radii; give several, for example [1 / 255, 2 / 255, 4 / 255].")
    return tuple(sorted({checked_radius(norm, each) for each in several}))


def radius(eps: float, norm: Norm = "linf") -> str:
    """Radii as people write them: 4/255 in linf, plain numbers in the other norms.

    >>> radius(4 / 255), radius(0.5, "l2")
    ('4/255', '0.5')
    """
    return f"{eps * 255:.3g}/255" if norm == "linf" else f"{eps:.3g}"
