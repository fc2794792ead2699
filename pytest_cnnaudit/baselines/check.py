"""An entry of a baseline file: whether it is one, and whether it says the same as another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from pytest_cnnaudit.baselines.values import is_statistic, unpack_values

Entry = dict[str, Any]
"""What was measured for one metric of one test."""

_SAME = ("value", "values", "n", "count", "statistic", "settings", "measurement", "higher_is_better", "unit")
_NUMBER = (int, float, str)
_TYPES: dict[str, tuple[type, ...]] = {
    "value": _NUMBER,
    "display": (str,),
    "ci95": (list, type(None)),
    "n": (int,),
    "count": (int, type(None)),
    "unit": (str,),
    "higher_is_better": (bool, type(None)),
    "statistic": (str, type(None)),
    "values": (str, type(None)),
    "measurement": (str,),
    "settings": (dict,),
    "samples": (dict, type(None)),
    "model": (dict,),
    "seed": (int,),
    "device": (str,),
    "precision": (str,),
    "versions": (dict,),
    "measured": (str,),
}


def measures_the_same(before: Entry, now: Entry) -> bool:
    """Whether both are of the same samples, measured alike, with the same outcome; dates and versions aside."""
    return all(before[key] == now[key] for key in _SAME) and _which(before) == _which(now)


def _which(entry: Entry) -> list[Any]:
    """The samples of an entry, whatever their source is called."""
    return [(entry["samples"] or {}).get(key) for key in ("n", "ids", "content")]


def misfit(where: str, entry: object) -> str | None:
    """What is wrong with something that should be an entry, in words that begin with where it is; None where it is one.

    >>> misfit("the accuracy", {"value": "high"})
    "the accuracy has no 'display'"
    """
    return next(_misfits(where, entry), None)


def _misfits(where: str, entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{where} is no object"
        return
    for key, types in _TYPES.items():
        if key not in entry:
            yield f"{where} has no {key!r}"
        elif not isinstance(value := entry[key], types) or (isinstance(value, bool) and bool not in types):
            yield f"{key!r} of {where} is {json.dumps(value)[:40]}"
    interval = entry["ci95"]
    numbers = [entry["value"], *(interval or [])]
    if (interval is not None and len(interval) != 2) or not all(map(_is_number, numbers)):
        yield f"'value' or 'ci95' of {where} is no number: {repr(entry['value'])[:40]}, {repr(interval)[:40]}"
    if entry["n"] < 0 or (entry["count"] is not None and not 0 <= entry["count"] <= entry["n"]):
        yield f"'n' and 'count' of {where} are {entry['n']} and {entry['count']}"
    statistic, values = entry["statistic"], entry["values"]
    if (statistic is None) != (values is None) or (statistic is not None and not is_statistic(statistic)):
        yield f"'statistic' of {where} is {statistic!r}, which does not go with its values"
    elif statistic is not None:
        try:
            unpack_values(values, statistic, entry["n"])
        except ValueError as error:
            yield f"'values' of {where} holds {error}"


def _is_number(value: object) -> bool:
    """JSON has no infinity and no NaN: they are strings."""
    if isinstance(value, str):
        return value in ("inf", "-inf", "nan")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer that no float holds
        return False
