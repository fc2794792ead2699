"""What an audit gives back: plain, frozen results, each a number, picture, chart or table that explains itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Cost:
    """Forward and backward passes of single samples through the model."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.forward - other.forward, self.backward - other.backward)


Form = Literal["numbers", "lossless", "photo"]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Pixels to show: H×W×3 or H×W, uint8.

    Attributes:
        pixels: the picture.
        caption: what it says under the picture.
        alt: what it says in place of the picture.
        form: ``"lossless"``; ``"numbers"`` for what a model sees: lossless, too, and the gallery shows the numbers
            under the pointer; ``"photo"`` for the eye: a large one may lose what the eye does not miss.
    """

    pixels: NDArray[np.uint8]
    caption: str = ""
    alt: str = ""
    form: Form = "lossless"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Pictures that belong together: one sample, one filter.

    `arrays` are the exact numbers behind the pictures, for who reproduces them: ``"adversarial"``, the image that an
    attack made, C×H×W in [0, 1].
    """

    title: str
    pictures: tuple[Picture, ...]
    status: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A set of rows with a heading.

    `kind` is ``"rows"``; ``"grid"``, for one picture a row, as tiles; or ``"samples"``, a grid of all samples that were
    measured, whose titles the `samples` of charts refer to.
    """

    title: str
    text: str
    rows: tuple[Row, ...]
    kind: str = "rows"
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Points joined by a line, with a confidence band from `low` to `high` where there is one.

    NaN leaves a gap. The name may be empty where the line is alone: the y axis says what it is. `samples` are the ids
    of those that each point counts, for the reader who wants to see them.
    """

    name: str
    x: Sequence[float] | NDArray[Any]
    y: Sequence[float] | NDArray[Any]
    low: Sequence[float] | NDArray[Any] | None = None
    high: Sequence[float] | NDArray[Any] | None = None
    samples: Sequence[Sequence[str]] | None = None

    def __post_init__(self) -> None:
        _check_samples(f"line {self.name!r}", self.samples, len(self.x), "points")
        lengths = [len(values) for values in (self.x, self.y, self.low, self.high) if values is not None]
        if len(set(lengths)) != 1 or (self.low is None) != (self.high is None):
            raise ValueError(
                f"line {self.name!r} has {' and '.join(map(str, lengths))} values: give as many y as x, and both low "
                f"and high or neither"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """A histogram: `counts` between consecutive `edges`, one more of these, ascending.

    An infinite last edge makes its bin open-ended: it is drawn at the end, apart from the others. `samples` are the
    ids of those that each bin counts, for the reader who wants to see them.
    """

    name: str
    edges: Sequence[float] | NDArray[Any]
    counts: Sequence[float] | NDArray[Any]
    samples: Sequence[Sequence[str]] | None = None

    def __post_init__(self) -> None:
        _check_samples(f"bars {self.name!r}", self.samples, len(self.counts), "counts")
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(
                f"bars {self.name!r} have {len(self.edges)} edges and {len(self.counts)} counts: give one edge more "
                f"than counts"
            )


def _check_samples(whose: str, samples: Sequence[Sequence[str]] | None, count: int, what: str) -> None:
    if samples is not None and len(samples) != count:
        raise ValueError(f"{whose} name samples for {len(samples)} of {count} {what}: give a list for each")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on an axis that has a name: a threshold, a median, an eps."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Lines or bars over one pair of axes.

    Attributes:
        title: a heading. Charts of one title on several models are drawn over one another where both are lines.
        text: one sentence that says how to read it.
        x: the axis's name with its unit, for example ``"eps (1/255)"``.
        y: the same of the other axis.
        series: what is drawn.
        x_marks: named places on the x axis, drawn as vertical lines.
        y_marks: named places on the y axis, drawn as horizontal lines.
        log_x: on a logarithmic x axis; what lies at or below zero is then only in the table of the numbers.
        y_range: what the y axis shows at least, for example ``(0, 1)`` for a share; by default it follows the data.
    """

    title: str
    text: str
    x: str
    y: str
    series: tuple[Line | Bars, ...]
    _: KW_ONLY
    x_marks: tuple[Mark, ...] = ()
    y_marks: tuple[Mark, ...] = ()
    log_x: bool = False
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """Cells of a table, and a verdict on them: ``"passed"``, ``"failed"``, ``"note"`` or none."""

    cells: tuple[str, ...]
    status: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of text under named columns; the first column names the row. Statuses get a column of their own."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.title!r} has {len(row.cells)} cells for {len(self.columns)} columns: "
                    f"{row.cells}"
                )


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
