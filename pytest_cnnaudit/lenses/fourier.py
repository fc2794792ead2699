"""Images as spectra of decorrelated colours: the steepest way up is then no longer the one of high frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

_DECAY = 1.25
"""Natural images have amplitudes that fall with about 1/f; this falls a little faster, which gives larger shapes."""
_ROOM = 1 / 256  # how near to black and white the colours of a start may be; a sigmoid never gets there

# The square root of the colour covariance of ImageNet, scaled to columns of at most length 1: lucid's `color.py`
# (Olah et al. 2017, Apache 2.0), from https://github.com/tensorflow/lucid.
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class Fourier:
    """Images H×W as sigmoid(colours · F⁻¹(spectrum / kᵈ) + centre), with k in cycles an image; and back.

    Olah, Mordvintsev & Schubert 2017, "Feature Visualization", section "Preconditioning and Parameterization": ascent
    in the spectrum of whitened colours is ascent in another metric, in which all frequencies and colours have an equal
    chance.

    Args:
        size: height and width.
        centre: the colour of a spectrum of zeros, one value in [0, 1] for each channel; brought into [0.25, 0.75], as
            next to black or white a sigmoid hardly moves.
    """

    def __init__(self, size: tuple[int, int], centre: Tensor) -> None:
        self.size = size
        height, width = size
        cycles = max(size) * torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
        self._amplitudes = (cycles.clamp(min=1) ** -_DECAY).to(centre)
        self._centre = centre.clamp(0.25, 0.75).logit()[:, None, None]
        self._colours = _mixing(len(centre)).to(centre)

    def decode(self, spectra: Tensor) -> Tensor:
        """Images N×C×H×W in (0, 1) of spectra N×C×H×2(W // 2 + 1): real and imaginary parts by turns."""
        scaled = torch.view_as_complex(spectra.view(*spectra.shape[:3], -1, 2)) * self._amplitudes
        planes = torch.fft.irfft2(scaled, s=self.size, norm="forward")
        return (torch.einsum("ij,njhw->nihw", self._colours, planes) + self._centre).sigmoid()

    def encode(self, images: Tensor) -> Tensor:
        """The spectra of images N×C×H×W in [0, 1]; `decode` gives these back but for pure black and white."""
        planes = images.clamp(_ROOM, 1 - _ROOM).logit() - self._centre
        planes = torch.einsum("ij,njhw->nihw", torch.linalg.inv(self._colours), planes)
        scaled = torch.fft.rfft2(planes, norm="forward") / self._amplitudes
        spectra: Tensor = torch.view_as_real(scaled).flatten(3)
        return spectra


def _mixing(channels: int) -> Tensor:
    """How decorrelated channels make colours, C×C; other images than those of three channels keep theirs."""
    if channels != 3:
        return torch.eye(channels)
    colours = torch.tensor(_COLOURS)
    mixing: Tensor = colours / colours.norm(dim=0).amax()
    return mixing
