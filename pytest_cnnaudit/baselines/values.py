"""Per-sample values as short text, and the statistics that make a figure of them.

A statistic has a name: ``"share"``, ``"mean"``, ``"mean over groups of 4"`` (the mean, where so many values after each
other depend on each other), ``"median"`` (of an even number, the middle of two) or ``"quantile 0.05"`` (always one of
the values). NaN stands for a sample that has no value: it does not count.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""One value a sample: bool or float64."""

DIGITS = 4
"""Significant digits that are kept. Both sides of a comparison are rounded: what has not changed differs nowhere."""

_STATISTIC = re.compile(r"share|mean|median|mean over groups of (?P<group>[1-9]\d*)|quantile (?P<q>0\.\d*[1-9]\d*|1)")


def rounded(value: float) -> float:
    """A number with four significant digits.

    >>> rounded(0.0123456), rounded(float("inf")), rounded(-0.0)
    (0.01235, inf, 0.0)
    """
    return float(_written(value))


def pack_values(values: Values) -> str:
    """One value a sample, in order, as text: bools as hex digits, the first sample the highest bit, or numbers.

    >>> pack_values(np.array([True, False, True])), pack_values(np.array([0.0123456, np.inf, 0]))
    ('a0', '0.01235 inf 0')
    """
    if values.dtype == bool:
        return np.packbits(values).tobytes().hex()
    return " ".join(map(_written, values.astype(np.float64).tolist()))


def unpack_values(text: str, statistic: str, n: int) -> Values:
    """The values of a text by `pack_values`: bool for a share, else float64.

    Args:
        text: the text.
        statistic: what the figure is of these values.
        n: how many samples have one.

    Raises:
        ValueError: the text is not that of `n` values; says what is wrong.
    """
    if statistic == "share":
        return _bits(text, n)
    try:
        values = np.array([float(word) for word in text.split()], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"something that is no number: {error}") from None
    counted = int((~np.isnan(values)).sum())
    if counted != n:
        raise ValueError(f"{counted} numbers for {n} samples")
    return values


def is_statistic(name: str) -> bool:
    """Whether there is a statistic of this name."""
    return _STATISTIC.fullmatch(name) is not None


def group_size(statistic: str) -> int:
    """How many values after each other depend on each other."""
    return int(_parts(statistic)["group"] or 1)


def compute(statistic: str, values: Values) -> Any:
    """A statistic along the last axis of values without NaN: a number, or an array of one axis less.

    >>> float(compute("quantile 0.5", np.array([3.0, 1.0, np.inf, 2.0]))), float(compute("share", np.array([True])))
    (2.0, 1.0)
    """
    from pytest_cnnaudit.statistics import rank  # which loads scipy

    parts, n = _parts(statistic), values.shape[-1]
    if not n:
        return np.full(values.shape[:-1], np.nan)[()]
    if parts["q"]:
        place = rank(float(parts["q"]), n) - 1
        return np.partition(values, place)[..., place]
    return np.median(values, axis=-1) if statistic == "median" else np.mean(values, axis=-1)


def _parts(statistic: str) -> dict[str, str | None]:
    found = _STATISTIC.fullmatch(statistic)
    if found is None:
        raise ValueError(f"There is no statistic {statistic!r}.")
    return found.groupdict()


def _written(value: float) -> str:
    return f"{value + 0.0:.{DIGITS}g}"  # + 0.0 makes −0 a 0


def _bits(text: str, n: int) -> Values:
    if len(text) != 2 * ((n + 7) // 8):
        raise ValueError(f"{len(text)} hex digits, where {n} samples have {2 * ((n + 7) // 8)}")
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        raise ValueError("something that is no hex digit") from None
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8)).astype(bool)
    if len(packed) * 2 != len(text) or bits[n:].any():
        raise ValueError(f"bits beyond those of its {n} samples")
    return bits[:n]
