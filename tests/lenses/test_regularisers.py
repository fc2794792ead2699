"""What keeps an image from turning into noise: each regulariser against its formula, by another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pytest_cnnaudit.lenses import regularisers

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 2, 9, 12, generator=GENERATOR, dtype=torch.float64)
CENTRE = torch.tensor([0.4, 0.6], dtype=torch.float64)[:, None, None]
STILL = {"jitter": 0.0, "scale": (1.0, 1.0), "rotate": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shrinking_is_a_gradient_step_of_the_l2_norm():
    rate, weight = 0.3, 0.2
    images = IMAGES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(weight * (images - CENTRE).square().sum(), images)
    shrunk = regularisers.shrink(IMAGES, CENTRE, 2 * rate * weight)
    torch.testing.assert_close(shrunk, IMAGES - rate * slope, rtol=0, atol=1e-12)
    assert torch.equal(regularisers.shrink(IMAGES, CENTRE, 0.0), CENTRE + (IMAGES - CENTRE))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 1.7, 2.5])
@pytest.mark.parametrize("size", [(9, 12), (16, 16), (17, 11)])
def test_blur_is_scipys_with_edges_reflected(sigma, size):
    images = torch.rand(2, 3, *size, generator=seeded(), dtype=torch.float64)
    expected = gaussian_filter(images.numpy(), sigma, mode="mirror", radius=math.ceil(3 * sigma), axes=(2, 3))
    np.testing.assert_allclose(regularisers.blur(images, sigma).numpy(), expected, atol=1e-12)


@given(side=st.tuples(st.integers(1, 12), st.integers(1, 12)), sigma=st.floats(0.05, 30))
def test_blur_takes_any_size_keeps_even_colours_and_adds_no_extremes(side, sigma):
    images = torch.rand(1, 2, *side, generator=seeded(1), dtype=torch.float64)
    blurred = regularisers.blur(images, sigma)
    assert blurred.shape == images.shape
    assert blurred.min() >= images.min() - 1e-12
    assert blurred.max() <= images.max() + 1e-12
    even = torch.full_like(images, 0.3)
    torch.testing.assert_close(regularisers.blur(even, sigma), even, rtol=0, atol=1e-12)


def test_the_pixels_that_differ_least_become_the_centre_colour():
    centre = torch.tensor([0.5, 0.5])[:, None, None]
    # Distances 0.5, 0.1, 0.3 and 0.2, over both channels.
    image = torch.tensor([[[0.8, 0.6], [0.5, 0.5]], [[0.9, 0.5], [0.2, 0.7]]])[None]
    clipped = regularisers.clip_small_norm(image, centre, 0.5)
    assert torch.equal(clipped[0, :, 0, 1], torch.tensor([0.5, 0.5]))
    assert torch.equal(clipped[0, :, 1, 1], torch.tensor([0.5, 0.5]))
    assert torch.equal(clipped[0, :, [0, 1], [0, 0]], image[0, :, [0, 1], [0, 0]])


def test_the_pixels_that_contribute_least_become_the_centre_colour():
    centre = torch.tensor([0.5, 0.5])[:, None, None]
    image = torch.tensor([[[1.0, 0.6], [0.9, 0.5]], [[1.0, 0.6], [0.1, 0.7]]])[None]
    # Contributions: a large pixel without a slope 0, a small one with a large one 0.1·8 + 0.1·0 = 0.8; 0.4·1 − 0.4·1 =
    # 0 if the channels cancel, and |0.2·(−3)| = 0.6.
    gradient = torch.tensor([[[0.0, 8.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, -3.0]]])[None]
    clipped = regularisers.clip_small_contribution(image, gradient, centre, 0.5)
    assert torch.equal(clipped[0, :, :, 0], torch.full((2, 2), 0.5))
    assert torch.equal(clipped[0, :, :, 1], image[0, :, :, 1])
    # The slope's sign and scale change nothing.
    assert torch.equal(regularisers.clip_small_contribution(image, -7 * gradient, centre, 0.5), clipped)


@given(share=st.floats(0, 0.99))
def test_as_large_a_share_is_clipped_of_each_image_by_itself(share):
    for name, clip in (
        ("norm", lambda images: regularisers.clip_small_norm(images, CENTRE, share)),
        ("contribution", lambda images: regularisers.clip_small_contribution(images, 1 + images, CENTRE, share)),
    ):
        clipped = clip(IMAGES * torch.tensor([1.0, 0.5, 1e-3])[:, None, None, None])
        gone = (clipped == CENTRE).all(1).flatten(1).sum(1)
        assert gone.tolist() == [int(share * 108)] * 3, name
        torch.testing.assert_close(clip(IMAGES)[1:2], clip(IMAGES[1:2]), rtol=0, atol=0)


def test_of_pixels_that_are_equal_none_is_clipped():
    even = torch.full((1, 2, 3, 3), 0.9, dtype=torch.float64)
    assert torch.equal(regularisers.clip_small_norm(even, CENTRE, 0.5), even)


def test_the_slope_of_total_variation_is_that_of_autograd():
    images = IMAGES.clone().requires_grad_()
    (expected,) = torch.autograd.grad(images.diff(dim=2).abs().sum() + images.diff(dim=3).abs().sum(), images)
    assert torch.equal(regularisers.total_variation_slope(IMAGES), expected)
    assert not regularisers.total_variation_slope(torch.full((1, 1, 4, 4), 0.3)).any()


def test_the_gradient_is_weighted_towards_the_middle():
    weights = regularisers.centred((7, 15), 0.3)
    assert weights[3, 7] == weights.max() == 1
    torch.testing.assert_close(weights, weights.flip(0))
    torch.testing.assert_close(weights, weights.flip(1))
    # At three of seven rows, and at six of fifteen columns: a Gaussian in shares of each side.
    assert float(weights[0, 7]) == pytest.approx(math.exp(-((3 / 7) ** 2) / (2 * 0.3**2)))
    assert float(weights[3, 1]) == pytest.approx(math.exp(-((6 / 15) ** 2) / (2 * 0.3**2)))
    assert float(weights[0, 1]) == pytest.approx(float(weights[0, 7] * weights[3, 1]))


def test_nothing_moves_where_moves_are_off():
    assert torch.equal(regularisers.wobble(IMAGES, seeded(), **STILL), IMAGES)


@pytest.mark.parametrize("moves", [{}, {"jitter": 0.4}, {"jitter": 0.4, "rotate": 20.0}, {"scale": (0.5, 2.0)}])
def test_all_images_of_a_batch_move_alike_and_four_numbers_are_drawn(moves):
    generator, drawn = seeded(3), seeded(3)
    together = regularisers.wobble(IMAGES, generator, **(STILL | moves))
    for number in range(3):
        alone = regularisers.wobble(IMAGES[number : number + 1], seeded(3), **(STILL | moves))
        torch.testing.assert_close(alone[0], together[number], rtol=0, atol=1e-12)
    torch.rand(4, generator=drawn, dtype=torch.float64)
    assert torch.equal(generator.get_state(), drawn.get_state())
    assert torch.equal(together, IMAGES) == (not moves)


def test_jitter_rolls_by_whole_pixels_no_further_than_its_share():
    image = torch.zeros(1, 1, 20, 40)
    image[0, 0, 0, 0] = 1
    places = set()
    for seed in range(200):
        moved = regularisers.wobble(image, seeded(seed), **(STILL | {"jitter": 0.1}))
        assert moved.sum() == 1
        (row,), (column,) = (each.tolist() for each in moved[0, 0].nonzero(as_tuple=True))
        places.add(((row + 10) % 20 - 10, (column + 20) % 40 - 20))
    assert {row for row, _ in places} == set(range(-2, 3))
    assert {column for _, column in places} == set(range(-4, 5))


@pytest.mark.parametrize("seed", range(5))
def test_turns_and_sizes_are_those_that_were_drawn(seed):
    """Of an image of its own coordinates, what is moved says where each pixel came from: a turn, whatever the sides."""
    height, width = 41, 61
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
    image = torch.stack([y, x])[None].double()
    jitter, scale, rotate = 0.05, (0.8, 1.25), 30.0
    moved = regularisers.wobble(image, seeded(seed), jitter=jitter, scale=scale, rotate=rotate)[0]
    right, down, turn, size = torch.rand(4, generator=seeded(seed), dtype=torch.float64).tolist()
    angle, factor = math.radians(rotate * (2 * turn - 1)), 0.8 + 0.45 * size
    expected = torch.stack(
        [
            (math.sin(angle) * x + math.cos(angle) * y) / factor + jitter * height * (2 * down - 1),
            (math.cos(angle) * x - math.sin(angle) * y) / factor + jitter * width * (2 * right - 1),
        ]
    ).double()
    inside = (expected[0].abs() <= 20) & (expected[1].abs() <= 30)
    assert inside.float().mean() > 0.4
    torch.testing.assert_close(moved[:, inside], expected[:, inside], rtol=0, atol=1e-3)


@pytest.mark.parametrize("moves", [{"jitter": 0.3}, {"jitter": 0.1, "scale": (0.9, 1.1), "rotate": 5.0}])
def test_gradients_come_back_through_the_moves_to_where_they_came_from(moves):
    images = torch.rand(1, 1, 16, 16, generator=seeded(), dtype=torch.float64).requires_grad_()
    moved = regularisers.wobble(images, seeded(5), **(STILL | moves))
    weights = torch.rand(16, 16, generator=seeded(1), dtype=torch.float64)
    (slope,) = torch.autograd.grad((moved * weights).sum(), images)
    # The moves are linear in the image, so that the slope gives the sum of them.
    torch.testing.assert_close((slope * images).sum(), (moved * weights).sum())
