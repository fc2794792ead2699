"""What a measurement has found so far: columns over the samples, and the few rows worth showing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.results import Row


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The `k` rows with the lowest rank; of equal ranks, the earlier sample.

    A total order, so that the same rows are kept in whatever order and grouping batches come in.
    """

    k: int
    rows: tuple[tuple[float, int, Row], ...] = ()

    @classmethod
    def lowest(
        cls,
        k: int,
        among: NDArray[np.bool_],
        rank: NDArray[np.floating],
        positions: NDArray[np.int64],
        draw: Callable[[int], Row],
    ) -> Kept:
        """Of a batch, those `among` with the lowest rank; only the rows that are kept are drawn."""
        first = sorted(map(int, np.flatnonzero(among)), key=lambda each: (rank[each], each))[:k]
        return cls(k, tuple((float(rank[each]), int(positions[each]), draw(each)) for each in first))

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows, the lowest rank first."""
        return tuple(row for _, _, row in self.rows)

    def at(self, places: NDArray[np.int64]) -> Kept:
        """The same rows, of samples that are at `places` of a larger set."""
        moved = ((rank, int(places[position]), row) for rank, position, row in self.rows)
        return Kept(self.k, tuple(sorted(moved, key=lambda each: each[:2])))

    def without(self, positions: NDArray[np.int64]) -> Kept:
        """The rows of other samples than these."""
        gone = set(map(int, positions))
        return Kept(self.k, tuple(each for each in self.rows if each[1] not in gone))

    def merge(self, other: Kept) -> Kept:
        """The lowest `k` of both."""
        return Kept(self.k, tuple(sorted((*self.rows, *other.rows), key=lambda each: each[:2])[: self.k]))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The findings on some of the samples: a commutative monoid under `merge`.

    Attributes:
        positions: which samples, ascending.
        columns: one array a quantity, in the order of `positions`.
        kept: rows for the exhibits, by exhibit.
    """

    positions: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    kept: Mapping[str, Kept] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def merge(self, other: Part) -> Part:
        """The findings on both sets of samples, which must be disjoint."""
        positions = np.concatenate([self.positions, other.positions])
        order = np.argsort(positions, kind="stable")
        return Part(
            positions[order],
            {name: np.concatenate([self[name], other[name]])[order] for name in self.columns},
            {name: kept.merge(other.kept[name]) for name, kept in self.kept.items()},
        )

    def with_column(self, name: str, values: NDArray[Any]) -> Part:
        """The same findings with a column added, or in place of one."""
        return Part(self.positions, {**self.columns, name: values}, self.kept)

    def at(self, places: NDArray[np.int64]) -> Part:
        """The same findings, on samples that are at `places` of a larger set.

        In ascending order of places, the rows kept are those of the whole; in another, of equal ranks it may be others.
        """
        moved, order = places[self.positions], np.argsort(places[self.positions], kind="stable")
        return Part(
            moved[order],
            {name: values[order] for name, values in self.columns.items()},
            {name: kept.at(places) for name, kept in self.kept.items()},
        )

    def without_rows(self, exhibit: str) -> Part:
        """The same findings with nothing kept for an exhibit: for rows that later findings may take back."""
        return Part(self.positions, self.columns, {**self.kept, exhibit: Kept(self.kept[exhibit].k)})

    def updated(self, other: Part) -> Part:
        """Newer findings in place of those on the same samples.

        Rows that had to make room for some that are now taken out do not come back.
        """
        stay = ~np.isin(self.positions, other.positions)
        rest = Part(
            self.positions[stay],
            {name: values[stay] for name, values in self.columns.items()},
            {name: kept.without(other.positions) for name, kept in self.kept.items()},
        )
        return rest.merge(other)
