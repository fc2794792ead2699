"""Whether a change may be chance: against Newcombe's own example, and by what must hold for any two intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.amounts import rounded
from pytest_cnnaudit.newcombe import may_be_chance
from pytest_cnnaudit.statistics import proportion_interval


def metric(value, low, high):
    return {"value": value, "ci95": [low, high]}


def share(count, n):
    return metric(count / n, *proportion_interval(count, n))


def test_newcombe_s_example_is_beyond_chance():
    """56 of 70 and 48 of 80 (Newcombe 1998, table II (a), method 10: the difference is 0.0524 to 0.3339)."""
    one, other = share(56, 70), share(48, 80)
    lower = 0.2 - math.hypot(0.8 - one["ci95"][0], other["ci95"][1] - 0.6)
    assert lower == pytest.approx(0.0524, abs=5e-5)
    assert not may_be_chance(other, one)


def test_newcombe_s_other_example_is_within_chance():
    """9 of 10 and 3 of 10 are beyond it, 6 of 7 and 2 of 7 just so (0.0582), 5 of 56 and 0 of 29 not (−0.0381)."""
    assert not may_be_chance(share(3, 10), share(9, 10))
    assert not may_be_chance(share(2, 7), share(6, 7))
    assert may_be_chance(share(0, 29), share(5, 56))


ends = st.floats(0, 1)


@given(ends, ends, ends, ends)
def test_it_is_the_same_both_ways_and_never_beyond_chance_where_each_holds_the_other(one, other, low, high):
    low, high = min(low, one, other), max(high, one, other)
    old, new = metric(one, low, high), metric(other, low, high)
    assert may_be_chance(old, new) == may_be_chance(new, old)
    assert may_be_chance(old, new)


@pytest.mark.parametrize("ends", [[None, 0.5], [0.2, None]])
def test_an_open_end_reaches_everywhere(ends):
    new, facing = {"value": 0.4, "ci95": ends}, ends[0] is None
    assert may_be_chance(metric(0.1, 0.1, 0.1), new) == facing
    assert may_be_chance(metric(0.9, 0.9, 0.9), new) != facing


def test_what_has_no_interval_is_certain():
    assert not may_be_chance({"value": 0.1, "ci95": None}, {"value": 0.2, "ci95": None})


def test_differences_are_rounded_for_people():
    assert [rounded(0.04, ""), rounded(0.0123, "ms"), rounded(12.345, "")] == ["0.04", "0.012 ms", "12.35"]
