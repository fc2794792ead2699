"""Figures of a layer's channels over any number of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_ROUNDING = 1e-6  # of the channel's largest magnitude: a constant that is computed in several ways


@dataclass(frozen=True, slots=True, eq=False)
class ChannelFigures:
    """What C channels did over some images: a commutative monoid under `merge`.

    Attributes:
        largest: C, the largest activation.
        smallest: C, the smallest.
        above_zero: C, how many units of the channel were above zero.
        units: how many there were, all images together.
    """

    largest: NDArray[np.float64]
    smallest: NDArray[np.float64]
    above_zero: NDArray[np.int64]
    units: int

    def merge(self, other: ChannelFigures) -> ChannelFigures:
        """The figures over the images of both."""
        return ChannelFigures(
            np.maximum(self.largest, other.largest),
            np.minimum(self.smallest, other.smallest),
            self.above_zero + other.above_zero,
            self.units + other.units,
        )

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which channels never rose above zero, or never changed, C; further images can only make fewer of them."""
        extent = np.maximum(np.abs(self.largest), np.abs(self.smallest))
        return (self.largest <= 0) | (self.largest - self.smallest <= _ROUNDING * extent)

    @property
    def sparsity(self) -> NDArray[np.float64]:
        """The share of each channel's units that were not above zero, C."""
        return 1 - self.above_zero / self.units


def channel_figures(maps: Tensor) -> ChannelFigures:
    """The figures of the channels of maps N×C×h×w."""
    return ChannelFigures(
        maps.amax((0, 2, 3)).cpu().double().numpy(),
        maps.amin((0, 2, 3)).cpu().double().numpy(),
        (maps > 0).sum((0, 2, 3)).cpu().numpy(),
        maps.numel() // maps.shape[1],
    )
