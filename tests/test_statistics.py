# ruff: noqa: NPY002 (the global generator is what must not change)
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from pytest_cnnaudit.statistics import bootstrap_interval, is_decided, mean, proportion_interval, share


@pytest.mark.parametrize(("count", "n"), [(0, 1), (0, 10), (5, 10), (10, 10), (158, 512), (499, 500)])
def test_the_interval_of_a_share_is_wilsons(count, n):
    z, p = 1.959963984540054, count / n
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert proportion_interval(count, n) == pytest.approx(expected, abs=1e-12)


def test_the_bootstrap_gives_the_same_interval_for_the_same_values_and_covers_the_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / math.sqrt(400), rel=0.15)


def test_the_bootstrap_leaves_the_global_generator_alone():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    bootstrap_interval(np.arange(10.0))
    assert np.random.rand() == expected


def test_the_bootstrap_of_the_median_lies_around_the_median():
    low, high = bootstrap_interval(np.array([1.0, 2, 3, 4, 1000] * 20), "median")
    assert 2 <= low <= 3 <= high <= 4


@pytest.mark.parametrize("values", [[], [0.3]])
def test_fewer_than_two_values_have_no_bootstrap_interval(values):
    assert bootstrap_interval(np.array(values)) is None


def test_equal_values_have_an_interval_of_one_point():
    assert bootstrap_interval(np.full(10, 0.25)) == (0.25, 0.25)


def test_a_share_knows_its_count_and_interval():
    metric = share(np.array([True, False, True, True]), name="hits")
    assert (float(metric), metric.count, metric.n, metric.bounds) == (0.75, 3, 4, (0, 1))
    assert tuple(map(float, metric.ci95)) == proportion_interval(3, 4)


def test_the_share_and_the_mean_of_nothing_are_not_a_number():
    for metric in (share(np.zeros(0, bool), name="hits"), mean(np.zeros(0), name="energy")):
        assert math.isnan(metric)
        assert metric.n == 0
        assert metric.ci95 is None


def test_values_that_depend_on_each_other_have_a_wider_interval():
    values = np.repeat(np.random.default_rng(0).random(20), 10)
    alone, grouped = mean(values, name="x"), mean(values, name="x", groups=np.arange(200) // 10)
    assert float(alone) == float(grouped)
    assert grouped.n == 200
    assert grouped.ci95[1] - grouped.ci95[0] > 2 * (alone.ci95[1] - alone.ci95[0])


thresholds = st.one_of(
    st.floats(0, 1),
    st.integers(0, 100).map(lambda percent: percent / 100),
    st.builds(lambda k, n: min(k, n) / n, st.integers(0, 40), st.integers(1, 40)),
).flatmap(lambda x: st.sampled_from([x, math.nextafter(x, 2), max(0.0, math.nextafter(x, -1))]))


@settings(max_examples=1000)
@given(n=st.integers(1, 300), data=st.data(), at_least=thresholds)
def test_a_verdict_on_hits_is_decided_if_and_only_if_no_continuation_changes_it(n, data, at_least):
    done = data.draw(st.integers(0, n))
    hits = data.draw(st.integers(0, done))
    verdicts = {(hits + more) / n >= at_least for more in range(n - done + 1)}  # as the final assert compares
    assert is_decided(hits, done, n, at_least) == (len(verdicts) == 1)


@settings(max_examples=300)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30), data=st.data(), at_least=thresholds)
def test_a_decided_verdict_on_shares_is_the_one_of_all_values(values, data, at_least):
    done = data.draw(st.integers(0, len(values)))
    total = float(np.sum(values[:done]))
    if is_decided(total, done, len(values), at_least):
        verdict = np.mean(values) >= at_least
        # Within rounding of the threshold the order of the sum may decide.
        assert verdict == (total / len(values) >= at_least) or abs(np.mean(values) - at_least) < 1e-8


@pytest.mark.parametrize(("n", "at_least"), [(7, 0.3), (10, 0.35), (500, 0.4), (3, 1 / 3)])
def test_the_verdict_is_decided_at_the_end_at_the_latest(n, at_least):
    assert all(is_decided(hits, n, n, at_least) for hits in range(n + 1))


@pytest.mark.parametrize("hits", [0, 20, 35, 36, 100])
def test_a_verdict_that_was_reached_early_is_the_one_at_the_end(hits):
    """The figure of the samples measured so far falls on the same side: the assertion compares it, not the whole."""
    n, at_least = 100, 0.36
    for order in (np.arange(n) < hits, np.arange(n) >= n - hits, np.random.default_rng(0).permutation(n) < hits):
        done = next(done for done in range(n + 1) if is_decided(order[:done].sum(), done, n, at_least))
        assert (order[:done].mean() >= at_least) == (hits / n >= at_least)
