"""A record's metrics: which tell most, how far they are from a threshold, and whether a change may be chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNS = {">=": "≥", "<=": "≤"}
"""Comparisons as they are printed, where that is not as they are written."""

VERDICTS = ("worse", "not beyond chance", "within the tolerance", "better", "same")
"""In the order in which they matter."""


def metrics_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All metrics of a test."""
    return [metric for measurement in record.get("measurements", ()) for metric in measurement["metrics"]]


def judged_metrics(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that were held against a threshold."""
    return [metric for metric in metrics_of(record) if metric["thresholds"]]


def verdict_of(metric: Mapping[str, Any]) -> str:
    """One of `VERDICTS`; empty where the metric was not compared."""
    verdict = (metric.get("baseline") or {}).get("verdict")
    return verdict if verdict in VERDICTS else ""


def is_asked(metric: Mapping[str, Any]) -> bool:
    """Whether the test asked something of it: a threshold, or to be no worse than its baseline."""
    return bool(metric["thresholds"] or verdict_of(metric))


def headline_metrics(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that were held against a threshold or a baseline; where none was, the first of each measurement."""
    first = (metric for measurement in record.get("measurements", ()) for metric in measurement["metrics"][:1])
    return list(filter(is_asked, metrics_of(record))) or list(first)


def interval_of(metric: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95% interval; None where it is not known, or open at an end."""
    low, high = metric["ci95"] or (None, None)
    return None if low is None or high is None else (low, high)


def held(metric: Mapping[str, Any], limit: Mapping[str, Any]) -> float:
    """The number that was compared: the value, or an end of its interval."""
    ends = metric["ci95"] or [None, None]
    end = {"lower end": ends[0], "upper end": ends[1]}.get(limit["on"])
    return float(metric["value"] if end is None else end)


def is_close(metric: Mapping[str, Any], limit: Mapping[str, Any]) -> bool:
    """Whether the interval of a metric holds the threshold: more samples could turn the verdict."""
    interval = interval_of(metric)
    return not limit["on"] and interval is not None and interval[0] <= limit["value"] <= interval[1]


def distance(judged: tuple[Mapping[str, Any], Mapping[str, Any]]) -> float:
    """How far from the threshold, in widths of the interval where there is one, else as a share of the threshold."""
    metric, limit = judged
    interval = interval_of(metric)
    width = interval[1] - interval[0] if interval else 0
    return abs(held(metric, limit) - float(limit["value"])) / float(width or abs(limit["value"]) or 1)
