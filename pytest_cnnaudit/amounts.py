"""Differences and thresholds as people read them."""

from __future__ import annotations


def rounded(number: float, unit: str) -> str:
    """A difference or a threshold for people, with its unit."""
    return f"{float(f'{number:.2g}' if abs(number) < 1 else f'{number:.4g}'):g}{f' {unit}' if unit else ''}"


def signed(step: float, unit: str) -> str:
    """A change with its sign.

    >>> signed(0.035, ""), signed(-120, "px"), signed(0, "")
    ('+0.035', '−120 px', '0')
    """
    return f"{'+' if step > 0 else '−' if step < 0 else ''}{rounded(abs(step), unit)}"
