"""Findings merge in any order and grouping."""

import functools
import itertools
import random

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pytest_cnnaudit.engine import Kept, Part
from pytest_cnnaudit.results import Row

ROWS = [Row(f"row {number}", ()) for number in range(20)]


def part(positions, ranks, k):
    """The findings on some positions, whose rows rank as given."""
    positions = np.array(sorted(positions), dtype=np.int64)
    kept = Kept(k).merge(Kept(k, tuple((ranks[each], int(each), ROWS[each]) for each in positions)))
    return Part(positions, {"value": positions * 10, "share": positions / 7}, {"worst": kept})


def assert_same(one, other):
    assert one.positions.tolist() == other.positions.tolist()
    assert {name: column.tolist() for name, column in one.columns.items()} == {
        name: column.tolist() for name, column in other.columns.items()
    }
    assert one.kept["worst"].rows == other.kept["worst"].rows


ranks = st.lists(st.sampled_from([0.0, 0.5, 0.5, 1.0, -1.0]), min_size=20, max_size=20)  # with ties


@given(ranks=ranks, k=st.integers(1, 25), cuts=st.sets(st.integers(1, 19)), seed=st.integers(0, 999))
def test_any_split_merged_in_any_order_and_grouping_is_the_whole(ranks, k, cuts, seed):
    shuffled = random.Random(seed)
    order = shuffled.sample(range(20), 20)
    edges = [0, *sorted(cuts), 20]
    parts = [part(order[a:b], ranks, k) for a, b in itertools.pairwise(edges)]
    whole = part(range(20), ranks, k)
    assert_same(functools.reduce(Part.merge, parts), whole)
    while len(parts) > 1:  # any two, in any order
        shuffled.shuffle(parts)
        parts.append(parts.pop().merge(parts.pop()))
    assert_same(parts[0], whole)


@given(ranks=ranks, k=st.integers(1, 6), a=st.integers(1, 9), b=st.integers(10, 19))
def test_merging_is_associative_and_commutative(ranks, k, a, b):
    x, y, z = part(range(a), ranks, k), part(range(a, b), ranks, k), part(range(b, 20), ranks, k)
    assert_same(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert_same(x.merge(y), y.merge(x))


def test_the_lowest_ranks_are_kept_and_of_equal_ones_the_earlier_sample():
    kept = Kept(2, ((1.0, 4, ROWS[4]),)).merge(Kept(2, ((1.0, 2, ROWS[2]), (0.0, 9, ROWS[9]))))
    assert [row.title for _, _, row in kept.rows] == ["row 9", "row 2"]


def test_columns_keep_their_type():
    positions = np.arange(2)
    merged = Part(positions[:1], {"hit": np.array([True])}).merge(Part(positions[1:], {"hit": np.array([False])}))
    assert merged["hit"].dtype == bool
    assert len(merged) == 2
