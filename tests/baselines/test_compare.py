"""Is it worse? Each verdict, and what forbids a comparison."""

import math

import numpy as np
import pytest

from pytest_cnnaudit.baselines.compare import compare, differences, remarks
from pytest_cnnaudit.baselines.entry import Facts, entry
from pytest_cnnaudit.results import Measurement, Metric
from pytest_cnnaudit.statistics import mean, quantile, share

FACTS = Facts(
    samples={"n": 20, "ids": "0" * 16, "content": "1" * 16, "source": "folder val"},
    model={"name": "v1", "digest": "2" * 16},
    seed=0,
    device="cpu",
    precision="float32",
    versions={"pytest-cnnaudit": "0.1.0", "torch": "2.14.1"},
    measured="2026-11-20",
)


def entry_of(metric, values=None, **settings):
    columns = {} if values is None else {"v": np.asarray(values)}
    found = Measurement(kind="attack", title="", settings={"eps": "4/255", **settings}, per_sample=columns)
    return entry(metric, found, FACTS)


def of_share(values, **options):
    return entry_of(share(np.asarray(values, bool), name="accuracy", column="v", **options), np.asarray(values, bool))


def of_mean(values, **options):
    values = np.asarray(values, float)
    known = values[~np.isnan(values)]
    return entry_of(mean(known, name="score", column="v", bounds=None, **options), values)


def of_quantile(values, q=0.5):
    return entry_of(quantile(np.asarray(values, float), q, name="size", column="v"), np.asarray(values, float))


def plain(value, interval=None, better=True):
    return entry_of(Metric(value, name="figure", n=20, ci95=interval, higher_is_better=better))


RIGHT = [True] * 20


@pytest.mark.parametrize(
    ("lost", "tolerance", "verdict"),
    [
        (0, 0, "same"),
        (1, 0, "not beyond chance"),
        (4, 0, "not beyond chance"),
        (5, 0, "worse"),  # one way of 32
        (5, 0.2, "worse"),
        (5, 0.25, "within the tolerance"),
        (5, 0.3, "within the tolerance"),
        (1, 0.05, "within the tolerance"),
    ],
)
def test_a_share_is_worse_beyond_tolerance_and_chance(lost, tolerance, verdict):
    found = compare(of_share(RIGHT), of_share([False] * lost + [True] * (20 - lost)), tolerance)
    assert found.verdict == verdict
    assert found.drop == pytest.approx(lost / 20)
    assert found.lost == tuple(range(lost))
    assert found.gained == ()
    assert found.test.startswith("exact McNemar test, p = ")


def test_an_improvement_is_better_and_never_worse():
    before, now = of_share([False] * 6 + [True] * 14), of_share(RIGHT)
    found = compare(before, now, 0)
    assert (found.verdict, found.drop, found.gained, found.lost) == ("better", pytest.approx(-0.3), tuple(range(6)), ())
    assert compare(of_share([False, *RIGHT[1:]]), now, 0).verdict == "not beyond chance"


def test_as_many_lost_as_gained_is_the_same_figure():
    found = compare(of_share([True, False] * 10), of_share([False, True] * 10), 0)
    assert (found.verdict, len(found.lost), len(found.gained)) == ("same", 10, 10)


def test_where_lower_is_better_a_rise_is_worse():
    before, now = (of_share(values, higher_is_better=False) for values in ([False] * 20, [True] * 7 + [False] * 13))
    found = compare(before, now, 0)
    assert (found.verdict, found.drop, found.lost) == ("worse", pytest.approx(0.35), tuple(range(7)))
    assert compare(now, before, 0).verdict == "better"


def test_pairs_find_what_intervals_do_not():
    """500 samples, 30 lost and 8 gained: the intervals overlap widely, and it is no chance."""
    before = np.arange(500) < 350
    now = before.copy()
    now[:30], now[400:408] = False, True
    old, new = of_share(before), of_share(now)
    assert old["ci95"][0] < new["ci95"][1]
    assert compare(old, new, 0).verdict == "worse"
    alone = [{**each, "statistic": None, "values": None} for each in (old, new)]
    assert compare(*alone, 0).verdict == "not beyond chance"


def test_numbers_are_compared_by_their_own_statistic():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.4, 0.9, 20)
    for make in (of_mean, of_quantile):
        found = compare(make(before), make(before - 0.05), 0)
        assert (found.verdict, len(found.lost)) == ("worse", 20)
        assert found.drop == pytest.approx(0.05, abs=2e-4)
        assert compare(make(before), make(before - 0.05), 0.06).verdict == "within the tolerance"
        assert compare(make(before - 0.05), make(before), 0).verdict == "better"
        assert compare(make(before), make(before + 1e-9), 0).verdict == "same"  # beyond the digits that are kept
    assert compare(of_mean(before), of_mean(before - 0.05), 0).test.startswith("paired permutation test, p")
    assert compare(of_quantile(before), of_quantile(before - 0.05), 0).test.startswith("Wilcoxon signed-rank test")


def test_the_largest_losses_come_first():
    now = np.full(20, 0.5)
    now[[3, 7, 11]] = 0.4, 0.1, 0.9
    found = compare(of_mean(np.full(20, 0.5)), of_mean(now), 0)
    assert (found.lost, found.gained) == ((7, 3), (11,))


def test_infinite_values_are_values():
    never, seldom = np.full(20, np.inf), np.array([0.1] * 11 + [np.inf] * 9)
    found = compare(of_quantile(never), of_quantile(seldom), 0.5)
    assert (found.verdict, found.drop, len(found.lost)) == ("worse", math.inf, 11)
    assert compare(of_quantile(never), of_quantile(never), 0).verdict == "same"
    assert compare(of_quantile(seldom), of_quantile(never), 0).verdict == "better"


def test_samples_without_a_value_are_left_out_of_pairs():
    before = np.linspace(0.3, 0.9, 20)
    now = before - 0.05
    now[:2] = np.nan
    found = compare(of_mean(before), of_mean(now), 0)
    assert found.unpaired == 2
    assert sorted(found.lost) == list(range(2, 20))


def test_a_rise_of_the_pairs_does_not_make_a_fall_of_the_figure_certain():
    """The figure fell as its highest samples have no value any more; each of the others rose."""
    before = np.array([0.9] * 8 + [0.2] * 12)
    now = np.where(np.arange(20) < 8, np.nan, before + 0.05)
    found = compare(of_mean(before), of_mean(now), 0)
    assert found.drop > 0
    assert found.verdict == "not beyond chance"


def test_without_any_value_it_is_worse_than_with():
    none, some = of_mean([np.nan] * 20), of_mean([0.5] * 20)
    assert compare(some, none, 1).verdict == "worse"
    assert compare(none, none, 0).verdict == "same"
    assert compare(none, some, 0).verdict == "better"


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (plain(0.5, (0.4, 0.6)), plain(0.45, (0.35, 0.55)), "not beyond chance"),
        (plain(0.5, (0.45, 0.55)), plain(0.3, (0.25, 0.35)), "worse"),
        (plain(0.3, (0.25, 0.35)), plain(0.5, (0.45, 0.55)), "better"),
        (plain(0.3, (0.25, 0.35), better=False), plain(0.5, (0.45, 0.55), better=False), "worse"),
        (plain(0.5, (0.45, math.inf)), plain(0.3, (0.25, math.inf)), "not beyond chance"),
        (plain(0.5), plain(0.499), "worse"),
        (plain(0.5), plain(0.5), "same"),
        (plain(0.5, (0.4, 0.6)), plain(0.499), "worse"),
        (plain(math.inf, (1, math.inf)), plain(3, (2, 4)), "worse"),
        (plain(math.inf, (1, math.inf)), plain(math.inf, (1, math.inf)), "same"),
    ],
)
def test_without_values_the_intervals_decide_or_the_tolerance_alone(before, now, verdict):
    assert compare(before, now, 0).verdict == verdict


def test_a_drop_as_large_as_the_tolerance_is_within_it_whatever_its_last_bit():
    before, now = of_share(RIGHT * 5), of_share([False] * 30 + [True] * 70)
    assert 1 - 0.7 > 0.3  # in floating point
    assert compare(before, now, 0.3).verdict == "within the tolerance"


BASE = of_share(RIGHT)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"samples": {**BASE["samples"], "n": 19}}, ["20 → 19 samples"]),
        ({"samples": {**BASE["samples"], "ids": "9" * 16}}, ["20 other samples, by their ids"]),
        ({"samples": {**BASE["samples"], "content": "9" * 16}}, ["the same ids, but other images or labels"]),
        ({"samples": {**BASE["samples"], "source": "elsewhere"}}, []),
        ({"settings": {"eps": "8/255"}}, ["eps 4/255 → 8/255"]),
        ({"settings": {"eps": "4/255", "steps": "9"}}, ["steps not given → 9"]),
        ({"settings": {}}, ["eps 4/255 → not given"]),
        ({"settings": {"eps": "4/255", "seed": "7"}}, []),
        ({"measurement": "fool"}, ["measurement attack → fool"]),
        ({"statistic": None, "values": None}, ["statistic share → none"]),
        ({"unit": "px"}, ["unit none → px"]),
        ({"statistic": "share", "values": "ff", "n": 8}, ["20 → 8 values"]),
        ({"device": "cuda", "precision": "bfloat16", "versions": {}, "seed": 3, "measured": "2027-01-01"}, []),
    ],
)
def test_another_measurement_is_told_in_words(changed, told):
    assert differences(BASE, {**BASE, **changed}) == told


def test_seed_device_precision_and_versions_are_remarks():
    now = {**BASE, "seed": 3, "device": "cuda", "precision": "bfloat16", "versions": {"torch": "3.0"}}
    assert remarks(BASE, BASE) == []
    assert remarks(BASE, now) == [
        "seed 0 → 3",
        "device cpu → cuda",
        "precision float32 → bfloat16",
        "pytest-cnnaudit 0.1.0 → not given",
        "torch 2.14.1 → 3.0",
    ]
    assert remarks({**BASE, "settings": {"seed": "1"}}, {**BASE, "settings": {"seed": "2"}}) == ["seed 1 → 2"]
