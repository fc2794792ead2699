"""Which samples a failed measurement did worst on: those with which the failure can be shown again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.results import Comparison, Exhibit, Measurement, Metric, Row

WORST = 16
"""Samples that are kept, at most: as many as the exhibits show large."""

_CAME_OUT_WELL = ("robust", "spared", "far", "hit")  # statuses of rows
_OF_IMAGES_GIVEN = ("fool", "dream")  # measurements whose images a test may choose itself
_AMONG_EACH_OTHER = ("neighbours",)  # measurements in which some of the samples say nothing about all

Lost = Callable[[Metric], "NDArray[np.floating[Any]] | None"]
"""By how much each sample is worse than in the baseline of a metric, N; None where that is not known."""


def failed_measurement(measurements: Sequence[Measurement]) -> Measurement | None:
    """The one that a test failed on: the last that fell short; where none did, the last one."""
    short = [each for each in measurements if failures(each) or regressions(each)]
    return next(reversed(short or measurements), None)


def failures(measurement: Measurement) -> list[tuple[Metric, Comparison]]:
    """The thresholds that were missed, each with its metric."""
    return [(metric, each) for metric in measurement.metrics for each in metric.comparisons if not each.holds]


def regressions(measurement: Measurement) -> list[Metric]:
    """The metrics that are worse than their baselines."""
    return [each for each in measurement.metrics if each.baseline is not None and each.baseline["verdict"] == "worse"]


def worst(measurement: Measurement, ids: Sequence[str], lost: Lost) -> list[str]:
    """The samples that a measurement did worst on, the worst first.

    With these alone it falls short, too. Where their values are known, each is on the wrong side of the threshold by
    itself, and so is then any share, mean and quantile of them. Where they are not, they are those that the exhibits
    show and that did not come out well; where nothing is shown of them, the first ones.

    Args:
        measurement: which fell short.
        ids: of all samples that the test was given.
        lost: since the baseline, for metrics that are worse than that.

    Returns:
        At most `WORST` ids; none where the measurement was not made of these samples one by one.
    """
    named_by_the_test = measurement.kind in _OF_IMAGES_GIVEN and measurement.ids != tuple(ids)
    if named_by_the_test or measurement.kind in _AMONG_EACH_OTHER or not set(ids).issuperset(measurement.ids):
        return []
    places = {name: place for place, name in enumerate(measurement.ids)}
    shown = [places[name] for name in rows_of(measurement, places)]
    judged = _agreed([*_short(measurement), *_worse(measurement, lost)])
    if judged is None:
        order = shown or list(places.values())
    else:
        wrong, amount = judged
        downwards = np.argsort(-amount, kind="stable").tolist()
        order = [place for place in dict.fromkeys([*shown, *downwards]) if wrong[place]]
        if regressions(measurement):  # what was lost need not be what is worst
            order.sort(key=lambda place: -amount[place])
    return [measurement.ids[place] for place in order[:WORST]]


def rows_of(measurement: Measurement, ids: Collection[str]) -> dict[str, Row]:
    """The first row of each of the samples that did not come out well, in the order in which they are shown.

    Tiles come last, whatever the order of the exhibits.
    """
    exhibits = [each for each in measurement.exhibits if isinstance(each, Exhibit)]
    found: dict[str, Row] = {}
    for exhibit in sorted(exhibits, key=lambda each: each.kind == "samples"):
        for row in exhibit.rows:
            if row.title in ids and row.status not in _CAME_OUT_WELL:
                found.setdefault(row.title, row)
    return found


_Judged = tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]
"""Which samples are on the wrong side, and by how much: both N."""


def _short(measurement: Measurement) -> Iterator[_Judged]:
    """Of each threshold that was missed; nothing where the metric is not computed from per-sample values."""
    for metric, comparison in failures(measurement):
        values = measurement.per_sample.get(metric.column)
        if values is not None and len(values) == len(measurement.ids):
            exact = values.astype(np.float64)  # as the threshold is compared: not in the values' float32
            amount = comparison.threshold - exact if comparison.op[0] == ">" else exact - comparison.threshold
            yield (amount > 0) | (amount == 0) & (comparison.op in "<>"), amount


def _worse(measurement: Measurement, lost: Lost) -> Iterator[_Judged]:
    """Of each metric that is worse than its baseline."""
    for metric in regressions(measurement):
        amount = lost(metric)
        if amount is not None and metric.baseline is not None:
            beyond = amount > metric.baseline["tolerance"]
            yield beyond if beyond.any() else amount > 0, amount


def _agreed(judged: Sequence[_Judged]) -> _Judged | None:
    """The samples that are on the wrong side in every respect, as far as there are such."""
    found: _Judged | None = None
    for wrong, amount in judged:
        both = wrong if found is None else wrong & found[0]
        if both.any():
            found = both, amount
    return found
