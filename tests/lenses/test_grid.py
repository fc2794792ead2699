import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from pytest_cnnaudit import Samples
from pytest_cnnaudit.lenses.grid import choose_grids, tile

candidates = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=40)


@given(candidates=candidates, cells=st.sampled_from([1, 2, 4]), limit=st.integers(0, 8))
def test_grids_hold_distinct_classes_and_each_image_once_the_most_confident_first(candidates, cells, limit):
    labels = np.array([label for label, _ in candidates], dtype=np.int64)
    confidences = np.array([confidence for _, confidence in candidates])
    grids = choose_grids(labels, confidences, cells, limit)
    assert len(grids) <= limit
    assert all(len(grid) == len({labels[each] for each in grid}) == cells for grid in grids)
    used = [each for grid in grids for each in grid]
    assert len(used) == len(set(used))
    for label in set(labels[used]) if used else ():
        taken = [confidences[each] for each in used if labels[each] == label]
        left = [confidences[each] for each in np.flatnonzero(labels == label) if each not in used]
        assert taken == sorted(taken, reverse=True)
        assert not left or max(left) <= min(taken)


@given(counts=st.lists(st.integers(0, 8), min_size=1, max_size=6), cells=st.sampled_from([2, 3, 4]))
def test_as_many_grids_are_filled_as_can_be(counts, cells):
    labels = np.repeat(np.arange(len(counts)), counts)
    grids = choose_grids(labels, np.linspace(0, 1, len(labels)), cells, limit=100)
    # g grids can be filled if and only if the classes, each used at most g times, fill g · cells places.
    possible = max(g for g in range(100) if sum(min(count, g) for count in counts) >= g * cells)
    assert len(grids) == possible


def test_tiles_hold_the_images_pixel_by_pixel_and_the_mask_covers_the_cell():
    images = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    samples = Samples.from_tensors(images, torch.arange(6) + 10)
    tiled = tile(samples, [[5, 0, 3, 2], [1, 4, 0, 2]], 2)
    assert len(tiled) == 8
    for position, (grid, cell) in enumerate((grid, cell) for grid in ([5, 0, 3, 2], [1, 4, 0, 2]) for cell in range(4)):
        sample = tiled[position]
        assert sample.image.shape == (3, 8, 10)
        assert sample.label == grid[cell] + 10
        assert sample.region().sum() == 20
        assert sample.image[:, sample.region()].reshape(3, 4, 5).equal(images[grid[cell]])
        top_left, bottom_right = sample.image[:, :4, :5], sample.image[:, 4:, 5:]
        assert top_left.equal(images[grid[0]])
        assert bottom_right.equal(images[grid[3]])
    assert len(set(tiled.ids)) == 8
