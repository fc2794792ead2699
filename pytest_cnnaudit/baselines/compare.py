"""Is it worse than last time?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pytest_cnnaudit.baselines.chance import LEVEL, changes, paired_test
from pytest_cnnaudit.baselines.check import Entry
from pytest_cnnaudit.baselines.entry import values_of
from pytest_cnnaudit.baselines.values import Values, compute
from pytest_cnnaudit.newcombe import may_be_chance

Verdict = Literal["worse", "within the tolerance", "not beyond chance", "same", "better"]


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure differs from its baseline.

    Attributes:
        verdict: ``"worse"``: it fell by more than the tolerance, and that is beyond chance. ``"within the tolerance"``:
            it fell by no more. ``"not beyond chance"``: it fell by more, or rose, but chance may do that. ``"same"``:
            the figure is the same. ``"better"``: it rose beyond chance.
        drop: by how much it fell in the direction that is worse; negative where it rose.
        test: how chance was judged, with its result.
        lost: positions of the samples whose value fell, most first.
        gained: of those whose value rose, most first.
        unpaired: how many samples have a value in one of both runs only, so that they could not be compared.
    """

    verdict: Verdict
    drop: float
    test: str
    lost: tuple[int, ...] = ()
    gained: tuple[int, ...] = ()
    unpaired: int = 0


def compare(before: Entry, now: Entry, tolerance: float) -> Change:
    """Whether a figure fell by more than the tolerance, and by more than chance explains.

    Where the values of the samples are known, they are compared sample by sample. Otherwise the intervals of the two
    figures decide (Newcombe 1998, method 10), or, where one has none, the tolerance alone.

    Args:
        before: the baseline. `differences` must find none.
        now: what was measured now; its metric has a direction that is better.
        tolerance: in the metric's unit, at least 0.
    """
    sign = 1.0 if now["higher_is_better"] else -1.0
    then, today = float(before["value"]), float(now["value"])
    if math.isnan(then) or math.isnan(today):
        return _without_value(then, today)
    old, new = values_of(before), values_of(now)
    if old is None or new is None:
        drop = _drop(then, today, sign)
        is_chance, test = _by_intervals(before, now)
        return Change(_verdict(drop, tolerance, is_chance=is_chance), drop, test)
    paired = ~(np.isnan(old) | np.isnan(new))
    statistic = now["statistic"]
    then, today = (float(compute(statistic, each[~np.isnan(each)])) for each in (old, new))
    drop = _drop(then, today, sign)
    fall = np.where(paired, -sign * changes(old, new), 0.0)
    found = paired_test(old[paired], new[paired], statistic, rising=sign * drop < 0)
    return Change(
        _verdict(drop, tolerance, is_chance=not found.p < LEVEL),
        drop,
        str(found),
        _largest_first(fall),
        _largest_first(-fall),
        int((np.isnan(old) != np.isnan(new)).sum()),
    )


def differences(before: Entry, now: Entry) -> list[str]:
    """What differs in what was measured and how, in words: where anything does, a comparison would say nothing."""
    found = []
    if before["measurement"] != now["measurement"]:
        found.append(f"measurement {before['measurement']} → {now['measurement']}")
    then, today = before["samples"] or {}, now["samples"] or {}
    if then.get("n") != today.get("n"):
        found.append(f"{then.get('n', 'no')} → {today.get('n', 'no')} samples")
    elif then.get("ids") != today.get("ids"):
        found.append(f"{today.get('n')} other samples, by their ids")
    elif then.get("content") and today.get("content") and then["content"] != today["content"]:
        found.append("the same ids, but other images or labels")
    found += _changed(_judged(before["settings"]), _judged(now["settings"]))
    for key in ("unit", "statistic", "higher_is_better"):
        if before[key] != now[key]:
            found.append(f"{key.replace('_', ' ')} {before[key] or 'none'} → {now[key] or 'none'}")
    if not found:
        old, new = (0 if (values := values_of(each)) is None else len(values) for each in (before, now))
        found += [f"{old} → {new} values"] if old != new else []
    return found


def remarks(before: Entry, now: Entry) -> list[str]:
    """What else differs, in words: it may move the figure, but does not forbid a comparison."""
    seeds = [{"seed": entry["settings"].get("seed", str(entry["seed"]))} for entry in (before, now)]
    made = [{key: entry[key] for key in ("device", "precision")} for entry in (before, now)]
    return [
        *_changed(*seeds),
        *_changed(*made),
        *_changed(before["versions"], now["versions"]),
    ]


def _judged(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "seed"}


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted({*then, *now})
    return [
        f"{name} {then.get(name, 'not given')} → {now.get(name, 'not given')}"
        for name in names
        if then.get(name) != now.get(name)
    ]


def _drop(then: float, today: float, sign: float) -> float:
    return 0.0 if then == today else sign * (then - today)


def _verdict(drop: float, tolerance: float, *, is_chance: bool) -> Verdict:
    if drop == 0:
        return "same"
    if drop > 0 and (drop <= tolerance or math.isclose(drop, tolerance, rel_tol=1e-9)):
        return "within the tolerance"
    if is_chance:
        return "not beyond chance"
    return "worse" if drop > 0 else "better"


def _without_value(then: float, today: float) -> Change:
    if math.isnan(then) and math.isnan(today):
        return Change("same", 0.0, "it has no value, as then")
    if math.isnan(then):
        return Change("better", -math.inf, "it had no value then")
    return Change("worse", math.inf, "it has no value any more")


def _by_intervals(before: Entry, now: Entry) -> tuple[bool, str]:
    if before["ci95"] is None or now["ci95"] is None or math.isinf(float(now["value"]) - float(before["value"])):
        return False, "no interval to judge chance by"
    is_chance = may_be_chance(*({"value": float(each["value"]), "ci95": _ends(each)} for each in (before, now)))
    return is_chance, f"the 95% interval of the difference {'holds' if is_chance else 'does not hold'} 0"


def _ends(entry: Entry) -> list[float | None]:
    ends = [float(end) for end in entry["ci95"]]
    return [end if math.isfinite(end) else None for end in ends]


def _largest_first(size: Values) -> tuple[int, ...]:
    order = np.argsort(-size, kind="stable")
    return tuple(order[size[order] > 0].tolist())
