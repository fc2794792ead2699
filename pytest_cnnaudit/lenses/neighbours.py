"""The nearest neighbours of each of many points: exact, and without the matrix of all their distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.errors import AuditError

Points = NDArray[np.floating[Any]]
Load = Callable[[int, int], Points]
"""The points from one position up to another, n×D; they may be loaded when they are needed, and again."""

_SLICE = 2**25  # bytes of points in double precision at a time
_MOST = 2048  # points in a block: 32 MiB of distances
_SAME = 1e-29  # squared distance of directions; that of a vector and its multiple was measured to be up to 2e-31


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The k nearest of each of N points among the others, the nearest first; equally near ones by their positions.

    Attributes:
        squared: N×k, the squared Euclidean distances.
        positions: N×k, which points these are.
    """

    squared: NDArray[np.float64]
    positions: NDArray[np.int64]

    @property
    def euclidean(self) -> NDArray[np.float64]:
        """N×k, ‖a − b‖."""
        return np.sqrt(self.squared)

    @property
    def cosine(self) -> NDArray[np.float64]:
        """N×k, 1 − cos(a, b), where the points are `directions`."""
        return self.squared / 2


def directions(points: Points) -> NDArray[np.float64]:
    """Points n×D divided by their lengths, n×(D+1): ½ ‖â − b̂‖² = 1 − cos(a, b).

    A point at zero has no direction: it gets one of its own, the last coordinate, at a right angle to all others.

    >>> directions(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8, 0. ],
           [0. , 0. , 1. ]])
    """
    lengths = np.sqrt(np.square(points, dtype=np.float64).sum(1, keepdims=True))
    return np.hstack([points / np.where(lengths > 0, lengths, 1), lengths == 0])


def block_size(width: int, itemsize: int, within: int) -> int:
    """How many points of `width` numbers fit into `within` bytes, two blocks of them; at least 1, at most 2048.

    >>> block_size(3 * 224 * 224, 4, within=2**29), block_size(64, 4, within=2**29), block_size(10**9, 8, within=2**29)
    (445, 2048, 1)
    """
    return max(1, min(_MOST, within // (2 * width * itemsize)))


def check_neighbours(k: int, count: int) -> None:
    """Raise an `AuditError` unless `count` points have `k` neighbours each."""
    if count < 2:
        raise AuditError("A single sample has no neighbours; give two or more.")
    if not 1 <= k < count:
        raise AuditError(f"k={k} is no number of neighbours among {count} samples; give 1 to {count - 1}.")


def nearest_neighbours(
    load: Load, count: int, k: int, *, at_once: int, device: torch.device | str = "cpu", unit: bool = False
) -> Nearest:
    """The `k` nearest of each point by Euclidean distance, itself left out.

    Blocks of points meet in pairs, each pair once. Their distances are first computed by a matrix product,
    ‖a‖² + ‖b‖² − 2 a·b, which loses digits where points are close together. It is used only to rule out what is
    farther, by more than its error can be, than k others; Σ(a − b)² of the rest is computed anew, so that equal points
    are at distance 0, equally near ones tie, and blocks change nothing. Both in double precision.

    Args:
        load: the points n×D, finite.
        count: how many there are.
        k: from 1 to count - 1.
        at_once: points in a block, see `block_size`. Of b blocks, each is loaded as often as it meets an earlier one,
            (b + 1) / 2 times on average.
        device: for the matrix product.
        unit: the points are `directions`; what lies within rounding then counts as equal.

    Raises:
        AuditError: there are not `k` others.
    """
    check_neighbours(k, count)
    found = Nearest(np.full((count, k), np.inf), np.full((count, k), count))
    for begin in range(0, count, at_once):
        held = load(begin, min(begin + at_once, count))
        for start in range(begin, count, at_once):
            others = held if start == begin else load(start, min(start + at_once, count))
            screen = _Screen.of(held, others, device, _SAME if unit else 0.0)
            if start == begin:
                screen.squared.fill_diagonal_(torch.inf)
            else:
                _improve(found, start, screen.turned, begin)
            _improve(found, begin, screen, start)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Screen:
    """Squared distances between two blocks, n×m, wrong by no more than `error`; and exact ones where they matter."""

    points: Points
    others: Points
    squared: Tensor
    error: float
    same: float

    @classmethod
    def of(cls, points: Points, others: Points, device: torch.device | str, same: float) -> _Screen:
        device = torch.device(device)
        if device.type == "mps":  # has no double precision
            device = torch.device("cpu")
        n, m, width = len(points), len(others), points.shape[1]
        product = torch.zeros(n, m, dtype=torch.float64, device=device)
        lengths = [torch.zeros(len(each), dtype=torch.float64, device=device) for each in (points, others)]
        step = max(1, _SLICE // (8 * (n + m)))
        for left in range(0, width, step):
            a, b = (
                torch.from_numpy(each[:, left : left + step]).to(device, torch.float64) for each in (points, others)
            )
            product.addmm_(a, b.T)
            lengths[0] += a.square().sum(1)
            lengths[1] += b.square().sum(1)
        squared = product.mul_(-2).add_(lengths[0][:, None]).add_(lengths[1])
        # Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1: a sum of D products is wrong by no
        # more than D u |a|·|b|, in whatever order it is added up; twice that, for the rest.
        largest = sum(math.sqrt(float(each.max())) for each in lengths)
        error = 2 * (width + 4) * float(np.finfo(np.float64).eps) / 2 * largest**2
        return cls(points, others, squared, error, same)

    @property
    def turned(self) -> _Screen:
        """The same, seen from the other block."""
        return _Screen(self.others, self.points, self.squared.T, self.error, self.same)

    def exact(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Σ(a − b)² of pairs, each on its own: the same whatever pairs it is computed with."""
        squared = np.empty(len(rows))
        step = max(1, _SLICE // (8 * self.points.shape[1]))
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            difference = self.points[rows[part]].astype(np.float64)
            difference -= self.others[columns[part]]
            squared[part] = np.square(difference, out=difference).sum(1)
        squared[squared <= self.same] = 0
        return squared


def _improve(found: Nearest, begin: int, screen: _Screen, first: int) -> None:
    """Let the points from `begin` on, what was found of which is replaced, meet others, from `first` on."""
    n, m = screen.squared.shape
    k = found.squared.shape[1]
    squared, positions = found.squared[begin : begin + n], found.positions[begin : begin + n]
    farthest = torch.from_numpy(squared[:, -1].copy()).to(screen.squared.device)
    if m >= k:
        kth = screen.squared.topk(k, largest=False).values.amax(1)
        farthest = torch.minimum(farthest, kth + screen.error)
    near = (screen.squared <= (farthest + screen.error)[:, None]) & (screen.squared < torch.inf)
    rows, columns = (each.cpu().numpy() for each in near.nonzero(as_tuple=True))

    owners = np.concatenate([np.repeat(np.arange(n), k), rows])
    values = np.concatenate([squared.ravel(), screen.exact(rows, columns)])
    places = np.concatenate([positions.ravel(), first + columns])
    order = np.lexsort((places, values, owners))
    ranks = np.arange(len(order)) - np.searchsorted(owners[order], owners[order])
    best = order[ranks < k]
    squared[:], positions[:] = values[best].reshape(n, k), places[best].reshape(n, k)
