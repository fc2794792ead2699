"""Baselines of some of the samples only: what the worst samples of a regression are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.baselines import Baselines
from pytest_cnnaudit.baselines.chance import changes
from pytest_cnnaudit.baselines.check import Entry
from pytest_cnnaudit.baselines.entry import values_of
from pytest_cnnaudit.baselines.values import compute, group_size, pack_values, rounded
from pytest_cnnaudit.results import Measurement, Metric, figure
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.samples.digest import digest


def lost(baselines: Baselines | None, measurement: Measurement, metric: Metric) -> NDArray[np.floating[Any]] | None:
    """By how much each sample is worse than it was, N; None where the values of the samples are not known.

    Args:
        baselines: of the test, which has compared the metric.
        measurement: of which the metric is.
        metric: worse than its baseline.
    """
    for name, before, now in _compared(baselines):
        of_it = now["measurement"] == measurement.kind and now["settings"] == dict(measurement.settings)
        if of_it and (name == metric.name or name.startswith(f"{metric.name} (")):
            then, today = (np.asarray(values_of(entry), dtype=np.float64) for entry in (before, now))
            if len(then) == len(today) == len(measurement.ids):
                rise = changes(then, today)
                return -rise if metric.higher_is_better else rise
    return None


def narrowed(baselines: Baselines | None, samples: Samples, few: Samples) -> dict[str, Entry]:
    """The baselines of a test as they would be of a part of its samples, by name; without those that do not tell.

    Args:
        baselines: of the test, which has compared its metrics.
        samples: of the test.
        few: some of them.
    """
    places = {name: place for place, name in enumerate(samples.ids)}
    chosen = [places[name] for name in few.ids]
    facts = {"n": len(few), "ids": digest(few), "content": "", "source": few.source}  # the bundle knows its content
    return {
        name: _of_some(before, chosen, facts)
        for name, before, _ in _compared(baselines)
        if before["samples"]["ids"] == digest(samples) and len(_values(before)) == len(samples)
    }


def _compared(baselines: Baselines | None) -> Iterator[tuple[str, Entry, Entry]]:
    """What the test has measured that has a baseline, both with a value for each sample on its own: then, and now."""
    if baselines is None:
        return
    for name, now in baselines.measured.items():
        before, statistic = baselines.find(name), now["statistic"]
        if before is None or not before["samples"] or before["statistic"] != statistic:
            continue
        if statistic is not None and group_size(statistic) == 1:
            yield name, before, now


def _of_some(entry: Entry, chosen: Sequence[int], samples: dict[str, Any]) -> Entry:
    values = _values(entry)[chosen]
    counted = values[~np.isnan(values.astype(np.float64))]
    value = rounded(compute(entry["statistic"], counted))
    is_share = entry["statistic"] == "share"
    return {
        **entry,
        "value": value if np.isfinite(value) else str(value),
        "display": f"{figure(value)} {entry['unit']}".strip(),
        "ci95": None,
        "n": len(counted),
        "count": int(counted.sum()) if is_share else None,
        "values": pack_values(values),
        "samples": samples,
    }


def _values(entry: Entry) -> NDArray[Any]:
    values = values_of(entry)
    return np.empty(0) if values is None else values
