"""Filter banks, each against every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.lenses.filter_banks import Alignment, Match, align

Pair = tuple[str, str]
"""The names of two banks."""


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The filters of one layer, O×I×h×w, and which of them are dead, O."""

    name: str
    layer: str
    weight: Tensor
    dead: Tensor

    @property
    def shape(self) -> str:
        return "×".join(map(str, self.weight.shape))

    @property
    def alive(self) -> list[int]:
        return [int(each) for each in (~self.dead).nonzero()]


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Every bank against every other, by their names."""

    alignments: Mapping[Pair, Alignment]
    matches: Mapping[Pair, Match]

    @classmethod
    def of(cls, banks: Sequence[Bank], weights: Sequence[Tensor]) -> Alike:
        alignments = {}
        for (one, first), (other, second) in combinations(zip(banks, weights, strict=True), 2):
            alignment = align(first, second)
            alignments[one.name, other.name], alignments[other.name, one.name] = alignment, alignment.turned
        return cls(alignments, {pair: each.best for pair, each in alignments.items()})

    def similarity(self, bank: Bank) -> NDArray[np.float64]:
        """For each filter the mean |cosine| with its best match in each other bank; NaN where it is dead."""
        of_bank = [match.cosine.numpy() for (one, _), match in self.matches.items() if one == bank.name]
        return np.asarray(np.mean(of_bank, axis=0))

    def between(self, pair: Pair) -> float:
        """The mean |cosine| of the live filters of the first with their best match in the second."""
        return float(self.matches[pair].cosine.nanmean())
