# ruff: noqa: NPY002 (the global generator is what must not change)
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from pytest_cnnaudit.statistics import bootstrap_interval, is_decided, mean, proportion_interval, quantile, rank, share


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


# Quantiles -----------------------------------------------------------------------------------------------------------

sizes = st.lists(st.floats(0, 10) | st.just(math.inf), min_size=1, max_size=40)
shares = st.floats(0.001, 0.999)


@settings(max_examples=200)
@given(values=sizes, q=shares)
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(values, q):
    found, values = quantile(np.array(values), q, name="x"), np.array(values)
    assert found in values
    assert np.mean(values <= found) >= q or math.isclose(np.mean(values <= found), q)
    assert np.mean(values < found) < q or math.isclose(np.mean(values < found), q)
    assert found.n == len(values)


@pytest.mark.parametrize("percent", range(1, 100))
def test_rounding_moves_no_quantile_to_the_next_value(percent):
    """0.07 * 100 is above 7 in floating point; the seventh of 100 values is their 7% quantile all the same."""
    for n in (1, 7, 25, 100, 200, 1000):
        assert rank(percent / 100, n) == -(-percent * n // 100)
    assert quantile(np.arange(1.0, 101), percent / 100, name="x") == percent


@settings(max_examples=200)
@given(values=sizes, q=shares)
def test_the_interval_of_a_quantile_lies_around_it_on_values_that_were_there(values, q):
    found = quantile(np.array(values), q, name="x")
    low, high = found.ci95
    assert low <= found <= high


@given(values=sizes, q=shares, p=shares)
def test_a_larger_share_has_a_larger_quantile_and_larger_ends(values, q, p):
    low, high = (quantile(np.array(values), each, name="x") for each in sorted([q, p]))
    assert low <= high
    assert low.ci95[0] <= high.ci95[0]
    assert low.ci95[1] <= high.ci95[1]


@given(values=sizes, q=shares, seed=st.integers(0, 99))
def test_a_quantile_depends_on_no_order_and_not_on_the_scale(values, q, seed):
    values = np.array(values)
    before = values.copy()
    found = quantile(np.random.default_rng(seed).permutation(values), q, name="x")
    expected, scaled = quantile(values, q, name="x"), quantile(values * 4, q, name="x")
    assert (float(found), *map(float, found.ci95)) == (float(expected), *map(float, expected.ci95))
    assert (float(scaled), *map(float, scaled.ci95)) == (4 * float(expected), *(4 * each for each in expected.ci95))
    np.testing.assert_array_equal(values, before)


def test_infinite_values_count_as_the_largest():
    values = np.array([1.0, math.inf, 2.0, math.inf, 3.0])
    assert quantile(values, 0.6, name="x") == 3
    assert quantile(values, 0.61, name="x") == math.inf
    low, high = quantile(values, 0.61, name="x").ci95
    assert (low <= 3, high) == (True, math.inf)


def test_the_quantile_of_one_value_is_that_value_and_of_none_not_a_number():
    for q in (0.05, 0.5, 0.95):
        assert quantile(np.array([0.3]), q, name="x") == 0.3
        nothing = quantile(np.zeros(0), q, name="x", help="help", story=("story",))
        assert math.isnan(nothing)
        assert (nothing.n, nothing.ci95, nothing.help, nothing.story) == (0, None, "help", ("story",))


def test_a_quantile_knows_what_it_was_told():
    found = quantile(np.arange(9.0), 0.5, name="median x", help="help", story=("story",), higher_is_better=False)
    assert (found.name, found.help, found.story, found.higher_is_better) == ("median x", "help", ("story",), False)
    assert repr(found) == "median x 4.00 (95% CI 1.00 to 7.00, n 9)"


@pytest.mark.parametrize("n", [1, 2, 5, 6, 8, 10, 20, 36, 71, 72, 100, 500, 5000])
@pytest.mark.parametrize("q", [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 0.999])
def test_the_interval_of_a_quantile_has_the_coverage_of_95_in_100_and_no_more_than_it_takes(n, q):
    """Exactly: of n values B ~ Bin(n, q) lie below the quantile q, which is in (i-th, j-th] where i ≤ B < j."""
    low, high = map(float, quantile(np.arange(1.0, n + 1), q, name="x").ci95)
    i = 0 if low == -math.inf else int(low)
    j = n + 1 if high == math.inf else int(high)
    below, above = stats.binom.cdf(i - 1, n, q), stats.binom.sf(j - 1, n, q)
    assert max(below, above) <= 0.025
    assert 1 - below - above >= 0.95
    assert min(stats.binom.cdf(i, n, q), stats.binom.sf(j - 2, n, q)) >= 0.025  # with the next value inside, it is not


@pytest.mark.parametrize(
    ("n", "q", "shown"),
    [
        (5, 0.5, "x 2.00 (95% CI -inf to inf, n 5)"),
        (10, 0.05, "x 0.00 (95% CI -inf to 2.00, n 10)"),
        (10, 0.95, "x 9.00 (95% CI 7.00 to inf, n 10)"),
        (71, 0.05, "x 3.00 (95% CI -inf to 8.00, n 71)"),
        (72, 0.05, "x 3.00 (95% CI 0.00 to 8.00, n 72)"),
    ],
)
def test_where_the_values_are_too_few_for_an_end_it_is_open(n, q, shown):
    assert repr(quantile(np.arange(float(n)), q, name="x")) == shown
    from_zero = repr(quantile(np.arange(float(n)), q, name="x", least=0))
    assert from_zero == shown.replace("-inf", "0.00")


@pytest.mark.parametrize(
    ("n", "q"),
    [(9, 0.5), (10, 0.05), (10, 0.95), (20, 0.05), (20, 0.25), (20, 0.5), (100, 0.05), (100, 0.95), (101, 0.6)],
)
def test_the_interval_of_a_quantile_covers_that_of_the_population_95_times_in_100(n, q):
    """Of an exponential and of a discrete population; where ties widen it, it covers all the more often."""
    rng, times = np.random.default_rng(0), 600
    true = -math.log(1 - q)
    hits = discrete = 0
    for _ in range(times):
        values = rng.exponential(size=n)
        low, high = quantile(values, q, name="x").ci95
        hits += low <= true <= high
        low, high = quantile(np.ceil(values * 3), q, name="x").ci95
        discrete += low <= math.ceil(true * 3) <= high
    assert hits / times >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / times)
    assert discrete >= hits


def test_a_metric_says_which_column_it_is_what_statistic_of():
    held, size = np.array([True, False, True]), np.arange(1.0, 9)
    made = {
        "share": share(held, name="a", column="held"),
        "mean": mean(size, name="b", column="size"),
        "quantile 0.05": quantile(size, 0.05, name="c", column="size"),
        "mean over groups of 2": mean(size, name="d", column="size", groups=np.arange(8) // 2),
    }
    assert {metric.statistic: metric.column for metric in made.values()} == {
        "share": "held",
        "mean": "size",
        "quantile 0.05": "size",
        "mean over groups of 2": "size",
    }
    assert list(made) == [metric.statistic for metric in made.values()]
    without = share(held, name="a"), mean(size, name="b"), quantile(size, 0.5, name="c")
    assert {(metric.column, metric.statistic) for metric in without} == {("", "")}


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 0, 1, 2, 3, 2, 3], [0, 0, 1, 1, 0, 0, 1, 1]])
def test_groups_that_are_uneven_or_apart_have_no_column(groups):
    found = mean(np.arange(8.0), name="d", column="size", groups=np.array(groups))
    assert (found.column, found.statistic) == ("", "")
