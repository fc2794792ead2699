"""Images as spectra of decorrelated colours."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.lenses.fourier import Fourier, _mixing

GREY = torch.full((1,), 0.5, dtype=torch.float64)


def images(channels, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, channels, *size, generator=generator, dtype=torch.float64) * 0.98 + 0.01


@given(
    channels=st.sampled_from([1, 2, 3, 4]),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    centre=st.floats(0, 1),
)
def test_what_is_encoded_is_decoded(channels, size, centre):
    fourier = Fourier(size, torch.full((channels,), centre, dtype=torch.float64))
    given_ones = images(channels, size)
    spectra = fourier.encode(given_ones)
    assert spectra.shape == (2, channels, size[0], 2 * (size[1] // 2 + 1))
    torch.testing.assert_close(fourier.decode(spectra), given_ones, rtol=0, atol=1e-9)


def test_black_and_white_come_back_nearly():
    fourier = Fourier((4, 5), torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64))
    extreme = images(3, (4, 5)).round()
    change = (fourier.decode(fourier.encode(extreme)) - extreme).abs()
    assert change.max() == pytest.approx(1 / 256)


@pytest.mark.parametrize(("given_one", "shown"), [(0.0, 0.25), (0.3, 0.3), (1.0, 0.75)])
def test_a_spectrum_of_zeros_is_the_centre_colour(given_one, shown):
    fourier = Fourier((3, 4), torch.full((3,), given_one, dtype=torch.float64))
    found = fourier.decode(torch.zeros(1, 3, 3, 6, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full((1, 3, 3, 4), shown, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (15, 16), (16, 9), (12, 24)])
@pytest.mark.parametrize(("down", "across"), [(0, 1), (1, 0), (2, 3), (-3, 2), (-1, 1)])
def test_amplitudes_fall_a_little_faster_than_those_of_natural_images(size, down, across):
    """A coefficient of 1 is a wave of twice k^-1.25, where k counts waves over the longer side."""
    spectrum = torch.zeros(1, 1, size[0], 2 * (size[1] // 2 + 1), dtype=torch.float64)
    spectrum[0, 0, down, 2 * across] = 1
    waves = Fourier(size, GREY).decode(spectrum).logit()[0, 0]
    k = max(size) * math.hypot(down / size[0], across / size[1])
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    phase = 2 * math.pi * (down * y / size[0] + across * x / size[1])
    # A wave along the columns alone is its own mirror image only together with the row −down, which is 0 here.
    height = (1 if across == 0 else 2) * max(k, 1) ** -1.25
    torch.testing.assert_close(waves, height * phase.double().cos(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(6, 7), (7, 6), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_reach_every_frequency(size, channels):
    fourier = Fourier(size, torch.full((channels,), 0.5, dtype=torch.float64))
    spectra = fourier.encode(images(channels, size)).requires_grad_()
    weights = images(channels, size, seed=1)
    (slope,) = torch.autograd.grad((fourier.decode(spectra) * weights).sum(), spectra)
    complex_slope = torch.view_as_complex(slope.view(*slope.shape[:3], -1, 2).contiguous())
    assert (complex_slope.abs() > 1e-9).all()


def test_colours_are_mixed_as_in_lucid():
    """lucid/optvis/param/color.py: the square root over the largest norm of its columns, times the channels."""
    root = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    expected = root / max(float(root[:, column].square().sum().sqrt()) for column in range(3))
    torch.testing.assert_close(_mixing(3), expected)
    fourier = Fourier((4, 4), torch.full((3,), 0.5))
    for channel in range(3):
        spectrum = torch.zeros(1, 3, 4, 6)
        spectrum[0, channel, 0, 0] = 0.5  # even, so that it is the colour of the channel
        torch.testing.assert_close(fourier.decode(spectrum).logit()[0, :, 1, 2], 0.5 * expected[:, channel])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_images_than_those_of_three_channels_keep_their_colours(channels):
    assert torch.equal(_mixing(channels), torch.eye(channels))
