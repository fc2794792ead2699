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


# Parts of a larger set, and newer findings ---------------------------------------------------------------------------

distinct = st.permutations(range(20)).map(lambda order: [float(each) for each in order])


@given(ranks=distinct, k=st.integers(1, 25), cuts=st.sets(st.integers(1, 19)), order=st.permutations(range(20)))
def test_parts_measured_by_themselves_are_the_whole_when_put_in_their_places(ranks, k, cuts, order):
    edges = [0, *sorted(cuts), 20]
    parts = []
    for a, b in itertools.pairwise(edges):
        places = np.array(order[a:b])  # in any order
        rows = sorted((ranks[each], number, ROWS[each]) for number, each in enumerate(places.tolist()))
        alone = Part(np.arange(b - a), {"value": places * 10, "share": places / 7}, {"worst": Kept(k, tuple(rows[:k]))})
        parts.append(alone.at(places))
        assert_same(parts[-1], part(places, ranks, k))
    assert_same(functools.reduce(Part.merge, parts), part(range(20), ranks, k))


@given(ranks=ranks, k=st.integers(1, 25), places=st.permutations(range(20)), size=st.integers(1, 20))
def test_rows_go_with_their_samples(ranks, k, places, size):
    places = np.array(places)
    kept = part(range(size), ranks, k).kept["worst"]
    moved = kept.at(places)
    assert moved.k == k
    assert {(rank, position, row) for rank, position, row in moved.rows} == {
        (rank, int(places[position]), row) for rank, position, row in kept.rows
    }
    back = moved.at(np.argsort(places))
    assert back.rows == kept.rows


@given(ranks=ranks, k=st.integers(1, 25), gone=st.sets(st.integers(0, 19)))
def test_rows_of_some_samples_are_taken_away(ranks, k, gone):
    kept = part(range(20), ranks, k).kept["worst"]
    left = kept.without(np.array(sorted(gone), dtype=np.int64))
    assert left.k == k
    assert left.rows == tuple(each for each in kept.rows if each[1] not in gone)
    assert kept.without(np.zeros(0, dtype=np.int64)).rows == kept.rows


def remeasured(positions, ranks, k):
    """Newer findings: other values, rows and ranks than those of `part`."""
    found = part(positions, [-rank for rank in ranks], k)
    rows = tuple((rank, position, NEWER[position]) for rank, position, _ in found.kept["worst"].rows)
    return Part(found.positions, {"value": found["value"] + 1, "share": -found["share"]}, {"worst": Kept(k, rows)})


NEWER = [Row(f"newer row {number}", ()) for number in range(20)]


@given(ranks=ranks, old=st.sets(st.integers(0, 19), min_size=1), new=st.sets(st.integers(0, 19), min_size=1))
def test_newer_findings_take_the_place_of_older_ones(ranks, old, new):
    """With room for all rows, this is what had been found had the others not been measured before."""
    k = 20
    found = part(old, ranks, k).updated(remeasured(new, ranks, k))
    rest = old - new
    expected = part(rest, ranks, k).merge(remeasured(new, ranks, k))
    assert_same(found, expected)
    assert found.positions.tolist() == sorted(old | new)


@given(ranks=ranks, k=st.integers(1, 5), new=st.sets(st.integers(0, 19), min_size=1))
def test_no_row_outlives_its_findings(ranks, k, new):
    found = part(range(20), ranks, k).updated(remeasured(new, ranks, k))
    rows = found.kept["worst"].rows
    assert len(rows) <= k
    assert len({position for _, position, _ in rows}) == len(rows)
    assert all(row is (NEWER if position in new else ROWS)[position] for _, position, row in rows)
    assert [each[:2] for each in rows] == sorted(each[:2] for each in rows)
    if len(new) >= k:
        assert len(rows) == k


@given(ranks=ranks, k=st.integers(1, 5), cuts=st.sets(st.integers(1, 19)), order=st.permutations(range(20)))
def test_in_ascending_places_rows_of_equal_rank_are_those_of_the_whole(ranks, k, cuts, order):
    parts = []
    for a, b in itertools.pairwise([0, *sorted(cuts), 20]):
        places = np.sort(np.array(order[a:b]))
        rows = sorted((ranks[each], number, ROWS[each]) for number, each in enumerate(places.tolist()))
        alone = Part(np.arange(b - a), {"value": places * 10, "share": places / 7}, {"worst": Kept(k, tuple(rows[:k]))})
        parts.append(alone.at(places))
    assert_same(functools.reduce(Part.merge, parts), part(range(20), ranks, k))


@given(ranks=ranks, k=st.integers(1, 5), order=st.permutations(range(20)), cuts=st.sets(st.integers(1, 19)))
def test_rows_kept_of_what_is_final_alone_are_the_right_ones_in_any_order_of_updates(ranks, k, order, cuts):
    found = part(range(20), ranks, k).without_rows("worst")
    assert not found.kept["worst"].rows
    for a, b in itertools.pairwise([0, *sorted(cuts), 20]):
        found = found.updated(remeasured(sorted(order[a:b]), ranks, k))
    assert_same(found, remeasured(range(20), ranks, k))


def test_updating_twice_with_the_same_changes_nothing():
    ranks = [float(each % 5) for each in range(20)]
    once = part(range(20), ranks, 20).updated(remeasured({1, 5, 7}, ranks, 20))
    assert_same(once.updated(remeasured({1, 5, 7}, ranks, 20)), once)


def test_a_column_is_added_or_takes_the_place_of_one():
    found = part(range(4), [0.0] * 20, 2)
    added = found.with_column("settled", np.array([True, False, True, True]))
    assert list(added.columns) == ["value", "share", "settled"]
    assert added["settled"].tolist() == [True, False, True, True]
    assert added["value"] is found["value"]
    assert added.kept is found.kept
    assert added.positions is found.positions
    replaced = added.with_column("value", np.arange(4))
    assert list(replaced.columns) == ["value", "share", "settled"]
    assert replaced["value"].tolist() == [0, 1, 2, 3]
    assert found["value"].tolist() == [0, 10, 20, 30]
    assert "settled" not in found.columns
