import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from pytest_cnnaudit.lenses.box_accuracy import (
    THRESHOLDS,
    best_overlap,
    box_around,
    box_overlaps,
    centred_map,
    largest_boxes,
)


def blob(box, value=1.0, size=(12, 10)):
    x0, y0, x1, y1 = box
    values = np.zeros(size)
    values[y0:y1, x0:x1] = value
    return values


def test_a_map_that_is_the_box_fits_it_at_every_threshold_but_zero():
    overlaps = box_overlaps(blob((2, 3, 7, 9))[None], [np.array([[2.0, 3, 7, 9]])])
    assert overlaps[0, 0] == pytest.approx(30 / 120)  # all of the map is at 0 or above
    assert overlaps[0, 1:] == pytest.approx(1)


def test_the_box_is_around_the_part_with_the_most_pixels_not_the_strongest():
    values = blob((0, 0, 2, 2), 1.0) + blob((4, 4, 9, 9), 0.5)
    boxes = largest_boxes(values)
    assert boxes[(THRESHOLDS > 0) & (THRESHOLDS <= 0.5)].tolist()[0] == [4, 4, 9, 9]
    assert boxes[-1].tolist() == [0, 0, 2, 2]


def test_parts_that_touch_at_a_corner_are_one():
    boxes = largest_boxes(blob((0, 0, 2, 2)) + blob((2, 2, 4, 4)))
    assert boxes[-1].tolist() == [0, 0, 4, 4]


def test_of_several_objects_the_one_that_fits_best_counts():
    maps = blob((2, 3, 7, 9))[None]
    overlaps = box_overlaps(maps, [np.array([[0.0, 0, 1, 1], [2, 3, 7, 8], [8, 8, 9, 9]])])
    assert overlaps[0, -1] == pytest.approx(25 / 30)


def test_where_there_is_no_box_or_the_map_is_constant_nothing_fits():
    maps = np.stack([blob((2, 3, 7, 9)), np.full((12, 10), 0.3)])
    overlaps = box_overlaps(maps, [np.zeros((0, 4)), np.array([[2.0, 3, 7, 9]])])
    assert not overlaps.any()


def reference(values, truth):
    """By flood filling, threshold for threshold, pixel sets in place of boxes' arithmetic."""
    scaled = (values - values.min()) / np.ptp(values)
    result = []
    for threshold in THRESHOLDS:
        above = {tuple(each) for each in np.argwhere(scaled >= threshold)}
        parts = []
        while above:
            part, waiting = set(), [min(above)]
            while waiting:
                y, x = waiting.pop()
                if (y, x) in above:
                    above.remove((y, x))
                    part.add((y, x))
                    waiting += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            parts.append(part)
        part = max(parts, key=len)
        rows, columns = zip(*part, strict=True)
        box = {(y, x) for y in range(min(rows), max(rows) + 1) for x in range(min(columns), max(columns) + 1)}
        result.append(len(box & truth) / len(box | truth))
    return result


@given(
    arrays(np.float64, (6, 7), elements=st.integers(0, 5).map(float)).filter(lambda values: np.ptp(values) > 0),
    st.integers(0, 4), st.integers(0, 4), st.integers(1, 3), st.integers(1, 2), st.floats(0.1, 9), st.floats(-3, 3),
)  # fmt: skip
def test_it_is_what_flood_filling_finds_whatever_the_maps_scale(values, x, y, width, height, scale, shift):
    truth = {(row, column) for row in range(y, y + height) for column in range(x, x + width)}
    box = np.array([[x, y, x + width, y + height]], dtype=float)
    found = box_overlaps(values[None], [box])[0]
    assert found == pytest.approx(reference(values, truth))
    scaled = values * 2.0 ** round(scale) + round(shift)  # exactly, so that no threshold is crossed by rounding
    assert box_overlaps(scaled[None], [box])[0] == pytest.approx(found)


def test_an_overlap_is_intersection_over_union_of_fractions_of_pixels():
    boxes, truth = np.array([[0.0, 0, 2, 2], [5, 5, 6, 6]]), np.array([[0.5, 1, 2.5, 2]])
    assert best_overlap(boxes, truth) == pytest.approx([1.5 / (4 + 2 - 1.5), 0])


def test_the_box_around_a_region():
    assert box_around(blob((2, 3, 7, 9)) > 0).tolist() == [[2, 3, 7, 9]]
    assert box_around(np.zeros((3, 3), dtype=bool)).shape == (0, 4)


@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_the_centred_map_is_the_same_from_all_sides_and_as_wide_as_the_image(size):
    values = centred_map(*size)
    assert values == pytest.approx(values[::-1])
    assert values == pytest.approx(values[:, ::-1])
    box = largest_boxes(values)[15]
    assert (box[2] - box[0]) / size[1] == pytest.approx((box[3] - box[1]) / size[0], abs=0.15)
