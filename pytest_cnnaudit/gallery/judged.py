"""A metric's record beside a threshold, or beside an earlier one: how far off, and whether chance may have decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def held(metric: dict[str, Any], limit: dict[str, Any]) -> float:
    """The number that was compared: the value, or an end of its interval."""
    ends = metric["ci95"] or [None, None]
    end = {"lower end": ends[0], "upper end": ends[1]}.get(limit["on"])
    return float(metric["value"] if end is None else end)


def is_close(metric: dict[str, Any], limit: dict[str, Any]) -> bool:
    """Whether the interval of a metric holds the threshold: more samples could turn the verdict."""
    low, high = metric["ci95"] or [None, None]
    return not limit["on"] and low is not None and high is not None and low <= limit["value"] <= high


def distance(judged: tuple[dict[str, Any], dict[str, Any]]) -> float:
    """How far from the threshold, in widths of the interval where there is one, else as a share of the threshold."""
    metric, limit = judged
    low, high = metric["ci95"] or [None, None]
    width = high - low if None not in (low, high) else 0
    return abs(held(metric, limit) - float(limit["value"])) / float(width or abs(limit["value"]) or 1)


def may_be_chance(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the 95% interval of the difference of two values holds zero.

    Its ends follow from those of the values' own intervals (Newcombe 1998, method 10): with d = new − old, d is beyond
    chance if |d| > √((new − own end towards old)² + (old − its end towards new)²). A value without an interval is
    taken as certain; an open end reaches everywhere. The page judges in the same way.
    """
    change = float(new["value"] - old["value"])
    own, other = (0, 1) if change > 0 else (1, 0)
    return abs(change) <= math.hypot(_reach(new, own), _reach(old, other))


def _reach(metric: Mapping[str, Any], end: int) -> float:
    if metric["ci95"] is None:
        return 0.0
    return math.inf if metric["ci95"][end] is None else abs(metric["ci95"][end] - metric["value"])


def rounded(number: float, unit: str) -> str:
    """A difference or a threshold for people, with its unit."""
    return f"{float(f'{number:.2g}' if abs(number) < 1 else f'{number:.4g}'):g}{f' {unit}' if unit else ''}"
