import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from pytest_cnnaudit.lenses.localization import energy_in_region, pointing_game, saliency_maps, widened

MASK = torch.tensor([[[True, True, False], [False, False, False]]])


def test_colour_channels_count_by_their_largest_magnitude_and_a_single_channel_by_its_positive_part():
    signed = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]]]])
    assert saliency_maps(signed, (1, 2)).tolist() == [[[3, 2]]]
    assert saliency_maps(signed[:, :1], (1, 2)).tolist() == [[[1, 0]]]
    assert saliency_maps(signed[:, 0], (1, 2)).tolist() == [[[1, 0]]]


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 4, 4), (2, 4, 4), (2, 16, 1, 2)])
def test_maps_are_brought_to_the_size_of_the_image(shape):
    maps = saliency_maps(torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_(), (8, 10))
    assert maps.shape == (2, 8, 10)
    assert maps.min() >= 0
    assert not maps.requires_grad


@pytest.mark.parametrize(
    ("values", "hit"),
    [
        ([[9, 1, 0], [0, 0, 0]], True),
        ([[1, 1, 9], [0, 0, 0]], False),
        ([[0, 0, 0], [0, 0, 0]], False),  # constant: points nowhere
        ([[5, 5, 5], [5, 5, 5]], False),
        ([[7, 0, 7], [0, 0, 0]], True),  # one of two maxima inside: half
        ([[7, 0, 7], [7, 0, 0]], False),  # one of three
        ([[7, 7, 7], [0, 0, 0]], True),
    ],
)
def test_the_pointing_game_asks_where_the_largest_values_lie(values, hit):
    assert pointing_game(torch.tensor([values], dtype=torch.float32), MASK).tolist() == [hit]


def test_a_map_without_energy_has_none_in_the_region():
    assert energy_in_region(torch.zeros(1, 2, 3), MASK).tolist() == [0]


def test_energy_is_the_share_inside():
    maps = torch.tensor([[[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]]])
    assert energy_in_region(maps, MASK).tolist() == [pytest.approx(0.3)]
    assert energy_in_region(maps, torch.ones_like(MASK)).tolist() == [1]
    assert energy_in_region(maps, torch.zeros_like(MASK)).tolist() == [0]


@given(seed=st.integers(0, 999), power=st.integers(-30, 30), sparse=st.booleans())
def test_scores_do_not_change_with_the_scale_of_the_map(seed, power, sparse):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(4, 5, 5, generator=generator)
    maps = maps * (maps > 0.8) if sparse else maps
    regions = torch.rand(4, 5, 5, generator=generator) > 0.5
    scaled = maps * 2.0**power
    energy = energy_in_region(maps, regions)
    assert ((energy >= 0) & (energy <= 1)).all()
    torch.testing.assert_close(energy_in_region(scaled, regions), energy)
    torch.testing.assert_close(energy + energy_in_region(maps, ~regions), maps.flatten(1).any(1).double())
    assert pointing_game(scaled, regions).equal(pointing_game(maps, regions))


def test_a_region_is_widened_by_the_distance_to_its_nearest_pixel():
    region = torch.zeros(2, 9, 9, dtype=torch.bool)
    region[0, 4, 4] = True
    near = widened(region, 2)
    y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    assert near[0].equal((y - 4) ** 2 + (x - 4) ** 2 <= 4)
    assert not near[1].any()  # an empty one stays empty
    assert widened(region, 0).equal(region)
    assert widened(region, 0.9).equal(region)
