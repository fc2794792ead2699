"""Nearest neighbours against closed forms and brute force, however the points come in blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses import neighbours
from pytest_cnnaudit.lenses.neighbours import _Screen, block_size, directions, nearest_neighbours


def nearest(points, k, at_once=1000, **options):
    points = np.asarray(points)
    return nearest_neighbours(lambda begin, end: points[begin:end], len(points), k, at_once=at_once, **options)


def brute_force(points, k):
    """For each point (distance, position) of the k nearest others, by torch.cdist in double precision."""
    points = torch.as_tensor(points).double()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").tolist()
    return [
        sorted((distance, other) for other, distance in enumerate(row) if other != own)[:k]
        for own, row in enumerate(distances)
    ]


def test_points_on_a_line():
    found = nearest([[0.0], [1.0], [3.0], [7.0], [15.0]], 2)
    assert found.positions.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1], [3, 2]]
    assert found.euclidean.tolist() == [[1, 3], [1, 2], [2, 3], [4, 6], [8, 12]]
    assert found.squared.tolist() == [[1, 9], [1, 4], [4, 9], [16, 36], [64, 144]]


@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
def test_equally_near_ones_are_in_the_order_of_their_positions(at_once):
    found = nearest([[1.0], [0.0], [-1.0], [1.0], [-1.0]], 3, at_once)
    assert found.positions.tolist() == [[3, 1, 2], [0, 2, 3], [4, 1, 0], [0, 1, 2], [2, 1, 0]]


def test_cosine_and_euclidean_differ():
    points = np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    assert nearest(points, 1).positions[0, 0] == 2
    by_angle = nearest(directions(points), 3, unit=True)
    assert by_angle.positions[0].tolist() == [1, 2, 3]
    assert by_angle.cosine[0] == pytest.approx([1 - 10 / 101**0.5, 1, 1])
    assert by_angle.cosine[2, 0] == 0  # the same direction


def test_what_has_no_direction_is_at_a_right_angle_to_all_others_and_equal_to_its_like():
    found = nearest(directions(np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])), 3, unit=True)
    assert found.positions.tolist() == [[3, 1, 2], [0, 3, 2], [0, 3, 1], [0, 1, 2]]
    assert found.cosine.tolist() == [[0, 1, 1], [1, 1, 2], [1, 1, 2], [0, 1, 1]]


def test_multiples_of_a_vector_are_equal_by_angle():
    random = np.random.default_rng(0)
    points = random.random((1, 7)) * np.exp(random.uniform(-9, 9, (40, 1)))
    assert np.square(directions(points)[:, None] - directions(points)).sum(2).any()  # rounding tells them apart
    found = nearest(directions(points), 3, unit=True)
    assert not found.squared.any()
    assert found.positions[5].tolist() == [0, 1, 2]


@given(st.data())
def test_they_are_those_of_brute_force_whatever_the_blocks(data):
    """Coordinates are whole numbers from -2 to 2: most points are as near as others, and many are equal."""
    count, width = data.draw(st.integers(2, 14)), data.draw(st.integers(1, 4))
    k, at_once = data.draw(st.integers(1, count - 1)), data.draw(st.integers(1, 15))
    random = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    points = random.integers(-2, 3, (count, width)).astype(data.draw(st.sampled_from([np.float32, np.float64])))
    expected = brute_force(points, k)
    found = nearest(points, k, at_once)
    assert found.positions.tolist() == [[other for _, other in row] for row in expected]
    assert found.euclidean == pytest.approx(np.array([[distance for distance, _ in row] for row in expected]))


@given(st.integers(0, 2**16), st.integers(1, 24), st.integers(1, 23))
def test_neither_blocks_nor_the_order_of_the_points_change_a_digit(seed, at_once, k):
    random = np.random.default_rng(seed)
    points = random.standard_normal((24, 9), dtype=np.float32)
    whole, blocks = nearest(points, k), nearest(points, k, at_once)
    assert np.array_equal(whole.squared, blocks.squared)
    assert np.array_equal(whole.positions, blocks.positions)
    order = random.permutation(24)
    moved = nearest(points[order], k, at_once)
    assert np.array_equal(moved.squared, whole.squared[order])
    assert np.array_equal(order[moved.positions], whole.positions[order])


def test_points_close_together_and_far_from_zero_keep_all_their_digits():
    random = np.random.default_rng(0)
    points = (1e4 + random.random((60, 30))).astype(np.float32)
    points[41] = points[3]
    expected = brute_force(points, 4)
    lengths = np.square(points).sum(1)
    naive = lengths[:, None] + lengths - 2 * points @ points.T  # in float32: nothing of distances of 5 is left
    np.fill_diagonal(naive, np.inf)
    assert (np.argsort(naive, axis=1)[:, 0] != [row[0][1] for row in expected]).mean() > 0.5
    found = nearest(points, 4, at_once=7)
    assert found.positions.tolist() == [[other for _, other in row] for row in expected]
    assert found.euclidean == pytest.approx(
        np.array([[distance for distance, _ in row] for row in expected]), rel=1e-14
    )
    assert (found.squared[3, 0], found.positions[3, 0], found.squared[41, 0], found.positions[41, 0]) == (0, 41, 0, 3)


@given(st.integers(0, 2**16), st.integers(1, 20), st.integers(1, 6))
def test_ties_that_the_first_look_cannot_see_are_still_ties(seed, at_once, k):
    """Squared distances of 1e-6 to 1e-4 between points whose squares are 1e12."""
    random = np.random.default_rng(seed)
    points = random.uniform(1e5, 1e6, 3) + random.integers(-2, 3, (20, 3)) / 1024
    assert nearest(points, k, at_once).positions.tolist() == [
        [other for _, other in row] for row in brute_force(points, k)
    ]


def test_distances_are_those_of_double_precision():
    points = np.random.default_rng(0).standard_normal((50, 70), dtype=np.float32)
    expected = np.array([[distance for distance, _ in row] for row in brute_force(points, 6)])
    assert nearest(points, 6, at_once=20).euclidean == pytest.approx(expected, rel=1e-14)


def test_a_point_far_away_hides_none_of_those_close_together():
    points = np.concatenate([np.random.default_rng(0).random((30, 5)) * 1e-6, np.full((1, 5), 1e9)])
    found = nearest(points, 3, at_once=8)
    assert found.positions[:30].tolist() == [[other for _, other in row] for row in brute_force(points, 3)[:30]]


@given(st.integers(0, 2**16), st.integers(1, 300), st.sampled_from([0.0, 1.0, 1e4, 1e8]))
def test_the_first_look_is_wrong_by_no_more_than_it_says(seed, width, offset):
    random = np.random.default_rng(seed)
    a, b = offset + random.standard_normal((6, width)), offset + random.standard_normal((5, width))
    b[0] = a[0]
    screen = _Screen.of(a, b, "cpu", 0)
    rows, columns = (each.ravel() for each in np.indices((6, 5)))
    exact = screen.exact(rows, columns).reshape(6, 5)
    assert np.abs(screen.squared.numpy() - exact).max() <= screen.error
    assert exact[0, 0] == 0
    assert screen.error <= 1e-10 * (np.square(a).sum() + np.square(b).sum() + 1)


def test_equal_points_are_all_at_distance_0_in_their_order():
    found = nearest(np.full((9, 4), 0.3, np.float32), 3, at_once=4)
    assert not found.squared.any()
    assert found.positions[[0, 1, 8]].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 2]]


class Largest(TorchDispatchMode):
    """The largest tensor made within."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made


@pytest.mark.parametrize("at_once", [16, 50, 240])
def test_no_more_than_two_blocks_and_their_distances_are_ever_held(at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "_SLICE", 2**12)
    points = np.random.default_rng(0).random((240, 96), dtype=np.float32)
    loads = []

    def load(begin, end):
        loads.append(end - begin)
        return points[begin:end]

    with Largest() as largest:
        nearest_neighbours(load, 240, 5, at_once=at_once)
    assert largest.numbers <= max(at_once**2, 2**12 // 8, 240)
    assert max(loads) <= at_once
    assert sum(loads) == sum(240 - begin for begin in range(0, 240, at_once))


def test_blocks_fill_their_bytes():
    assert 2 * 4 * 3000 * block_size(3000, 4, within=10**7) <= 10**7 < 2 * 4 * 3000 * (block_size(3000, 4, 10**7) + 1)


@pytest.mark.parametrize(
    ("k", "count", "message"),
    [
        (4, 4, r"k=4 is no number of neighbours among 4 samples; give 1 to 3\."),
        (0, 4, "k=0 is no number of neighbours"),
        (1, 1, "A single sample has no neighbours"),
    ],
)
def test_more_neighbours_than_there_are_is_an_error(k, count, message):
    with pytest.raises(AuditError, match=message):
        nearest(np.zeros((count, 2)), k)
