"""Are two maps of one image alike? By the order of their pixels, and by their structure."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spearman's rank correlation of maps …×H×W, … in [-1, 1]; NaN where either map is constant.

    Pixels of one value share the mean of their ranks. Leading dimensions are broadcast, so that the maps of several
    networks S×N×H×W can be compared with those of one, N×H×W, whose pixels are ranked once.

    >>> rank_correlation(np.array([[[1.0, 2, 3]]]), np.array([[[5.0, 6, 60]]])).tolist()
    [1.0]
    """
    one, other = (_centred_ranks(maps) for maps in (first, second))
    scale = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    products = (one * other).sum(-1)
    found: NDArray[np.float64] = np.divide(products, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return found.clip(-1, 1)


def _centred_ranks(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    flat = maps.reshape(*maps.shape[:-2], -1)
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(flat, axis=-1).astype(np.float64)
    ranks -= ranks.mean(-1, keepdims=True)
    return ranks


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """The structural similarity of maps N×H×W, 0 and above, N in [-1, 1]; NaN where either map is constant.

    Wang, Bovik, Sheikh & Simoncelli 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    section 3 and equation 13, with their Gaussian window of 11×11 and σ = 1.5, and their constants K1 = 0.01 and
    K2 = 0.03. Each map is scaled to [0, 1] by its smallest and largest value first, as Adebayo et al. 2018 do, since
    the scale of an attribution means nothing; so L = 1. The mean is over the windows that lie inside the map; where the
    map is smaller than the window, the window is cut down to it.
    """
    one, other = _scaled(first), _scaled(second)
    taps_down, taps_across = (_taps(side).to(one) for side in first.shape[1:])

    def local_mean(maps: Tensor) -> Tensor:
        return conv2d(conv2d(maps[:, None], taps_down[None, None, :, None]), taps_across[None, None, None])[:, 0]

    mean_one, mean_other = local_mean(one), local_mean(other)
    variance_one = local_mean(one * one) - mean_one**2
    variance_other = local_mean(other * other) - mean_other**2
    covariance = local_mean(one * other) - mean_one * mean_other
    c1, c2 = _K1**2, _K2**2
    found = ((2 * mean_one * mean_other + c1) * (2 * covariance + c2)) / (
        (mean_one**2 + mean_other**2 + c1) * (variance_one + variance_other + c2)
    )
    return found.flatten(1).mean(1)


def _scaled(maps: Tensor) -> Tensor:
    """Each map from 0 to 1 in double precision: variances are differences of squares. NaN where it is constant."""
    maps = maps.cpu().double()
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, torch.nan)


def _taps(side: int) -> Tensor:
    reach = (min(_WINDOW, side) - 1) // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = (-(offsets**2) / (2 * _SIGMA**2)).exp()
    return taps / taps.sum()
