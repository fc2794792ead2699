"""The top units against brute force, however the samples are batched and merged."""

import functools
import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.lenses.patches import top_units


def brute_force(maps, k):
    """For each channel: (activation, sample, y, x), no two of one sample, the strongest and then the earliest first."""
    found = []
    for channel in range(maps.shape[1]):
        best = []
        for sample, image in enumerate(maps[:, channel]):
            _, y, x = min((-float(image[y, x]), y, x) for y in range(image.shape[0]) for x in range(image.shape[1]))
            best.append((float(image[y, x]), sample, y, x))
        found.append(sorted(best, key=lambda each: (-each[0], each[1]))[:k])
    return found


def listed(top):
    return [
        [(value, sample, y, x) for value, sample, (y, x) in zip(*rows, strict=True)]
        for rows in zip(top.values.tolist(), top.samples.tolist(), top.places.tolist(), strict=True)
    ]


@given(st.data())
def test_they_are_those_of_brute_force_in_any_order_and_grouping(data):
    """Activations are whole numbers from -2 to 2: most of them are equal to others."""
    samples, channels, height, width = (data.draw(st.integers(1, high)) for high in (9, 3, 3, 4))
    k, seed = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 2**16))
    maps = torch.randint(-2, 3, (samples, channels, height, width), generator=torch.Generator().manual_seed(seed))
    maps = maps.float()
    ends = sorted({0, samples, *data.draw(st.lists(st.integers(0, samples), max_size=4))})
    parts = [top_units(maps[begin:end], np.arange(begin, end), k) for begin, end in itertools.pairwise(ends)]
    expected = brute_force(maps, k)
    assert listed(top_units(maps, np.arange(samples), k)) == expected
    shuffled = data.draw(st.permutations(parts))
    assert listed(functools.reduce(lambda a, b: a.merge(b), shuffled)) == expected
    assert listed(functools.reduce(lambda a, b: b.merge(a), shuffled)) == expected
    assert listed(functools.reduce(lambda a, b: b.merge(a), reversed(shuffled))) == expected


def test_they_are_as_many_as_there_are_samples():
    top = top_units(torch.rand(2, 3, 4, 5), np.array([7, 9]), 9)
    assert top.values.shape == top.samples.shape == (3, 2)
    assert top.places.shape == (3, 2, 2)
    assert set(top.samples.ravel().tolist()) == {7, 9}
    assert (top.k, top.size) == (9, (4, 5))


def test_what_is_kept_does_not_grow_with_the_samples():
    top = functools.reduce(
        lambda a, b: a.merge(b), (top_units(torch.rand(8, 3, 4, 4), np.arange(at, at + 8), 5) for at in range(0, 80, 8))
    )
    assert top.values.shape == (3, 5)
    assert (np.diff(top.values) <= 0).all()


def test_maps_of_low_precision_and_of_another_layout():
    maps = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = brute_force(maps, 2)
    assert listed(top_units(maps, np.arange(4), 2)) == expected
    assert listed(top_units(maps.to(memory_format=torch.channels_last), np.arange(4), 2)) == expected
