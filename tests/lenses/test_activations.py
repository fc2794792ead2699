"""Figures of channels by their definitions, in any grouping of the samples."""

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.lenses.activations import channel_figures


@given(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=3), st.integers(0, 2**16), st.randoms())
def test_merging_is_measuring_together(samples, cuts, seed, random):
    maps = torch.randn(samples, 3, 2, 4, generator=torch.Generator().manual_seed(seed)).relu()
    ends = sorted({0, samples, *(min(cut, samples) for cut in cuts)})
    parts = [channel_figures(maps[begin:end]) for begin, end in itertools.pairwise(ends)]
    random.shuffle(parts)
    found = functools.reduce(lambda a, b: a.merge(b), parts)
    flat = maps.transpose(0, 1).flatten(1).double().numpy()
    assert np.array_equal(found.largest, flat.max(1))
    assert np.array_equal(found.smallest, flat.min(1))
    assert found.units == flat.shape[1]
    assert found.sparsity == pytest.approx((flat <= 0).mean(1))


@pytest.mark.parametrize(
    ("values", "dead"),
    [
        ([0.0, 0.0, 0.0], True),
        ([-3.0, -1.0, 0.0], True),
        ([-3.0, -1.0, 1e-9], False),
        ([0.0, 0.0, 1e-30], False),
        ([5.0, 5.0, 5.0], True),
        ([5.0, 5.0, 5.000001], True),  # a constant in single precision, computed in two ways
        ([5.0, 5.0, 5.0001], False),
        ([-5.0, 5.0, 5.0], False),
    ],
)
def test_a_channel_is_dead_where_it_never_rises_or_never_changes(values, dead):
    found = functools.reduce(
        lambda a, b: a.merge(b), (channel_figures(torch.full((1, 1, 1, 1), each).double()) for each in values)
    )
    assert found.dead.tolist() == [dead]


@given(st.lists(st.lists(st.floats(-4, 4, width=16), min_size=2, max_size=2), min_size=1, max_size=6))
def test_further_samples_wake_channels_and_never_kill_one(images):
    parts = [channel_figures(torch.tensor(values, dtype=torch.float64)[None, None, None]) for values in images]
    found, dead = parts[0], parts[0].dead[0]
    for part in parts[1:]:
        found = found.merge(part)
        assert dead or not found.dead[0]
        dead = found.dead[0]
