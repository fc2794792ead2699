"""What became of a metric since its baseline: the verdict that was reached sample by sample, or what intervals tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_cnnaudit.amounts import rounded, signed
from pytest_cnnaudit.gallery.judged import interval_of, verdict_of
from pytest_cnnaudit.newcombe import may_be_chance


def verdict_words(metric: Mapping[str, Any]) -> str:
    """The verdict with what it rests on; empty where the metric was not compared.

    >>> before = {"verdict": "worse", "test": "exact McNemar test, p = 0.003", "of": "the baseline of 2026-11-20"}
    >>> verdict_words({"unit": "", "baseline": before})
    'worse than the baseline of 2026-11-20: exact McNemar test, p = 0.003'
    """
    verdict, baseline = verdict_of(metric), metric.get("baseline") or {}
    because = f": {baseline['test']}" if baseline.get("test") else ""
    return {
        "worse": f"worse than {baseline.get('of')}{because}",
        "not beyond chance": f"not beyond chance{because}",
        "within the tolerance": f"within the tolerance{_tolerance(metric, ' ')}",
        "better": f"better{because}; accept it to make it the new baseline",
    }.get(verdict, verdict)


def told_since(metric: Mapping[str, Any]) -> str:
    """Where the metric stands beside its baseline, and whether chance explains the change, as part of a sentence."""
    verdict, before = verdict_of(metric), metric["baseline"]
    ending = {
        "worse": f", more than {_allowed(metric)}chance explains",
        "not beyond chance": ", which chance may explain",
        "within the tolerance": f", within the tolerance{_tolerance(metric, ' of ')}",
        "better": ": better; accept it to make it the new baseline",
    }.get(verdict, "")
    return f"{metric['name']} is {metric['display']}, {_place(metric)} {before['of']} ({before['display']}){ending}"


def change_words(metric: Mapping[str, Any]) -> str:
    """The change for a cell of a table: by how much, and whether that is better or worse."""
    change = step(metric)
    sized = "" if change is None else f"{signed(change, metric['unit'])} "
    return f"{sized}{verdict_words(metric) or _words_of_intervals(metric)}".strip()


def _words_of_intervals(metric: Mapping[str, Any]) -> str:
    chance = ", within the interval" if may_be_chance(metric["baseline"], metric) else ""
    return ("" if metric["higher_is_better"] is None else "better" if gain(metric) > 0 else "worse") + chance


def step(metric: Mapping[str, Any]) -> float | None:
    """The value now less that of the baseline; None where one of them is not a finite number."""
    now, before = metric["value"], metric["baseline"]["value"]
    return None if now is None or before is None else float(now - before)


def gain(metric: Mapping[str, Any]) -> float:
    """How much better it got, in widths of its interval where there is one, else as a share of what it was."""
    change = step(metric)
    if change is None:  # from or to infinity
        return {"worse": -math.inf, "better": math.inf}.get(verdict_of(metric), 0.0)
    interval = interval_of(metric)
    width = interval[1] - interval[0] if interval else 0
    share = change / (width or abs(metric["baseline"]["value"]) or 1)
    return float({True: share, False: -share}.get(metric["higher_is_better"], abs(share)))


def _place(metric: Mapping[str, Any]) -> str:
    change = step(metric)
    if change is None:
        return "the same as" if verdict_of(metric) == "same" else "beside"
    return f"{rounded(abs(change), metric['unit'])} {'above' if change > 0 else 'below'}" if change else "the same as"


def _allowed(metric: Mapping[str, Any]) -> str:
    return f"the tolerance{_tolerance(metric, ' of ')} allows and " if metric["baseline"].get("tolerance") else ""


def _tolerance(metric: Mapping[str, Any], joint: str) -> str:
    tolerance = metric["baseline"].get("tolerance") if metric.get("baseline") else None
    return f"{joint}{rounded(tolerance, metric['unit'])}" if tolerance else ""
