"""What there is to see of a measurement: pictures, charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
