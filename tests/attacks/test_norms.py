import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy import optimize, stats

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.attacks.norms import (
    check_norm,
    each_by_its_seed,
    length,
    project,
    project_in_box,
    steepest,
    uniform,
)

NORMS = ["linf", "l2", "l1"]
norms = st.sampled_from(NORMS)
radii = st.floats(1e-4, 10)


def drawn(seed, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_lengths_are_those_of_the_definition():
    difference = torch.tensor([[3.0, -4.0], [0.0, 0.0]])[:, None, None, :]
    assert length(difference, "linf").tolist() == [4, 0]
    assert length(difference, "l2").tolist() == [5, 0]


def test_an_unknown_norm_is_named_with_those_there_are():
    with pytest.raises(AuditError, match=r"There is no norm 'l3'.*'linf', 'l2', 'l1', 'l0'"):
        check_norm("l3")
    with pytest.raises(AuditError, match=r"FGSM has no norm 'l1'; use one of 'linf', 'l2'"):
        check_norm("l1", ("linf", "l2"), "FGSM")


@given(norm=norms, eps=radii, seed=st.integers(0, 999), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_projection_lies_in_the_ball_and_stays_where_it_is_when_projected_again(norm, eps, seed, scale):
    once = project(drawn(seed, 3, 2, 3, 3, scale=scale), norm, eps)
    assert (length(once, norm) <= eps * (1 + 1e-12)).all()
    torch.testing.assert_close(project(once, norm, eps), once, rtol=1e-12, atol=1e-12 * eps)


@given(norm=norms, seed=st.integers(0, 999))
def test_a_projection_leaves_what_lies_in_the_ball(norm, seed):
    inside = drawn(seed, 3, 2, 3, 3)
    assert project(inside, norm, 1.000001 * float(length(inside, norm).max())).equal(inside)


@given(norm=norms, eps=radii, seed=st.integers(0, 999))
def test_no_point_of_the_ball_is_nearer_than_the_projection(norm, eps, seed):
    outside = drawn(seed, 1, 1, 3, 3, scale=3 * eps)
    others = uniform(outside.expand(50, -1, -1, -1), norm, eps, torch.arange(50))
    nearest = length(project(outside, norm, eps) - outside, "l2")
    assert (length(others - outside, "l2") >= nearest - 1e-12).all()


@given(
    eps=st.floats(1e-3, 5), seed=st.integers(0, 999), stretch=st.floats(1, 5), scale=st.sampled_from([0.01, 1.0, 100.0])
)
def test_the_projection_in_the_box_is_the_one_that_root_finding_gives(eps, seed, stretch, scale):
    """Soft-thresholding cut to the box (Croce & Hein 2021, proposition 2.1), with λ from Brent's method."""
    images = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    images = (images * stretch - (stretch - 1) / 2).clamp(0, 1)
    difference = drawn(seed, 3, 1, 3, 3, scale=scale)
    ours = project_in_box(images, difference, eps)
    room = torch.where(difference > 0, 1 - images, images)
    assert 0 <= (images + ours).min() <= (images + ours).max() <= 1
    assert (length(ours, "l1") <= eps + 1e-12).all()
    for mine, change, limit in zip(ours, difference, room, strict=True):

        def cut(threshold, change=change, limit=limit):
            return torch.minimum((change.abs() - threshold).clamp(min=0), limit)

        top = float(change.abs().max())
        if cut(0).sum() > eps:
            threshold = optimize.brentq(lambda value: float(cut(value).sum()) - eps, 0, top, xtol=1e-12, rtol=1e-14)
        else:
            threshold = 0
        torch.testing.assert_close(mine, change.sign() * cut(threshold), rtol=0, atol=1e-9)


@given(norm=norms, seed=st.integers(0, 999), scale=st.sampled_from([1e-9, 1.0, 1e9]))
def test_the_steepest_step_has_length_one_and_gains_most_on_a_linear_function(norm, seed, scale):
    gradient = drawn(seed, 2, 3, 4, 4, scale=scale)
    step = steepest(gradient, norm)
    torch.testing.assert_close(length(step, norm), torch.ones(2, dtype=torch.float64))
    gain = (step * gradient).flatten(1).sum(1)
    dual = gradient.flatten(1).norm(
        p={"linf": 1, "l2": 2, "l1": float("inf")}[norm], dim=1
    )  # the best possible, by Hölder's inequality
    torch.testing.assert_close(gain, dual)


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_is_a_zero_step(norm):
    assert not steepest(torch.zeros(2, 3, 4, 4), norm).any()
    assert not project(torch.zeros(2, 3, 4, 4), norm, 0.1).any()


@given(norm=norms, eps=radii, seeds=st.lists(st.integers(0, 2**48), min_size=1, max_size=5))
def test_a_random_point_lies_in_the_ball(norm, eps, seeds):
    points = uniform(torch.zeros(len(seeds), 3, 4, 4), norm, eps, torch.tensor(seeds))
    assert (length(points, norm) <= eps * (1 + 1e-6)).all()
    assert length(points, norm).all()


@given(norm=norms, seeds=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=5, unique=True))
def test_a_random_point_depends_on_the_samples_seed_alone(norm, seeds):  # torch's CPU generator takes 32 bits of it
    like = torch.zeros(len(seeds), 3, 4, 4)
    together = uniform(like, norm, 1.0, torch.tensor(seeds))
    alone = [uniform(like[:1], norm, 1.0, torch.tensor([seed])) for seed in reversed(seeds)]
    assert together.flip(0).equal(torch.cat(alone))
    assert len(together.flatten(1).unique(dim=0)) == len(seeds)


def test_random_points_fill_the_linf_ball_evenly():
    points = uniform(torch.zeros(2000, 1, 2, 2), "linf", 0.5, torch.arange(2000)).flatten()
    assert stats.kstest(points, stats.uniform(-0.5, 1).cdf).pvalue > 0.001


def test_random_points_fill_the_l2_ball_evenly():
    points = uniform(torch.zeros(2000, 1, 2, 2), "l2", 0.5, torch.arange(2000)).flatten(1).double()
    radii = points.norm(dim=1) / 0.5
    assert stats.kstest(radii**4, "uniform").pvalue > 0.001  # P(radius ≤ r) = r^d in d dimensions
    # A coordinate of a uniform direction in 4 dimensions: (u + 1) / 2 has the distribution Beta(3/2, 3/2).
    assert (
        stats.kstest((points / points.norm(dim=1, keepdim=True))[:, 0] / 2 + 0.5, stats.beta(1.5, 1.5).cdf).pvalue
        > 0.001
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_random_point_has_the_type_of_the_images_and_leaves_the_global_generator_alone(norm):
    before = torch.get_rng_state()
    assert uniform(torch.zeros(1, 1, 2, 2, dtype=torch.float64), norm, 1.0, torch.tensor([3])).dtype == torch.float64
    assert torch.get_rng_state().equal(before)


def test_each_seed_has_its_own_generator():
    drawn = each_by_its_seed(lambda generator: torch.rand(2, generator=generator), torch.tensor([5, 6, 5]))
    assert drawn[0].equal(drawn[2])
    assert not drawn[0].equal(drawn[1])
