"""Figures of convolution filters: functions of the weight alone, O×I×h×w.

Sources: the von Neumann ratio (von Neumann 1941) for roughness; Gavrikov & Keuper 2022, "CNN Filter DB", section 3, for
sparsity, variance entropy and orthogonality.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

DEAD = 0.01  # a filter's norm against the layer's largest
DUPLICATE = 0.95  # |cosine| of two filters
_FFT_SIZE = 32  # kernels are padded to this for their spectrum


def roughness(weight: Tensor) -> Tensor:
    """The von Neumann ratio of each filter, O: 0 is constant, 1 white noise, 2 a checkerboard.

    mean (w[i] − w[j])² over neighbouring taps i, j (horizontal and vertical, all input channels) / (2 · mean w²).
    NaN for a filter of zeros.
    """
    weight = weight.double()
    across, down = weight.diff(dim=3).pow(2).flatten(1), weight.diff(dim=2).pow(2).flatten(1)
    ratio: Tensor = torch.cat([across, down], 1).mean(1) / (2 * weight.pow(2).flatten(1).mean(1))
    return ratio


def norms(weight: Tensor) -> Tensor:
    """‖w‖₂ of each filter, O."""
    lengths: Tensor = weight.double().flatten(1).norm(dim=1)
    return lengths


def dead(weight: Tensor) -> Tensor:
    """Whether each filter is dead, O bool: its norm is under 1% of the layer's largest."""
    return norms(weight) <= DEAD * norms(weight).amax()


def duplicates(weight: Tensor) -> list[tuple[int, int]]:
    """Pairs of live filters that say the same: |cosine| > 0.95."""
    flat = weight.double().flatten(1)
    cosines = torch.nn.functional.normalize(flat, dim=1)
    alive = ~dead(weight)
    same = (cosines @ cosines.T).abs().triu(1) > DUPLICATE
    return [(int(a), int(b)) for a, b in (same & alive[:, None] & alive[None, :]).nonzero()]


def high_frequency_energy(weight: Tensor) -> Tensor:
    """The share of each filter's energy at radial frequencies above a quarter cycle a pixel (half of Nyquist), O.

    From the zero-padded 2-D Fourier transform, all input channels together. White noise has 1 − π/16 = 0.80.
    """
    spectrum = torch.fft.fft2(weight.double(), s=(_FFT_SIZE, _FFT_SIZE)).abs().pow(2).sum(1)
    frequency = torch.fft.fftfreq(_FFT_SIZE, dtype=torch.float64, device=weight.device)
    high = torch.hypot(frequency[:, None], frequency[None, :]) > 0.25
    shares: Tensor = (spectrum * high).sum((1, 2)) / spectrum.sum((1, 2))
    return shares


def sparsity(weight: Tensor) -> float:
    """The share of h×w kernels whose taps all lie within 1% of the layer's largest tap around zero.

    Gavrikov & Keuper 2022, section 3: |w| ≤ ε₀ = max |w| / 100.
    """
    largest = weight.abs().amax()
    return float((weight.abs().amax((2, 3)) <= largest / 100).double().mean())


def variance_entropy(weight: Tensor) -> float:
    """−Σ v̂ᵢ log₁₀ v̂ᵢ over the explained-variance shares v̂ of the principal components of all O·I kernels.

    Gavrikov & Keuper 2022, section 3. 0: one component explains every kernel; log₁₀(h·w): none explains more than
    another, as in noise.
    """
    kernels = weight.double().flatten(0, 1).flatten(1)
    shares = torch.linalg.svdvals(kernels - kernels.mean(0)).pow(2)
    shares = shares / shares.sum()
    shares = shares[shares > 0]
    return float(-(shares * shares.log10()).sum())


def orthogonality(weight: Tensor) -> float:
    """1 − Σ |W Wᵀ − I| / (O (O − 1)) for filters as unit rows of W: 1 is orthogonal, 0 parallel.

    Gavrikov & Keuper 2022, section 3. NaN for a single filter.
    """
    rows = torch.nn.functional.normalize(weight.double().flatten(1), dim=1)
    count = len(rows)
    if count < 2:
        return math.nan
    overlap = (rows @ rows.T).fill_diagonal_(0).abs().sum() / (count * (count - 1))
    return float(1 - overlap)


def white_noise_roughness(shape: tuple[int, ...], *, draws: int = 20_000, seed: int = 0) -> Tensor:
    """Roughness of `draws` filters of white noise with I×h×w taps, ascending: the null for one filter."""
    generator = np.random.default_rng(seed)
    chunks = [  # in pieces: filters of deep layers have thousands of taps
        roughness(torch.from_numpy(generator.standard_normal((min(1000, draws - at), *shape[1:]))))
        for at in range(0, draws, 1000)
    ]
    return torch.cat(chunks).sort().values


def p_white_noise(values: Tensor, null: Tensor) -> Tensor:
    """The chance that white noise has a roughness as far out as each value, two-sided; NaN stays NaN.

    Twice the smaller tail, with the observation counted in (Davison & Hinkley 1997, equation 4.11). Smooth filters and
    high-pass ones (a Laplacian) are both unlike noise.
    """
    smoother = torch.searchsorted(null, values.contiguous(), right=True) + 1
    rougher = len(null) - torch.searchsorted(null, values.contiguous()) + 1
    p = (2 * torch.minimum(smoother, rougher) / (len(null) + 1)).clamp(max=1)
    return torch.where(values.isnan(), torch.nan, p)


def noise_variance_entropy(shape: tuple[int, ...], *, draws: int = 50, seed: int = 0) -> float:
    """The mean variance entropy of Gaussian kernels of the same shape O×I×h×w."""
    generator = np.random.default_rng(seed)
    return float(np.mean([variance_entropy(torch.from_numpy(generator.standard_normal(shape))) for _ in range(draws)]))
