"""A number that explains itself: what it is, how sure it is, and what it was held against."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


class Comparison(NamedTuple):
    """A threshold that a metric, or an end of its interval (`on`), was held against."""

    op: str
    threshold: float
    holds: bool
    on: str = ""


class Metric(float):
    """A number that knows what it is.

    It computes and compares as the float it is. A comparison with a plain number is remembered in `comparisons`, so
    that the report can show the threshold which a bare `assert metric >= 0.3` was about.

    Args:
        value: the figure; NaN where it could not be measured.
        name: in the field's words, for example ``"robust accuracy"``.
        unit: empty for shares and ratios.
        n: how many samples it was computed from.
        of: what `n` counts, where that is not the ``"sample"``.
        count: for a share, how many of the `n`.
        ci95: lower and upper end of the 95% confidence interval.
        higher_is_better: None where neither direction is.
        bounds: the smallest and largest possible value, where there are such.
        help: one sentence that says what the figure is.
        story: lines that a person needs when the figure falls short.
        column: the name of the per-sample values, in the measurement, that the figure is computed from; empty where
            there are none, or not just as they are.
        statistic: how it is computed from these: ``"share"``, ``"mean"`` or ``"quantile 0.05"``.

    Attributes:
        baseline: how it compares with what was measured last time, for the report; None where it was not compared.

    >>> accuracy = Metric(0.31, name="robust accuracy", n=512, count=158, ci95=(0.27, 0.35))
    >>> accuracy
    robust accuracy 0.31 (95% CI 0.27 to 0.35, 158 of 512)
    >>> accuracy >= 0.35, accuracy.comparisons
    (False, [Comparison(op='>=', threshold=0.35, holds=False, on='')])
    """

    __slots__ = (
        "_interval",
        "_on",
        "baseline",
        "bounds",
        "column",
        "comparisons",
        "count",
        "help",
        "higher_is_better",
        "link",
        "n",
        "name",
        "of",
        "statistic",
        "story",
        "unit",
    )

    def __new__(
        cls,
        value: float,
        *,
        name: str,
        unit: str = "",
        n: int = 0,
        of: str = "sample",
        count: int | None = None,
        ci95: tuple[float, float] | None = None,
        higher_is_better: bool | None = None,
        bounds: tuple[float, float] | None = None,
        help: str = "",
        story: tuple[str, ...] = (),
        column: str = "",
        statistic: str = "",
    ) -> Self:
        metric = super().__new__(cls, value)
        metric.name, metric.unit, metric.n, metric.of, metric.count = name, unit, n, of, count
        metric._interval, metric._on = ci95, ""
        metric.higher_is_better, metric.bounds, metric.help, metric.story = higher_is_better, bounds, help, story
        metric.column, metric.statistic = column, statistic
        metric.comparisons = []
        metric.link, metric.baseline = "", None
        return metric

    name: str
    unit: str
    n: int
    of: str
    count: int | None
    _interval: tuple[float, float] | None
    _on: str
    higher_is_better: bool | None
    bounds: tuple[float, float] | None
    help: str
    story: tuple[str, ...]
    column: str
    statistic: str
    comparisons: list[Comparison]
    link: str
    baseline: Mapping[str, Any] | None

    @property
    def ci95(self) -> tuple[Metric, Metric] | None:
        """Lower and upper end of the 95% confidence interval; metrics themselves, so that they can be asserted."""
        if self._interval is None:
            return None
        return self._end("lower", self._interval[0]), self._end("upper", self._interval[1])

    def _end(self, which: str, value: float) -> Metric:
        end = Metric(
            value,
            name=f"{self.name} ({which} end of the 95% CI)",
            unit=self.unit,
            n=self.n,
            of=self.of,
            higher_is_better=self.higher_is_better,
            bounds=self.bounds,
            story=self.story,
        )
        end.link = self.link
        end.comparisons, end._on = self.comparisons, f"{which} end"  # one list: it belongs to this metric's story
        return end

    def _compare(self, op: str, other: object) -> bool:
        if not isinstance(other, int | float | np.number):
            return NotImplemented  # type: ignore[no-any-return]
        holds = _OPERATORS[op](float(self), float(other))
        if not isinstance(other, Metric):
            comparison = Comparison(op, float(other), holds, self._on)
            if comparison not in self.comparisons:
                self.comparisons.append(comparison)
        return holds

    def __ge__(self, other: object) -> bool:
        return self._compare(">=", other)

    def __gt__(self, other: object) -> bool:
        return self._compare(">", other)

    def __le__(self, other: object) -> bool:
        return self._compare("<=", other)

    def __lt__(self, other: object) -> bool:
        return self._compare("<", other)

    def __repr__(self) -> str:
        return f"{self.name} {self.display}{self.uncertainty}"

    def __getnewargs_ex__(self) -> tuple[tuple[float], dict[str, Any]]:
        return (float(self),), {"name": self.name}

    @property
    def display(self) -> str:
        """The value with its unit, rounded for people."""
        return f"{figure(self)}{' ' if self.unit else ''}{self.unit}"

    @property
    def uncertainty(self) -> str:
        """`` (95% CI 0.27 to 0.35, 158 of 512)``, as far as it is known."""
        parts = []
        if self._interval is not None:
            parts.append(f"95% CI {figure(self._interval[0])} to {figure(self._interval[1])}")
        if self.count is not None:
            parts.append(f"{self.count} of {self.n}")
        elif self.n:
            parts.append(f"n {self.n}")
        return f" ({', '.join(parts)})" if parts else ""


def figure(value: float) -> str:
    """Two decimals for what lies between 0.1 and 100, otherwise three significant digits.

    >>> [figure(x) for x in (0.3086, 1, 0.00123, 12345.6, float("nan"))]
    ['0.31', '1.00', '0.00123', '12,346', 'not a number']
    """
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if value == 0 or 0.1 <= abs(value) < 100:
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shortfall(metric: Metric, op: str, threshold: float) -> list[str]:
    """The lines of a failure: the comparison, then the story behind the figure, then where the pictures are."""
    value, limit = figure(metric), figure(threshold)
    if value == limit and float(metric) != float(threshold):  # rounding must not make a failure look like a pass
        value, limit = repr(float(metric)), repr(float(threshold))
    unit = f" {metric.unit}" if metric.unit else ""
    lines = [f"{metric.name} {value}{unit}{metric.uncertainty} {op} {limit}{unit}"]
    lines += [f"  {line}" for line in (*metric.story, metric.link) if line]
    return lines


def require(metric: Metric, op: str, threshold: float) -> None:
    """Hold a metric against a threshold, in the words of a plain assert.

    Raises:
        AssertionError: the comparison does not hold.
    """
    if not metric._compare(op, threshold):
        raise AssertionError("assert " + "\n".join(shortfall(metric, op, threshold)))
