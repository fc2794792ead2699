"""The tests of chance: against scipy's own, and how often they are wrong where the truth is known.

With 2,000 simulations (run with -m benchmark; the figures are in its docstring) and, in every run, with fewer.
"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import stats

from pytest_cnnaudit.baselines.chance import LEVEL, changes, paired_test
from pytest_cnnaudit.baselines.values import compute

KINDS = ("share", "mean", "mean over groups of 4", "quantile 0.5", "quantile 0.05")
SIZES = (8, 20, 100, 500)


def measured(rng, n, kind, drop):
    """Two measurements of the same samples: the second, where `drop` is not 0, of a model that is worse by so much."""
    if kind == "share":
        holds = rng.beta(0.3, 0.3, n)
        return rng.random(n) < holds, rng.random(n) < np.clip(holds - drop, 0, 1)
    wrong = np.zeros(n, bool) if kind == "quantile 0.05" else rng.random(n) < 0.1
    size = np.where(wrong, 0, rng.lognormal(-4.5, 0.8, n))
    group = 4 if "groups" in kind else 1
    noise = [np.repeat(rng.standard_normal(n // group), group) for _ in range(2)]
    return size * np.exp(0.15 * noise[0]), size * np.exp(0.15 * noise[1]) * (1 - drop)


def alarms(kind, n, drop, times):
    """The share of simulations in which the figure fell, and that was called beyond chance."""
    rng, count = np.random.default_rng([n, len(kind), int(100 * drop)]), 0
    for _ in range(times):
        before, now = measured(rng, n, kind, drop)
        fell = compute(kind, now) < compute(kind, before)
        count += bool(fell) and paired_test(before, now, kind, rising=False).p < LEVEL
    return count / times


def most(times):
    """The rate that 5% exceeds in one experiment of a thousand."""
    return stats.binom.ppf(0.999, times, LEVEL) / times


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_it_seldom_calls_a_change_that_is_none(kind, n, fewer_draws):
    assert alarms(kind, n, 0, 300) <= most(300)


def test_it_finds_a_drop_that_is_there(fewer_draws):
    assert alarms("share", 500, 0.1, 50) >= 0.9
    assert alarms("mean", 100, 0.1, 100) >= 0.9
    assert alarms("quantile 0.5", 100, 0.1, 100) >= 0.85
    assert alarms("quantile 0.05", 500, 0.1, 50) >= 0.5


@pytest.fixture
def fewer_draws(monkeypatch):
    monkeypatch.setattr("pytest_cnnaudit.baselines.chance._DRAWS", 199)


@pytest.mark.benchmark
@pytest.mark.timeout(3000)
def test_the_rates_of_2000_simulations(fewer_draws):
    """False alarms, and the power for a drop of 10% (of a share: 10 points), for 8, 20, 100 and 500 samples."""
    for kind in KINDS:
        for drop in (0, 0.1):
            rates = [alarms(kind, n, drop, 2000) for n in SIZES]
            print(f"{kind}, drop {drop}: {', '.join(f'{100 * rate:.1f}%' for rate in rates)}")
            assert drop or max(rates) <= most(2000)


@given(arrays(bool, st.integers(1, 40)), st.data())
def test_shares_are_judged_by_the_samples_that_changed(before, data):
    now = data.draw(arrays(bool, len(before)))
    lost, gained = int((before & ~now).sum()), int((~before & now).sum())
    expected = stats.binom.sf(lost - 1, lost + gained, 0.5) if lost else 1.0
    assert paired_test(before, now, "share", rising=False).p == pytest.approx(expected)
    assert paired_test(before.astype(float), now.astype(float), "mean", rising=False).p == pytest.approx(expected)
    assert paired_test(~before, ~now, "share", rising=True).p == pytest.approx(expected)


@pytest.mark.parametrize("statistic", ["mean", "quantile 0.25"])
@pytest.mark.parametrize("rising", [False, True])
def test_all_ways_to_exchange_are_tried_as_scipy_does(statistic, rising):
    rng = np.random.default_rng(0)
    before, now = rng.normal(0, 1, (2, 9))
    now[3] = before[3]
    expected = stats.permutation_test(
        (before, now),
        lambda then, later, axis: compute(statistic, later) - compute(statistic, then),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater" if rising else "less",
    )
    assert paired_test(before, now, statistic, rising=rising).p == pytest.approx(expected.pvalue, abs=1e-12)


def test_many_samples_are_exchanged_at_random_and_always_alike():
    rng = np.random.default_rng(1)
    before = rng.normal(0, 1, 60)
    now = before + rng.normal(-0.05, 0.8, 60)
    expected = stats.permutation_test(
        (before - now,), np.mean, permutation_type="samples", n_resamples=9999, alternative="greater", rng=rng
    )
    found = paired_test(before, now, "mean", rising=False)
    assert found.p > 0.1
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    assert found == paired_test(before, now, "mean", rising=False)


def test_medians_are_judged_by_the_signed_ranks():
    rng = np.random.default_rng(2)
    before = rng.normal(0, 1, 25)
    now = before + rng.normal(-0.3, 0.5, 25)
    expected = stats.wilcoxon(now, before, alternative="less").pvalue
    assert paired_test(before, now, "quantile 0.5", rising=False).p == pytest.approx(expected)
    assert paired_test(before, now, "median", rising=False).name == "Wilcoxon signed-rank test"


@pytest.mark.parametrize("kind", ["mean", "median", "quantile 0.5", "quantile 0.05"])
def test_infinite_values_are_values(kind):
    before = np.array([np.inf] * 12)
    now = np.array([np.inf] * 4 + [1.0] * 8)
    assert paired_test(before, before, kind, rising=False).p == 1
    assert 0 < paired_test(before, now, kind, rising=False).p < LEVEL or kind == "mean"
    assert paired_test(now, before, kind, rising=False).p > 0.5
    assert changes(before, now).tolist() == [0] * 4 + [-np.inf] * 8


def test_groups_are_exchanged_as_one():
    before = np.repeat([0.5, 0.7, 0.6], 4)
    now = before - 0.1
    assert paired_test(before, now, "mean", rising=False).p < LEVEL
    assert paired_test(before, now, "mean over groups of 4", rising=False).p == 1 / 8  # three groups: 2³ ways


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)), st.sampled_from(KINDS))
def test_what_has_not_changed_is_chance(values, kind):
    values = np.repeat(values, 4) if "groups" in kind else values
    values = values > 0.5 if kind == "share" else values
    for rising in (False, True):
        assert paired_test(values, values, kind, rising=rising).p == 1


def test_it_leaves_the_global_generator_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (what must not change)
    paired_test(np.arange(30.0), np.arange(30.0)[::-1].copy(), "mean", rising=True)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_small_p_values_are_not_printed_as_none():
    found = paired_test(np.ones(40, bool), np.zeros(40, bool), "share", rising=False)
    assert str(found) == "exact McNemar test, p < 0.0001"
