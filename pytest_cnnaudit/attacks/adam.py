"""Adam, for samples at different steps."""

from __future__ import annotations

from torch import Tensor

from pytest_cnnaudit.attacks.norms import spread

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8


def adam(gradient: Tensor, mean: Tensor, square: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step of length about one a value, and the new moments, in each sample's step `number` (N, the first is 1).

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """
    mean = _BETA1 * mean + (1 - _BETA1) * gradient
    square = _BETA2 * square + (1 - _BETA2) * gradient.square()
    count = number.to(gradient.dtype)
    scale = (square / spread(1 - _BETA2**count)).sqrt() + _TINY
    return mean / spread(1 - _BETA1**count) / scale, mean, square
