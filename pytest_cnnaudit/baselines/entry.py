"""A metric as an entry of the baseline file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pytest_cnnaudit.baselines.check import Entry
from pytest_cnnaudit.baselines.values import Values, pack_values, rounded, unpack_values
from pytest_cnnaudit.results import Measurement, Metric


@dataclass(frozen=True, slots=True)
class Facts:
    """What a measurement was made of and with.

    Attributes:
        samples: ``n``, ``ids`` and ``content`` (digests) and ``source``.
        model: ``name`` and ``digest``.
        seed: of the audit.
        device: its kind, for example ``"cuda"``.
        precision: of the passes that attacks make.
        versions: by package.
        measured: the date, ISO 8601.
    """

    samples: Mapping[str, Any]
    model: Mapping[str, str]
    seed: int
    device: str
    precision: str
    versions: Mapping[str, str]
    measured: str


def entry(metric: Metric, measurement: Measurement, facts: Facts) -> Entry:
    """What the baseline file says of a metric, as plain JSON values.

    The values of the samples are kept where the metric says which column of the measurement it is computed from.
    """
    values = measurement.per_sample[metric.column] if metric.column else None
    statistic = metric.statistic or None
    if statistic == "share" and values is not None and values.dtype != bool:
        statistic = "mean"  # of ones and zeros, and NaN where a sample has no value
    interval = metric.ci95
    return {
        "value": _number(metric),
        "display": metric.display,
        "ci95": None if interval is None else [_number(end) for end in interval],
        "n": metric.n,
        "count": metric.count,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "statistic": statistic,
        "values": None if values is None else pack_values(np.asarray(values)),
        "measurement": measurement.kind,
        "settings": dict(measurement.settings),
        **asdict(facts),
    }


def values_of(entry: Entry) -> Values | None:
    """The values of the samples of an entry: bool for a share, else float64; None where it keeps none."""
    return None if entry["statistic"] is None else unpack_values(entry["values"], entry["statistic"], entry["n"])


def _number(value: float) -> float | str:
    """JSON has no infinity and no NaN: they are the strings "inf", "-inf" and "nan"."""
    value = rounded(value)
    return value if math.isfinite(value) else str(value)
