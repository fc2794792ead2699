"""Rank correlation and SSIM, against straightforward implementations and where the answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pytest_cnnaudit.lenses.similarity import rank_correlation, ssim


def maps(count=3, height=13, width=17, *, seed=0):
    return np.random.default_rng(seed).random((count, height, width))


def test_rank_correlation_is_scipys_for_each_map_ties_included():
    first, second = maps(4).round(1), maps(4, seed=1).round(1) + maps(4).round(1)
    expected = [spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, rtol=1e-12)


def test_the_maps_of_several_networks_are_compared_with_those_of_one():
    first, many = maps(3), np.stack([maps(3, seed=seed) for seed in (1, 2)])
    expected = [rank_correlation(first, each) for each in many]
    np.testing.assert_array_equal(rank_correlation(first, many), expected)


@given(st.integers(0, 1000), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 7]))
def test_the_order_counts_and_nothing_else(seed, rising):
    values = maps(2, 4, 5, seed=seed)
    np.testing.assert_allclose(rank_correlation(values, rising(values)), 1)
    np.testing.assert_allclose(rank_correlation(values, -rising(values)), -1)


@pytest.mark.parametrize("similarity", [rank_correlation, lambda a, b: ssim(*map(torch.from_numpy, (a, b))).numpy()])
def test_a_constant_map_is_like_no_other_not_even_like_itself(similarity):
    first, second = maps(4), maps(4, seed=1)
    first[1], second[2], first[3], second[3] = 0.3, 0.0, 0.1, 0.1
    assert np.isnan(similarity(first, second)).tolist() == [False, True, True, True]


def straightforward_ssim(one, other):
    """Equation 13 window by window."""
    one, other = ((each - each.min()) / (each.max() - each.min()) for each in (one, other))
    sides = [min(11, side) - (1 - min(11, side) % 2) for side in one.shape]
    rows, columns = (np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2)) for side in sides)
    weights = np.outer(rows, columns) / (rows.sum() * columns.sum())
    found = []
    for top in range(one.shape[0] - sides[0] + 1):
        for left in range(one.shape[1] - sides[1] + 1):
            x, y = (each[top : top + sides[0], left : left + sides[1]] for each in (one, other))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            found.append(
                (2 * mean_x * mean_y + 0.01**2)
                * (2 * covariance + 0.03**2)
                / ((mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2))
            )
    return np.mean(found)


@pytest.mark.parametrize("size", [(13, 17), (11, 11), (6, 12), (3, 1)])
def test_ssim_is_the_papers_window_by_window(size):
    first, second = maps(2, *size), 5 * maps(2, *size, seed=1) + maps(2, *size)
    expected = [straightforward_ssim(one, other) for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(ssim(torch.from_numpy(first), torch.from_numpy(second)), expected, rtol=1e-10)


def test_ssim_is_one_for_a_map_on_another_scale_and_falls_as_noise_grows():
    first = torch.from_numpy(maps(1, 32, 32))
    assert ssim(first, 7 * first + 3).item() == pytest.approx(1)
    noise = torch.from_numpy(maps(1, 32, 32, seed=1))
    values = [ssim(first, first + size * noise).item() for size in (0, 0.2, 0.5, 1, 5)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.3
