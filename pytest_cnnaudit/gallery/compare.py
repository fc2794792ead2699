"""What changed from one run to another, metric by metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pytest_cnnaudit.gallery.judged import interval_of
from pytest_cnnaudit.gallery.read import StoredReport, read_report
from pytest_cnnaudit.newcombe import may_be_chance

Item = TypeVar("Item")
Record = dict[str, Any]

BETTER, WORSE, SAME, CHANGED = "better", "worse", "same", "changed"
WITHIN, INCOMPARABLE = "within the interval", "not comparable"
ONLY_OLD, ONLY_NEW = "only in OLD", "only in NEW"
_ORDER = (WORSE, INCOMPARABLE, CHANGED, WITHIN, BETTER, SAME, ONLY_OLD, ONLY_NEW)
_ROUNDING = 1e-6  # float32 knows no more: a smaller change is another order of summation
_GRAVITY = {"passed": 0, "xfailed": 1, "xpassed": 1, "skipped": 2, "error": 3, "crashed": 3, "failed": 4}


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric in both runs, or in one of them.

    Attributes:
        name: with its measurement's, where the test has several.
        old: its record in the old run; None where it is only in the new one.
        new: the same the other way round.
        verdict: in a word or two.
        reasons: what was measured differently.
        gain: how much better, in widths of the interval where there is one, else relative to its size.
    """

    name: str
    old: Record | None
    new: Record | None
    verdict: str
    reasons: tuple[str, ...] = ()
    gain: float = 0.0

    @property
    def change(self) -> float | None:
        """New minus old."""
        if self.old is None or self.new is None or None in (self.old["value"], self.new["value"]):
            return None
        return float(self.new["value"] - self.old["value"])


@dataclass(frozen=True, slots=True)
class TestChange:
    """A test that stands in both runs; its metrics, the worst change first."""

    __test__ = False  # pytest

    id: str
    old: str
    new: str
    metrics: tuple[MetricChange, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs; the tests in both, those whose outcome changed first, then the worst change first."""

    old: StoredReport
    new: StoredReport
    tests: tuple[TestChange, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    @property
    def summary(self) -> str:
        """All of it in a sentence."""
        words = Counter(metric.verdict for test in self.tests for metric in test.metrics)
        judged = sum(words[word] for word in (WORSE, CHANGED, WITHIN, BETTER, SAME))
        fell = sum((test.old, test.new) == ("passed", "failed") for test in self.tests)
        rose = sum((test.old, test.new) == ("failed", "passed") for test in self.tests)
        others = sum(test.old != test.new for test in self.tests) - fell - rose
        told = {
            f"{words[BETTER]} got better": words[BETTER],
            f"{words[INCOMPARABLE]} cannot be compared": words[INCOMPARABLE],
            f"{_counted(fell, 'test')} fell short that passed": fell,
            f"{_counted(rose, 'test')} passed that fell short": rose,
            f"{_counted(others, 'test')} ended otherwise": others,
        }
        parts = [f"{words[WORSE] or 'None'} of {_counted(judged, 'metric')} got worse"]
        parts += [text for text, number in told.items() if number]
        only = [
            f"{_counted(len(ids), 'test')} {'is' if len(ids) == 1 else 'are'} only in {where}"
            for where, ids in (("OLD", self.only_old), ("NEW", self.only_new))
            if ids
        ]
        return f"{'; '.join([', '.join(parts), *only])}."


def compare(old: StoredReport, new: StoredReport) -> Comparison:
    """Match tests by id, measurements by name and order, metrics by name, and judge each change."""
    before, after = ({test["id"]: test for test in report.tests} for report in (old, new))
    changes = [_test_change(before[each], after[each]) for each in after if each in before]
    return Comparison(
        old,
        new,
        tuple(sorted(changes, key=_urgency)),
        tuple(each for each in before if each not in after),
        tuple(each for each in after if each not in before),
    )


def read_both(old: Path, new: Path) -> Comparison:
    """Read two reports and compare them.

    Raises:
        ReportFolderError: one of them cannot be read.
    """
    return compare(read_report(old), read_report(new))


def _urgency(test: TestChange) -> tuple[int, int, float]:
    step = _GRAVITY.get(test.new, 3) - _GRAVITY.get(test.old, 3)
    changed = -1 - step if step > 0 else -1 if test.old != test.new else 0
    return changed, *min(map(_rank, test.metrics), default=(len(_ORDER), 0.0))


def _rank(change: MetricChange) -> tuple[int, float]:
    return _ORDER.index(change.verdict), change.gain


# Metrics ----------------------------------------------------------------------------------------------------------


def _test_change(old: Record, new: Record) -> TestChange:
    befores, afters = (by_measurement(test) for test in (old, new))
    changes = [
        change
        for key in {**befores, **afters}
        for change in _metric_changes(old, new, befores.get(key), afters.get(key), _label(key, {**befores, **afters}))
    ]
    return TestChange(old["id"], old["outcome"], new["outcome"], tuple(sorted(changes, key=_rank)))


def _label(key: tuple[str, int], keys: Mapping[tuple[str, int], object]) -> str:
    """Empty where the test has one measurement: then its metrics need no more name."""
    name, number = key
    return "" if len(keys) < 2 else f"{name} {number + 1}: " if (name, 1) in keys else f"{name}: "


def _metric_changes(
    old_test: Record, new_test: Record, old: Record | None, new: Record | None, label: str
) -> Iterator[MetricChange]:
    befores, afters = ({} if each is None else keyed(each["metrics"], name_of) for each in (old, new))
    reasons = () if old is None or new is None else tuple(differences(old_test, new_test, old, new))
    for key in {**befores, **afters}:
        before, after = befores.get(key), afters.get(key)
        if before is None or after is None:
            yield MetricChange(label + key[0], before, after, ONLY_OLD if after is None else ONLY_NEW)
        else:
            yield judged(label + key[0], before, after, reasons)


def differences(old_test: Record, new_test: Record, old: Record, new: Record) -> Iterator[str]:
    before, after = old["settings"], new["settings"]
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, 'not set')} → {after.get(name, 'not set')}"
    one, other = (test["samples"] or {} for test in (old_test, new_test))
    if one.get("n") != other.get("n"):
        yield f"samples {one.get('n', 'none')} → {other.get('n', 'none')}"
    elif None not in (one.get("digest"), other.get("digest")) and one["digest"] != other["digest"]:
        yield "other samples"
    for name, measurement in (("OLD", old), ("NEW", new)):
        if measurement.get("complete") is False:
            yield f"an early verdict left bounds in {name}"


def judged(name: str, old: Record, new: Record, reasons: tuple[str, ...]) -> MetricChange:
    before, after = old["value"], new["value"]
    if before is None or after is None:
        where = " and ".join(which for which, value in (("OLD", before), ("NEW", after)) if value is None)
        return MetricChange(name, old, new, INCOMPARABLE, (*reasons, f"not a number in {where}"))
    if old["unit"] != new["unit"]:
        reasons = (*reasons, f"unit {old['unit'] or 'none'} → {new['unit'] or 'none'}")
    if any(not reason.startswith("seed ") for reason in reasons):  # another seed asks the same question
        return MetricChange(name, old, new, INCOMPARABLE, reasons)
    if math.isclose(before, after, rel_tol=_ROUNDING, abs_tol=1e-12):
        return MetricChange(name, old, new, SAME, reasons)
    intervals = [interval for interval in (interval_of(old), interval_of(new)) if interval is not None]
    width = sum(high - low for low, high in intervals) / len(intervals) if intervals else 0.0
    sign = 0 if new["higher_is_better"] is None else 1 if new["higher_is_better"] else -1
    gain = sign * (after - before) / (width or max(abs(before), abs(after)))
    if may_be_chance(old, new):
        return MetricChange(name, old, new, WITHIN, reasons, gain)
    return MetricChange(name, old, new, CHANGED if not sign else BETTER if gain > 0 else WORSE, reasons, gain)


# Small things -----------------------------------------------------------------------------------------------------


def keyed(items: Iterable[Item], name: Callable[[Item], str]) -> dict[tuple[str, int], Item]:
    """By name and by how many of that name came before."""
    seen: Counter[str] = Counter()
    found = {}
    for item in items:
        key = name(item)
        found[key, seen[key]] = item
        seen[key] += 1
    return found


def by_measurement(test: Record) -> dict[tuple[str, int], Record]:
    return keyed(test["measurements"], name_of)


def name_of(record: Record) -> str:
    return str(record["name"])


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
