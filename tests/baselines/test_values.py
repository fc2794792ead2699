"""Per-sample values as text, and the statistics over them."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as of_numpy

from pytest_cnnaudit.baselines.values import compute, group_size, is_statistic, pack_values, rounded, unpack_values

any_number = st.floats(-1e300, 1e300) | st.sampled_from([np.inf, -np.inf, np.nan])


@given(st.lists(st.booleans(), max_size=70))
def test_bools_come_back_exactly(values):
    text = pack_values(np.array(values, bool))
    assert len(text) == 2 * -(-len(values) // 8)
    found = unpack_values(text, "share", len(values))
    assert found.dtype == bool
    assert found.tolist() == values


@given(st.lists(any_number, max_size=40))
def test_numbers_come_back_with_four_digits_and_then_exactly(values):
    values = np.array(values, dtype=np.float64)
    n = int((~np.isnan(values)).sum())
    text = pack_values(values)
    once = unpack_values(text, "mean", n)
    assert np.array_equal(np.isnan(once), np.isnan(values))
    assert np.array_equal(once[np.isinf(values)], values[np.isinf(values)])
    normal = np.isfinite(values) & (np.abs(values) > 1e-300) & (np.abs(values) < 1e300)
    assert np.allclose(once[normal], values[normal], rtol=5.01e-4, atol=0)
    assert pack_values(once) == text
    assert np.array_equal(unpack_values(pack_values(once), "mean", n), once, equal_nan=True)


@given(any_number)
def test_a_figure_is_rounded_as_its_values_are(value):
    packed = unpack_values(pack_values(np.array([value])), "mean", int(not np.isnan(value)))
    assert np.array_equal([rounded(value)], packed, equal_nan=True)


@given(of_numpy.arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32)))
def test_what_a_rerun_moves_in_the_last_bits_is_the_same_text_mostly(values):
    assert pack_values(values) == pack_values(values.astype(np.float64))


def test_the_first_sample_is_the_highest_bit():
    assert pack_values(np.array([True, *[False] * 8])) == "8000"
    assert pack_values(np.array([1.0, -0.0, 0.00012345])) == "1 0 0.0001234"


@pytest.mark.parametrize("name", ["share", "mean", "median", "mean over groups of 4", "quantile 0.05", "quantile 1"])
def test_statistics_have_these_names(name):
    assert is_statistic(name)


@pytest.mark.parametrize(
    "name", ["", "mode", "quantile 0", "quantile 0.0", "quantile 1.5", "mean over groups of 0", "share "]
)
def test_others_are_none(name):
    assert not is_statistic(name)
    with pytest.raises(ValueError, match="There is no statistic"):
        compute(name, np.ones(3))


def test_statistics_are_along_the_last_axis():
    values = np.array([[1.0, 4, 2, 3], [np.inf, 0, 0, np.inf]])
    assert compute("mean", values[0]) == 2.5
    assert compute("mean over groups of 2", values[0]) == 2.5
    assert compute("median", values).tolist() == [2.5, np.inf]
    assert compute("quantile 0.5", values).tolist() == [2, 0]
    assert compute("quantile 0.75", values).tolist() == [3, np.inf]
    assert np.isnan(compute("quantile 0.5", np.empty(0)))
    assert (group_size("mean"), group_size("mean over groups of 12")) == (1, 12)
