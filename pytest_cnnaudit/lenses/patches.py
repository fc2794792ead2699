"""The units that activate each channel of a layer most, over any number of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TopUnits:
    """The `k` samples that activate each of C channels most, each with its strongest unit; the strongest first.

    A commutative monoid under `merge`: equal activations are in the order of the samples, so that the same units are
    kept in whatever order and grouping batches come in.

    Attributes:
        k: how many are kept; n ≤ k where there were fewer samples.
        size: height and width of the maps.
        values: C×n, the activation of the unit: the largest of that channel in the sample.
        samples: C×n, the position of the sample.
        places: C×n×2, y and x of the unit in the channel's map; of equal units, the first row by row.
    """

    k: int
    size: tuple[int, int]
    values: NDArray[np.float64]
    samples: NDArray[np.int64]
    places: NDArray[np.int64]

    def merge(self, other: TopUnits) -> TopUnits:
        """The strongest of both; their samples must be disjoint."""
        values = np.concatenate([self.values, other.values], axis=1)
        samples = np.concatenate([self.samples, other.samples], axis=1)
        places = np.concatenate([self.places, other.places], axis=1)
        return TopUnits(self.k, self.size, values, samples, places)._sorted()

    def _sorted(self) -> TopUnits:
        at = np.arange(len(self.values))[:, None], np.lexsort((self.samples, -self.values))[:, : self.k]
        return TopUnits(self.k, self.size, self.values[at], self.samples[at], self.places[at])


def top_units(maps: Tensor, positions: NDArray[np.int64], k: int) -> TopUnits:
    """The units of each channel that are activated most in a batch, no two in one sample.

    Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", figure 2, and Springenberg et al.
    2015, "Striving for Simplicity", figure 4, show the top 9 of a validation set. As a strong pattern fires in many
    neighbouring units, a sample counts once for a channel, with its strongest unit.

    Args:
        maps: N×C×h×w, what the layer returns; every largest value must be a number.
        positions: N, which samples these are, ascending.
        k: how many are wanted.
    """
    channels = torch.arange(maps.shape[1], device=maps.device)[:, None]
    values, samples = _earliest_largest(_largest(maps).T.contiguous(), min(k, len(maps)))
    strongest = _numpy(maps[samples, channels].flatten(2)).argmax(2)  # the first of equal ones
    return TopUnits(
        k,
        (maps.shape[2], maps.shape[3]),
        _numpy(values).astype(np.float64),
        positions[samples.cpu().numpy()],
        np.stack(np.divmod(strongest, maps.shape[3]), axis=2),
    )._sorted()


def _largest(maps: Tensor) -> Tensor:
    """The largest value of each channel, N×C; pooling was measured to read maps in channels-last order faster."""
    if maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous():
        pooled: Tensor = torch.nn.functional.max_pool2d(maps, (maps.shape[2], maps.shape[3]))
        return pooled.flatten(1)
    return maps.amax((2, 3))


def _numpy(values: Tensor) -> NDArray[Any]:
    """NumPy's argmax was measured to take a tenth of torch's time; it knows no bfloat16."""
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()


def _earliest_largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row and where they are; of equal ones, those that come first."""
    largest, places = values.topk(k)
    if ((values >= largest[:, -1:]).sum(1) == k).all():
        return largest, places
    in_order = values.sort(dim=1, descending=True, stable=True)  # several times slower
    return in_order.values[:, :k], in_order.indices[:, :k]
