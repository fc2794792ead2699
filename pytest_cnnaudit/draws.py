"""Random numbers without a generator: each follows from a sample's seed, its step and a position, by hashing.

A sample that enters a batch late, or another batch, or another device, still draws the same numbers at its own step;
and a batch whose samples are at different steps draws in one go.
"""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", section 3), its constants
# written as the signed integers that torch has. Products wrap around, as they should.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_BITS = 24  # what a float32 below 1 holds: nothing is rounded


def draw(seeds: Tensor, steps: Tensor, count: int) -> Tensor:
    """`count` numbers for each sample, uniform in [0, 1), N×count in float32.

    Args:
        seeds: N integers.
        steps: N integers; other steps are other numbers.
        count: numbers for each sample; asking for more leaves the first ones as they are.

    >>> draw(torch.tensor([7, 7, 8]), torch.tensor([0, 1, 0]), 2)
    tensor([[0.9502, 0.8797],
            [0.5245, 0.0019],
            [0.9959, 0.8621]])
    """
    position = torch.arange(1, count + 1, device=seeds.device)
    key = _mix(_mix(seeds + _GAMMA) + steps)
    return _shift(_mix(key[:, None] + position * _GAMMA), 64 - _BITS) / float(2**_BITS)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of the 64-bit integers in which every bit in moves half of the bits out."""
    z = (z ^ _shift(z, 30)) * _FACTORS[0]
    z = (z ^ _shift(z, 27)) * _FACTORS[1]
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """Shift right as unsigned integers do: torch's own shift repeats the sign bit."""
    return z.bitwise_right_shift(by).bitwise_and(2 ** (64 - by) - 1)
