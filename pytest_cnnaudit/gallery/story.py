"""A test's outcome in one sentence, and its figures in one line, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_cnnaudit.amounts import rounded
from pytest_cnnaudit.gallery.judged import (
    VERDICTS,
    distance,
    held,
    interval_of,
    is_asked,
    is_close,
    metrics_of,
    verdict_of,
)
from pytest_cnnaudit.gallery.since import told_since, verdict_words

_SIDES = {
    ">=": ("below", "required"),
    ">": ("below", "required"),
    "<=": ("above", "allowed"),
    "<": ("above", "allowed"),
}
_OPENINGS = {
    "skipped": "not run",
    "error": "no verdict",
    "crashed": "no verdict",
    "xfailed": "fell short, as expected",
    "xpassed": "passed, although expected to fall short",
}


def story(record: Mapping[str, Any]) -> str:
    """What happened, how far it was from what was asked, and whether chance may have decided it.

    >>> metric = {"name": "robust accuracy", "value": 0.31, "display": "0.31", "unit": "", "ci95": [0.27, 0.35]}
    >>> limit = {"op": ">=", "value": 0.35, "holds": False, "on": ""}
    >>> story({"outcome": "failed", "message": "", "measurements": [{"metrics": [{**metric, "thresholds": [limit]}]}]})
    'Robust accuracy is 0.31, 0.04 below the required 0.35; its 95% interval holds the threshold: a close call.'
    """
    outcome = record["outcome"]
    opening = _OPENINGS.get(outcome, "")
    told = _first_line(record.get("message", "")) if outcome in ("skipped", "error", "crashed") else _figures(record)
    words = ": ".join(each for each in (opening, told) if each) or "nothing was measured"
    return f"{words[0].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}"


def headline(record: Mapping[str, Any]) -> str:
    """One line for a terminal: the metrics of which something was asked, or else the first of each measurement."""
    words = []
    for measurement in record.get("measurements", ()):
        for metric in list(filter(is_asked, measurement["metrics"])) or measurement["metrics"][:1]:
            ends = interval_of(metric)
            interval = " (95% CI {:.3g} to {:.3g})".format(*ends) if ends else ""
            limits = [
                f" {each['on']} {each['op']} {each['value']:.4g}".replace("  ", " ") for each in metric["thresholds"]
            ]
            since = f", {verdict_words(metric)}" if verdict_of(metric) else ""
            words.append(f"{metric['name']} {metric['display']}{interval}{','.join(limits)}{since}")
    return "; ".join(words)


def _figures(record: Mapping[str, Any]) -> str:
    """The miss that is farthest off, or else what got worse; where nothing was missed, what came closest to it."""
    metrics = metrics_of(record)
    judged = [(metric, limit) for metric in metrics if metric["value"] is not None for limit in metric["thresholds"]]
    missed = [each for each in judged if not each[1]["holds"]]
    compared = sorted(filter(verdict_of, metrics), key=lambda metric: VERDICTS.index(verdict_of(metric)))
    if record["outcome"] in ("failed", "xfailed"):
        worse = [metric for metric in compared if verdict_of(metric) == "worse"]
        count = len(missed) + len(worse)
        others = f"; {count - 1} more fell short" if count > 1 else ""
        if not count:
            return _first_line(record.get("message", ""))
        return (_told(*max(missed, key=distance)) if missed else told_since(worse[0])) + others
    if judged:
        all_hold = f"all {len(judged)} thresholds hold; the closest: " if len(judged) > 1 and not missed else ""
        return all_hold + _told(*min(judged, key=distance))
    if compared:
        return told_since(compared[0])
    return f"{metrics[0]['name']} is {metrics[0]['display']}; nothing was asked of it" if metrics else ""


def _told(metric: Mapping[str, Any], limit: Mapping[str, Any]) -> str:
    side, wanted = _SIDES.get(limit["op"], ("from", limit["op"]))
    gap = rounded(abs(held(metric, limit) - limit["value"]), metric["unit"])
    if limit["holds"]:
        side = {"below": "above", "above": "below"}.get(side, side)
    name = f"the {limit['on']} of the interval of {metric['name']}" if limit["on"] else metric["name"]
    shown = rounded(held(metric, limit), metric["unit"]) if limit["on"] else metric["display"]
    asked = f"the {wanted} {rounded(limit['value'], metric['unit'])}"
    told = (
        f"{name} is {shown}, {gap} {side} {asked}" if float(gap.split()[0]) else f"{name} is {shown}, exactly {asked}"
    )
    return f"{told}; its 95% interval holds the threshold: a close call" if is_close(metric, limit) else told


def _first_line(message: str) -> str:
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return line.removeprefix("Skipped: ")
