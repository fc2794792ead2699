# ruff: noqa: NPY002 (the global generator is what must not change)
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import stats
from torch import nn

from pytest_cnnaudit.lenses import filters as lens


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def checkerboard(size):
    return (-1.0) ** torch.arange(size)[:, None] * (-1.0) ** torch.arange(size)[None, :]


def test_a_constant_filter_has_roughness_zero():
    assert lens.roughness(torch.full((1, 3, 5, 5), 0.7)).tolist() == [0]


def test_white_noise_has_roughness_one():
    assert lens.roughness(noise(2000, 3, 7, 7)).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("size", [3, 11])
def test_a_checkerboard_has_roughness_two(size):
    assert float(lens.roughness(checkerboard(size)[None, None])) == pytest.approx(2)


def test_a_filter_of_zeros_has_no_roughness():
    assert lens.roughness(torch.zeros(1, 3, 3, 3)).isnan().all()


def test_roughness_is_the_sum_over_neighbours_written_out():
    weight = noise(3, 2, 3, 4).numpy()
    expected = []
    for kernel in weight:
        squares = [
            (channel[y, x] - channel[y + down, x + across]) ** 2
            for channel in kernel
            for down, across in ((1, 0), (0, 1))
            for y in range(3 - down)
            for x in range(4 - across)
        ]
        expected.append(np.mean(squares) / (2 * np.mean(kernel**2)))
    np.testing.assert_allclose(lens.roughness(torch.from_numpy(weight)).numpy(), expected)


FIGURES = [lens.roughness, lens.high_frequency_energy, lens.sparsity, lens.variance_entropy, lens.orthogonality]


@given(seed=st.integers(0, 999), scale=st.sampled_from([-1.0, 1e-6, 1e6]), order=st.permutations(range(3)))
@pytest.mark.parametrize("figure", FIGURES)
def test_figures_do_not_change_with_scale_sign_or_the_order_of_channels(figure, seed, scale, order):
    weight = noise(8, 3, 5, 5, seed=seed)
    expected = torch.as_tensor(figure(weight))
    torch.testing.assert_close(torch.as_tensor(figure(scale * weight)), expected)
    torch.testing.assert_close(torch.as_tensor(figure(weight[:, order])), expected)


def test_high_frequency_energy_is_low_for_smooth_high_for_rough_and_known_for_noise():
    # A 7-tap box leaks a tenth of its energy beyond half of Nyquist; a checkerboard keeps as much below it.
    assert float(lens.high_frequency_energy(torch.ones(1, 3, 7, 7))) < 0.1
    assert float(lens.high_frequency_energy(checkerboard(7)[None, None])) > 0.9
    assert lens.high_frequency_energy(noise(500, 3, 5, 5)).mean() == pytest.approx(1 - np.pi / 16, abs=0.01)


def test_a_filter_under_a_hundredth_of_the_largest_norm_is_dead():
    weight = torch.zeros(4, 1, 3, 3)
    weight[:, 0, 0, 0] = torch.tensor([1.0, -0.02, 0.009, 0.0])
    assert lens.dead(weight).tolist() == [False, False, True, True]


def test_duplicates_are_found_at_any_scale_and_sign_and_never_among_the_dead():
    weight = noise(5, 3, 3, 3)
    weight[2], weight[4] = -3 * weight[0], 1e-5 * weight[1]
    assert lens.duplicates(weight) == [(0, 2)]


def test_sparsity_is_the_share_of_kernels_around_zero():
    weight = torch.ones(2, 2, 3, 3)
    weight[0, 0], weight[1, 1] = 0.01, 0.011
    assert lens.sparsity(weight) == 0.25


def test_the_variance_entropy_of_multiples_of_one_kernel_is_zero():
    assert lens.variance_entropy(noise(8, 3, 1, 1) * noise(1, 1, 3, 3, seed=1)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [3, 5])
def test_the_variance_entropy_of_noise_nears_the_logarithm_of_the_number_of_taps(size):
    assert lens.variance_entropy(noise(500, 16, size, size)) == pytest.approx(np.log10(size * size), abs=0.01)
    assert lens.noise_variance_entropy((500, 16, size, size), draws=2) == pytest.approx(np.log10(size * size), abs=0.01)


def test_orthogonal_filters_have_orthogonality_one_and_identical_ones_zero():
    rows = torch.linalg.qr(noise(18, 18)).Q[:6].reshape(6, 2, 3, 3)
    assert lens.orthogonality(5 * rows) == pytest.approx(1)
    assert lens.orthogonality(noise(1, 2, 3, 3).expand(6, -1, -1, -1)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(lens.orthogonality(noise(1, 2, 3, 3)))


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (1, 3, 7, 7), (1, 1, 5, 5)])
def test_p_values_of_white_noise_are_uniform(shape):
    values = lens.roughness(noise(3000, *shape[1:], seed=7))
    p = lens.p_white_noise(values, lens.white_noise_roughness(shape, draws=5000))
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 0.004 < float((p < 0.01).double().mean()) < 0.018


def test_p_values_are_smallest_for_the_smoothest_and_the_roughest_and_never_zero():
    null = lens.white_noise_roughness((1, 3, 3, 3), draws=999)
    values = torch.tensor([0.0, 0.7, float(null.median()), 1.4, 2.0, float("nan")], dtype=torch.float64)
    p = lens.p_white_noise(values, null)
    assert p[0] == p[4] == 2 / 1000
    assert p[0] < p[1] < p[2]
    assert p[2] > p[3] > p[4]
    assert p[2] == 1
    assert p[5].isnan()


def test_the_null_does_not_touch_the_global_generators():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert lens.white_noise_roughness((1, 1, 3, 3), draws=10).equal(lens.white_noise_roughness((1, 1, 3, 3), draws=10))
    assert torch.get_rng_state().equal(before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_noise_on_real_filters_shows_as_measured(resnet20):
    trained = resnet20.conv1.weight.detach().double()
    null = lens.noise_variance_entropy(tuple(trained.shape))

    def figures(weight):
        return float(lens.roughness(weight)[~lens.dead(weight)].median()), lens.variance_entropy(weight) / null

    deviation = trained.std() * noise(*trained.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = nn.Conv2d(3, 16, 3).weight.detach().double()
    ratios = [figures(weight)[1] for weight in (trained, trained + 0.5 * deviation, trained + deviation, random)]
    assert figures(trained)[0] == pytest.approx(0.54, abs=0.01)
    assert ratios == [pytest.approx(expected, abs=0.06) for expected in (0.71, 0.82, 0.95, 1.0)]
    assert ratios == sorted(ratios)
    assert figures(random)[0] == pytest.approx(1, abs=0.15)
