"""The nearest point of a hyperplane within the box, against solvers of linear and quadratic programs."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import optimize

from pytest_cnnaudit.attacks.hyperplane import to_hyperplane
from pytest_cnnaudit.attacks.norms import length

NORMS = ["linf", "l2", "l1"]
norms = st.sampled_from(NORMS)


def problem(seed, *, stretch, share, zeros=0.0, shape=(1, 3, 2, 2), dtype=torch.float64):
    """Images (the more at 0 or 1 the higher `stretch`), a normal, and a gap: a `share` of what the box allows."""
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(shape, generator=generator, dtype=dtype) * stretch - (stretch - 1) / 2).clamp(0, 1)
    weight = torch.randn(shape, generator=generator, dtype=dtype)
    weight = weight.where(torch.rand(shape, generator=generator) >= zeros, 0)
    sign = 1 - 2 * torch.randint(2, (shape[0],), generator=generator).to(dtype)
    towards = weight * sign[:, None, None, None]
    reach = (weight.abs() * torch.where(towards > 0, 1 - images, images)).flatten(1).sum(1)
    return images, weight, sign * share * reach, reach


def nearest(x, w, gap, norm):
    """The least ‖δ‖ with ⟨w, δ⟩ = gap and x + δ in [0, 1], by a solver."""
    bounds = list(zip(-x, 1 - x, strict=True))
    if norm == "l2":

        def dual(multiplier):  # the gap that the multiplier closes: increasing
            return np.clip(multiplier * w, -x, 1 - x) @ w - gap

        far = 1e6
        multiplier = optimize.brentq(dual, -far, far, xtol=1e-15, rtol=1e-14, maxiter=500)
        return np.linalg.norm(np.clip(multiplier * w, -x, 1 - x))
    d = len(x)
    if norm == "linf":  # minimise t, with −t ≤ δᵢ ≤ t
        cost, extra = np.r_[np.zeros(d), 1], -np.ones((d, 1))
        bounds = [*bounds, (0, None)]
    else:  # minimise Σ tᵢ, with −tᵢ ≤ δᵢ ≤ tᵢ
        cost, extra = np.r_[np.zeros(d), np.ones(d)], -np.eye(d)
        bounds = [*bounds, *[(0, None)] * d]
    limits = np.block([[np.eye(d), extra], [-np.eye(d), extra]])
    solved = optimize.linprog(
        cost, limits, np.zeros(2 * d), np.r_[w, np.zeros(len(cost) - d)][None], [gap], bounds, method="highs"
    )
    assert solved.status == 0
    return solved.fun


@given(norm=norms, seed=st.integers(0, 9999), stretch=st.floats(1, 5), share=st.floats(0.01, 0.98))
def test_it_is_the_nearest_point_that_a_solver_finds(norm, seed, stretch, share):
    images, weight, gap, reach = problem(seed, stretch=stretch, share=share)
    change = to_hyperplane(images, weight, gap, norm)
    assert 0 <= (images + change).min() <= (images + change).max() <= 1
    assert abs((weight * change).sum() - gap) <= 1e-9 * reach
    best = nearest(images.flatten().numpy(), weight.flatten().numpy(), float(gap), norm)
    assert float(length(change, norm)) == pytest.approx(best, rel=1e-6, abs=1e-9)


@given(norm=norms, seed=st.integers(0, 9999), stretch=st.floats(1, 5), share=st.floats(1, 100))
def test_where_the_box_ends_before_the_hyperplane_every_pixel_goes_to_its_border(norm, seed, stretch, share):
    images, weight, gap, _ = problem(seed, stretch=stretch, share=share, zeros=0.3)
    end = images + to_hyperplane(images, weight, gap, norm)
    border = (weight * gap.sign() > 0).to(images).where(weight != 0, images)
    torch.testing.assert_close(end, border, rtol=0, atol=1e-9)


@given(norm=norms, seed=st.integers(0, 999), share=st.floats(0.01, 2), zeros=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_sample_is_projected_by_itself_and_pixels_without_weight_stay(norm, seed, share, zeros):
    images, weight, gap, _ = problem(seed, stretch=2, share=share, zeros=zeros, shape=(4, 3, 2, 2))
    together = to_hyperplane(images, weight, gap, norm)
    alone = [to_hyperplane(images[i : i + 1], weight[i : i + 1], gap[i : i + 1], norm) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)
    assert not together[weight == 0].any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gap", [0.0, 1e-30, -1.0, 1e9, 1e38])
def test_without_any_weight_nothing_moves(norm, gap):
    assert not to_hyperplane(torch.rand(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.full((2,), gap), norm).any()


@pytest.mark.parametrize("norm", NORMS)
def test_on_the_hyperplane_nothing_moves(norm):
    images, weight, *_ = problem(0, stretch=2, share=1)
    assert not to_hyperplane(images, weight, torch.zeros(1, dtype=torch.float64), norm).any()


@given(norm=norms, seed=st.integers(0, 99), share=st.floats(0.01, 1.5), scale=st.sampled_from([1e-25, 1e-12, 1e12]))
def test_the_scale_of_the_normal_is_no_matter_in_single_precision(norm, seed, share, scale):
    images, weight, gap, _ = problem(seed, stretch=2, share=share, shape=(2, 3, 4, 4), dtype=torch.float32)
    scaled = to_hyperplane(images, scale * weight, scale * gap, norm)
    torch.testing.assert_close(scaled, to_hyperplane(images, weight, gap, norm), rtol=0, atol=2e-5)


@given(norm=norms, seed=st.integers(0, 99), share=st.floats(0.01, 0.999999) | st.floats(1.000001, 3))
def test_weights_of_many_magnitudes_are_no_trouble_in_single_precision(norm, seed, share):
    """Large sums whose difference is small, divided by the tiny weights that are left."""
    images, weight, *_ = problem(seed, stretch=1.4, share=share, shape=(2, 3, 16, 16), dtype=torch.float32)
    weight = weight * 10 ** torch.linspace(-12, 0, weight[0].numel())[
        torch.randperm(weight[0].numel(), generator=torch.Generator().manual_seed(seed))
    ].view_as(weight[0])
    reach = (weight.abs() * torch.where(weight > 0, 1 - images, images)).double().flatten(1).sum(1)
    gap = share * reach
    change = to_hyperplane(images, weight, gap.float(), norm)
    closed = (weight.double() * change.double()).flatten(1).sum(1)
    assert ((closed - torch.minimum(gap, reach)).abs() <= 1e-4 * reach).all()
    assert (change.abs() <= 1).all()
