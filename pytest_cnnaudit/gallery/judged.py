"""A metric's record beside a threshold: what was compared, by how much it was missed, and whether chance decided."""

from __future__ import annotations

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


def rounded(number: float, unit: str) -> str:
    """A difference or a threshold for people, with its unit."""
    return f"{float(f'{number:.2g}' if abs(number) < 1 else f'{number:.4g}'):g}{f' {unit}' if unit else ''}"
