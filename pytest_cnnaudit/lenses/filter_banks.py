"""Do two banks of filters hold the same filters? By the cosine of each with its best match in the other.

That first layers look alike is said by Krizhevsky et al. 2012 (figure 3) and Yosinski et al. 2014, "How transferable
are features in deep neural networks?" (section 1: Gabor filters and colour blobs). Li et al. 2016, "Convergent
Learning", match the units of several networks so, each with its best or one to one, by the correlation of what they do;
here it is by that of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

_SLICE = 2**20  # cosines at a time: 8 MiB; four times as many were slower
_TIE = 1e-9  # of a cosine, a pixel: shifts that fit equally well go to the smallest, whatever rounding says


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Every filter of one bank against every filter of another, each pair where it fits best.

    Attributes:
        cosine: A×B in [-1, 1], the cosine of largest magnitude over all shifts; NaN where either filter is zero.
        shift: A×B×2, y and x of that shift: how far the corner of the second filter lies below and to the right of that
            of the first. See `align`.
    """

    cosine: Tensor
    shift: Tensor

    @property
    def turned(self) -> Alignment:
        """The same, seen from the second bank: B×A."""
        return Alignment(self.cosine.T, -self.shift.transpose(0, 1))

    @property
    def best(self) -> Match:
        """For each filter of the first bank, the one of the second that fits best."""
        fits = self.cosine.abs().nan_to_num(-1.0)
        found = fits.argmax(1)
        rows = torch.arange(len(found), device=found.device)
        cosine = self.cosine[rows, found]
        unknown = cosine.isnan()
        sign = torch.where(cosine < 0, -1, 1).masked_fill(unknown, 0)
        return Match(cosine.abs(), found.masked_fill(unknown, -1), self.shift[rows, found], sign)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """For each of A filters its best match among others.

    Attributes:
        cosine: A in [0, 1], the |cosine|; NaN for a filter of zeros, or if all others are zero.
        filter: A, which filter it is; -1 where the cosine is NaN.
        shift: A×2, y and x by which that one is moved.
        sign: A, 1 or -1, where it is the negative that fits; 0 where the cosine is NaN.
    """

    cosine: Tensor
    filter: Tensor
    shift: Tensor
    sign: Tensor


def best_match(bank: Tensor, other: Tensor) -> Match:
    """For each filter of one bank, its best match in another, over all filters, shifts and both signs. See `align`.

    Args:
        bank: filters A×I×h×w.
        other: filters B×I×h'×w'; kernels may be of another size.

    >>> edge = torch.zeros(1, 1, 5, 5)
    >>> edge[..., 1:3, 1], edge[..., 1:3, 2] = 1, -1
    >>> match = best_match(edge, -edge.roll((2, 1), (2, 3)))
    >>> round(float(match.cosine), 9), match.shift.tolist(), match.sign.tolist()
    (1.0, [[-2, -1]], [-1])
    """
    return align(bank, other).best


def align(bank: Tensor, other: Tensor) -> Alignment:
    """The cosine of every filter a with every filter b at the shift d where its magnitude is largest.

    cos(a, b, d) = Σ a[i, p] · b[i, p − d] / (‖a‖ ‖b‖), over the channels i and the pixels p where both filters lie, for
    all d with any overlap: the zero-padded cross-correlation, here by Fourier transforms. The norms are those of the
    whole filters, not of their overlap: two corners that happen to agree would else score 1, and a filter scores 1 only
    with one that says the same, moved to where nothing of it is cut off.

    Kernels of another size are compared pixel by pixel, and not resampled: both look at the same images, and how far
    apart a filter is applied (its stride) changes where it looks, not for what. So an edge and the same edge enlarged
    differ.

    Args:
        bank: filters A×I×h×w.
        other: filters B×I×h'×w'.
    """
    first, second = _unit(bank), _unit(other)
    zero = ~first.flatten(1).any(1)[:, None] | ~second.flatten(1).any(1)[None, :]
    size = (first.shape[2] + second.shape[2] - 1, first.shape[3] + second.shape[3] - 1)
    down, across = (_shifts(first.shape[axis], second.shape[axis]).to(first.device) for axis in (2, 3))
    centre = [(first.shape[axis] - second.shape[axis]) / 2 for axis in (2, 3)]
    handicap = _TIE * ((down - centre[0]).abs()[:, None] + (across - centre[1]).abs()[None, :])
    spectrum = torch.fft.rfft2(second, s=size).conj()
    cosines, places = [], []
    at_once = max(1, _SLICE // (len(second) * size[0] * size[1]))
    for begin in range(0, len(first), at_once):
        piece = torch.fft.rfft2(first[begin : begin + at_once], s=size)
        products = torch.einsum("aiyx,biyx->abyx", piece, spectrum)
        all_shifts = torch.fft.irfft2(products, s=size)
        place = (all_shifts.abs() - handicap).flatten(2).argmax(2)
        cosines.append(all_shifts.flatten(2).gather(2, place[..., None])[..., 0])
        places.append(place)
    place = torch.cat(places)
    shift = torch.stack([down[place // size[1]], across[place % size[1]]], dim=-1)
    return Alignment(torch.cat(cosines).clamp(-1, 1).masked_fill(zero, torch.nan), shift)


def moved(weight: Tensor, shift: Sequence[int], size: Sequence[int]) -> Tensor:
    """A filter I×h'×w' moved by a shift y, x into a frame (…, h, w) of zeros; what falls outside is cut off.

    >>> moved(torch.tensor([[[1, 2], [3, 4]]]), (1, -1), (1, 2, 2)).tolist()
    [[[0, 0], [2, 0]]]
    """
    height, width = size[-2:]
    frame = weight.new_zeros(len(weight), height, width)
    down, right = (
        slice(max(step, 0), max(step + length, 0)) for step, length in zip(shift, weight.shape[1:], strict=True)
    )
    into = frame[:, down, right]
    top, left = (max(-step, 0) for step in shift)
    into.copy_(weight[:, top : top + into.shape[1], left : left + into.shape[2]])
    return frame


def _unit(bank: Tensor) -> Tensor:
    """Filters of length 1 in double precision; one of zeros stays so."""
    flat = bank.detach().double().flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)  # squares can underflow
    unit: Tensor = normalize(flat, dim=1).reshape(bank.shape)
    return unit


def _shifts(length: int, other: int) -> Tensor:
    """Which shift each entry of a circular correlation is: 0, 1, …, length − 1, and then the negative ones."""
    return torch.cat([torch.arange(length), torch.arange(1 - other, 0)])


def white_noise(shape: Sequence[int], *, seed: int) -> Tensor:
    """Filters of Gaussian noise, O×I×h×w."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape)))


def smooth_noise(shape: Sequence[int], banks: Sequence[Tensor], *, seed: int) -> Tensor:
    """Filters of Gaussian noise, O×I×h×w, that are as smooth, as coloured and as centred as those of some banks.

    Each is a random mixture n = Σ gₖ fₖ of the unit filters of all banks, gₖ normal with a variance of one over the
    size of fₖ's bank; those of another kernel size are first padded or cut, middle on middle. So E[n nᵀ] is the sum of
    the banks' mean second moments, spectra and colours among them, and the filters themselves are gone.

    Mixtures of each bank's own filters would be too easy to surpass: two banks of 64 such filters, drawn from one
    distribution, were 0.02 to 0.03 more alike than that (kernels of 3×3 to 11×11), and 0.00 to 0.02 than this. On the
    safe side, too, it is where filters are few for their taps: for 64 and 64 filters of white noise of 3×7×7, which
    score 0.25, it is 0.31.
    """
    height, width = shape[2:]
    framed = [
        pad(_unit(bank), (*_beside(width - bank.shape[3]), *_beside(height - bank.shape[2]))) / len(bank) ** 0.5
        for bank in banks
    ]
    filters = torch.cat(framed).flatten(1)
    mixing = torch.from_numpy(np.random.default_rng(seed).standard_normal((shape[0], len(filters))))
    mixtures: Tensor = (mixing.to(filters.device) @ filters).reshape(tuple(shape))
    return mixtures


def _beside(extra: int) -> tuple[int, int]:
    """What to pad before and behind; negative to cut."""
    return extra // 2, extra - extra // 2
