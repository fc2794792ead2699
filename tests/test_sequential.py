"""Error rates and power of sequential verdicts, by simulation, and what they promise for every stream."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given
from scipy import stats

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.sequential import confidence_sequence, sequential_verdict

STREAMS, LENGTH = 600, 500
unit_values = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(0, 1), max_size=80).map(np.array)
streams = st.builds(lambda p, n, seed: np.random.default_rng(seed).random(n) < p, st.floats(0, 1), st.integers(0, 300),
                    st.integers(0, 999)) | unit_values  # fmt: skip


def drawn(mean, streams=STREAMS, length=LENGTH):
    return np.random.default_rng(0).random((streams, length)) < mean


def decided_after(values, threshold, confidence=0.95):
    """The first prefix with a verdict, by halving: a verdict once given stays."""
    undecided, decided = 0, len(values) + 1
    while decided - undecided > 1:
        middle = (undecided + decided) // 2
        if sequential_verdict(values[:middle], threshold, confidence) == "undecided":
            undecided = middle
        else:
            decided = middle
    return decided


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("mean", [0.02, 0.3, 0.5, 0.75, 0.99])
def test_at_the_threshold_a_verdict_is_ever_given_as_rarely_as_promised(mean, confidence):
    """Looking after each of 500 values: what a fixed-size test at this confidence gets wrong in a third of streams."""
    wrong = sum(sequential_verdict(values, mean, confidence) != "undecided" for values in drawn(mean))
    assert wrong <= stats.binom.ppf(0.999, STREAMS, 1 - confidence)


def test_a_test_of_fixed_size_that_is_asked_after_every_value_does_not_keep_its_promise():
    """That the simulation above can fail."""
    hits = drawn(0.3).cumsum(1)
    n = np.arange(1, LENGTH + 1)
    z = (hits - 0.3 * n) / np.sqrt(0.21 * n)
    assert (np.abs(z[:, 20:]) > 1.96).any(1).mean() > 0.25


def test_values_between_0_and_1_are_judged_as_rarely_wrong():
    values = np.random.default_rng(0).beta(2, 6, (STREAMS, LENGTH))  # mean 0.25
    wrong = sum(sequential_verdict(each, 0.25, 0.9) != "undecided" for each in values)
    assert wrong <= stats.binom.ppf(0.999, STREAMS, 0.1)


@pytest.mark.parametrize(
    ("mean", "threshold", "median"),
    [(0.32, 0.22, 180), (0.32, 0.42, 235), (0.58, 0.48, 235), (0.58, 0.68, 235), (0.04, 0.14, 100)],
)
def test_ten_points_off_the_threshold_the_verdict_comes_soon_and_is_right(mean, threshold, median):
    right = "above" if mean > threshold else "below"
    values = drawn(mean, 200, 1000)
    verdicts = [sequential_verdict(each, threshold) for each in values]
    assert verdicts.count(right) >= 198
    assert np.median([decided_after(each, threshold) for each in values]) <= median


def test_values_that_vary_little_are_decided_sooner_than_hits():
    steady = np.random.default_rng(0).uniform(0.27, 0.37, 300)
    assert decided_after(steady, 0.22) < 0.5 * np.median([decided_after(each, 0.22) for each in drawn(0.32, 100)])


@given(values=streams, threshold=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.99]))
@example(values=np.repeat([1.0, 0.0], 60), threshold=0.5, confidence=0.9)
def test_a_verdict_once_given_stays(values, threshold, confidence):
    given_before = "undecided"
    for count in range(0, len(values) + 1, max(1, len(values) // 20)):
        verdict = sequential_verdict(values[:count], threshold, confidence)
        assert given_before in ("undecided", verdict)
        given_before = verdict


@given(values=streams, more=unit_values, threshold=st.floats(0, 1))
def test_only_the_values_up_to_the_verdict_count(values, more, threshold):
    count = decided_after(values, threshold)
    if count <= len(values):
        continued = np.concatenate([values[:count], more])
        assert sequential_verdict(continued, threshold) == sequential_verdict(values, threshold)
        assert sequential_verdict(values[: count - 1], threshold) == "undecided"


@given(values=streams, threshold=st.floats(0, 1))
def test_what_is_above_is_below_when_hits_and_misses_change_places(values, threshold):
    mirrored = {"above": "below", "below": "above", "undecided": "undecided"}
    verdict = sequential_verdict(values.astype(float), threshold)
    assert sequential_verdict(1 - values.astype(float), 1 - threshold) == mirrored[verdict]


@given(values=streams, threshold=st.floats(0, 1))
def test_the_interval_holds_the_thresholds_that_are_undecided(values, threshold):
    low, high = confidence_sequence(values)
    assert 0 <= low <= high <= 1
    verdict = sequential_verdict(values, threshold)
    if threshold < low - 1e-6:
        assert verdict == "above"
    elif threshold > high + 1e-6:
        assert verdict == "below"
    elif low + 1e-6 < threshold < high - 1e-6:
        assert verdict == "undecided"


@given(values=streams)
def test_the_interval_only_shrinks(values):
    ends = [confidence_sequence(values[:count]) for count in range(0, len(values) + 1, max(1, len(values) // 4))]
    assert all(a[0] <= b[0] and b[1] <= a[1] for a, b in itertools.pairwise(ends))


def test_the_interval_holds_the_mean_at_all_times_as_often_as_promised():
    values = drawn(0.3, 120, 150)  # it only shrinks: what it holds at the end, it has held all along
    missed = sum(not low <= 0.3 <= high for low, high in map(confidence_sequence, values))
    assert missed <= stats.binom.ppf(0.999, 120, 0.05)


def test_the_interval_narrows_with_the_root_of_the_number_of_values():
    values = drawn(0.3, 1, 4000)[0]
    widths = [high - low for low, high in (confidence_sequence(values[:n]) for n in (250, 4000))]
    assert 3 < widths[0] / widths[1] < 5
    assert widths[1] < 2 * 2 * 1.96 * np.sqrt(0.21 / 4000)  # at most twice that of a fixed size


def test_values_that_contradict_each_other_leave_the_interval_where_they_began_to():
    low, high = confidence_sequence(np.repeat([0.0, 1.0], 200))
    assert 0 < low <= high < 0.05


@pytest.mark.parametrize("hits", [0, 1])
def test_values_that_are_all_equal_are_decided_after_few(hits):
    values = np.full(60, hits)
    right = "above" if hits else "below"
    for threshold, few in ((0.5, 10), (0.3 + 0.4 * hits, 20)):
        assert sequential_verdict(values, threshold) == right
        assert decided_after(values, threshold) <= few
    assert sequential_verdict(values, hits) == "undecided"  # never larger than 1, or smaller than 0


@pytest.mark.parametrize(("threshold", "pays", "verdict"), [(0, 1e-3, "above"), (1, 1 - 1e-3, "below")])
def test_a_single_value_off_the_border_decides_a_threshold_at_the_border(threshold, pays, verdict):
    values = np.full(500, float(threshold))
    assert sequential_verdict(values, threshold) == "undecided"
    values[77] = pays
    assert sequential_verdict(values, threshold) == verdict
    assert decided_after(values, threshold) == 78


def test_no_values_decide_nothing():
    nothing = np.zeros(0)
    assert {sequential_verdict(nothing, threshold) for threshold in (0, 0.3, 1)} == {"undecided"}
    assert confidence_sequence(nothing) == (0, 1)


@pytest.mark.parametrize(
    ("values", "threshold", "confidence", "message"),
    [
        ([0.5], 0.5, 95, "confidence=95 is not between 0 and 1"),
        ([0.5], 1.5, 0.95, "threshold=1.5"),
        ([0.5, 1.5], 0.5, 0.95, "from 0 to 1"),
        ([0.5, float("nan")], 0.5, 0.95, "from 0 to 1"),
    ],
)
def test_what_is_no_share_is_refused(values, threshold, confidence, message):
    with pytest.raises(AuditError, match=message):
        sequential_verdict(np.array(values), threshold, confidence)
