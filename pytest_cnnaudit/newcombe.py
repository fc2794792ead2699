"""Whether the difference of two figures may be chance, from their intervals alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


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
