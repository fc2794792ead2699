"""Which samples a failure is shown again with: on these alone, the measurement falls short as well."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_cnnaudit.baselines.values import compute
from pytest_cnnaudit.repro.worst import WORST, failed_measurement, worst
from pytest_cnnaudit.results import Exhibit, Measurement, Metric, Picture, Row

PICTURE = (Picture(np.zeros((2, 2, 3), np.uint8)),)
HOLDS = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Found(Measurement):
    score: Metric


def found(values, op=">=", threshold=0.5, statistic="mean", *, exhibits=(), kind="any", column="score"):
    values = np.asarray(values)
    score = Metric(compute(statistic, values[~np.isnan(values)]), name="score", column=column, statistic=statistic)
    {">=": score.__ge__, ">": score.__gt__, "<=": score.__le__, "<": score.__lt__}[op](threshold)
    ids = tuple(f"s{number}" for number in range(len(values)))
    return Found(
        kind=kind, title="", settings={}, ids=ids, per_sample={"score": values}, exhibits=exhibits, score=score
    )


def rows(*names, status="", kind="rows"):
    return Exhibit("", "", tuple(Row(name, PICTURE, status) for name in names), kind)


def unknown(_):
    return None


@given(
    values=st.lists(
        st.integers(0, 16).map(lambda number: number / 8) | st.sampled_from([np.inf, np.nan]), min_size=1, max_size=60
    ),
    op=st.sampled_from(list(HOLDS)),
    threshold=st.integers(0, 16).map(lambda number: number / 8),
    statistic=st.sampled_from(["mean", "median", "quantile 0.05", "quantile 0.5", "quantile 0.95"]),
    shown=st.lists(st.integers(0, 59), max_size=20),
)
def test_whatever_falls_short_falls_short_on_its_worst_samples(values, op, threshold, statistic, shown):
    whole = np.array(values)
    assume(not np.isnan(whole).all())
    exhibits = (rows(*(f"s{number}" for number in shown)),)
    measurement = found(values, op, threshold, statistic, exhibits=exhibits)
    assume(not HOLDS[op](float(measurement.score), threshold))
    chosen = worst(measurement, measurement.ids, unknown)
    few = whole[[measurement.ids.index(name) for name in chosen]]
    assert 0 < len(chosen) == len(set(chosen)) <= WORST
    assert not HOLDS[op](compute(statistic, few), threshold)


def test_those_that_are_shown_come_first_then_the_worst_and_never_one_that_holds():
    measurement = found([0.4, 0.9, 0.1, 0.3, 0.2], exhibits=(rows("s1", "s0", "s3"),))
    assert worst(measurement, measurement.ids, unknown) == ["s0", "s3", "s2", "s4"]


def test_tiles_come_after_all_that_is_shown_large():
    exhibits = (rows("s4", kind="samples"), rows("s2"))
    measurement = found([0.0] * 5, column="", exhibits=exhibits)
    assert worst(measurement, measurement.ids, unknown) == ["s2", "s4"]


@pytest.mark.parametrize("status", ["robust", "spared", "far", "hit"])
def test_where_the_values_are_not_known_those_that_came_out_well_stay_out(status):
    exhibits = (rows("s0", status=status), rows("s3", status="fooled"), rows("channel 1"))
    measurement = found([0.0] * 5, column="", exhibits=exhibits)
    assert worst(measurement, measurement.ids, unknown) == ["s3"]


def test_where_nothing_is_known_of_the_samples_it_is_the_first_ones():
    measurement = found([0.0] * 20, column="")
    assert worst(measurement, measurement.ids, unknown) == list(measurement.ids[:WORST])


def test_there_are_none_where_others_were_measured_than_the_test_was_given():
    measurement = found([0.0] * 3)
    assert worst(measurement, ("s0", "s1"), unknown) == []  # for example the grids of the grid pointing game
    assert worst(found([0.0] * 3, kind="neighbours"), measurement.ids, unknown) == []
    images = found([0.0] * 3, kind="fool")
    assert worst(images, ("s0", "s1", "s2", "s3"), unknown) == []  # audit.samples[:3], which the test will take again
    assert len(worst(images, images.ids, unknown)) == 3


def test_a_value_that_is_just_the_threshold_is_wrong_where_more_was_asked_for():
    strict, lenient = found([0.5, 0.2, 0.6], ">"), found([0.5, 0.2, 0.6], ">=")
    assert worst(strict, strict.ids, unknown) == ["s1", "s0"]
    assert worst(lenient, lenient.ids, unknown) == ["s1"]


def test_two_thresholds_are_missed_by_each_of_the_samples_where_some_miss_both():
    measurement = found([0.1, 0.2, 0.9, 0.99], threshold=0.95)
    assert not measurement.score <= 0.15
    assert worst(measurement, measurement.ids, unknown) == ["s2", "s1"]  # below 0.95 and above 0.15


def test_a_regression_is_shown_on_what_was_lost_most_first_beyond_the_tolerance():
    measurement = found([0.5, 0.0, 0.4, 0.6], threshold=0.0, exhibits=(rows("s2"),))
    measurement.score.baseline = {"verdict": "worse", "tolerance": 0.1}
    lost = {"score": np.array([0.05, 0.0, 0.2, 0.4])}
    chosen = worst(measurement, measurement.ids, lambda metric: lost[metric.name])
    assert chosen == ["s3", "s2"]


def test_what_a_test_failed_on_is_the_last_that_fell_short_else_the_last():
    good, bad, late = found([1.0]), found([0.0]), found([1.0])
    assert failed_measurement([good, bad, late]) is bad
    assert failed_measurement([good, late]) is late
    assert failed_measurement([]) is None
