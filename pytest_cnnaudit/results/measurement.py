"""What an audit method returns, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from numpy.typing import NDArray

from pytest_cnnaudit.results.exhibits import Chart, Exhibit, Table
from pytest_cnnaudit.results.metric import Metric


@dataclass(frozen=True, slots=True)
class Cost:
    """Forward and backward passes of single samples through the model."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.forward - other.forward, self.backward - other.backward)


@dataclass(frozen=True, slots=True)
class Cached:
    """What of a measurement was not measured now.

    Attributes:
        measured: when it was measured, in ISO 8601.
        batches: how many batches an earlier run had finished before it was cut short; None where all was known.
    """

    measured: str
    batches: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """What every audit method returns; each kind adds its metrics as attributes.

    Attributes:
        kind: the name of the audit method.
        title: for headings.
        settings: what was measured how, for people.
        ids: the samples measured, in the order of `per_sample`.
        per_sample: arrays over the samples, by name.
        complete: False where it stopped early: its figures are bounds, then, not values.
        cost: passes of samples through the model that were spent.
        notes: sentences a reader of the figures should know.
        exhibits: the pictures, charts and tables, in the order in which they are shown.
        cached: where it, or a part of it, was known from an earlier run.
    """

    kind: str
    title: str
    settings: Mapping[str, str]
    ids: tuple[str, ...] = ()
    per_sample: Mapping[str, NDArray[Any]]
    complete: bool = True
    cost: Cost = Cost()
    notes: tuple[str, ...] = ()
    exhibits: tuple[Exhibit | Chart | Table, ...] = ()
    cached: Cached | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All its metrics, the headline first; of those by class, the ones held against a threshold or a baseline."""
        values = [getattr(self, each.name) for each in fields(self)]
        by_class = [metric for value in values if isinstance(value, Mapping) for metric in value.values()]
        judged = [each for each in by_class if isinstance(each, Metric) and (each.comparisons or each.baseline)]
        return (*(value for value in values if isinstance(value, Metric)), *judged)

    def linked(self, link: str) -> Self:
        """The same measurement, whose metrics know where their pictures will be."""
        for each in fields(self):
            value = getattr(self, each.name)
            for metric in value.values() if isinstance(value, Mapping) else [value]:
                if isinstance(metric, Metric):
                    metric.link = link
        return self

    def __repr__(self) -> str:
        return f"<{self.title}: {'; '.join(map(repr, self.metrics))}>"
