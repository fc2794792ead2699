# ruff: noqa: SIM300 (a number on the left is what is tested)
import copy
import json
import math
import pickle

import numpy as np
import pytest

from pytest_cnnaudit import Metric
from pytest_cnnaudit.results import (
    Bars,
    Comparison,
    Cost,
    Line,
    Measurement,
    Table,
    TableRow,
    figure,
    require,
    shortfall,
)


def metric(value=0.31, **changed):
    settings = {"name": "robust accuracy", "n": 512, "count": 158, "ci95": (0.27, 0.35), "higher_is_better": True}
    return Metric(value, **{**settings, **changed})


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + 1, lambda x: 1 - x, lambda x: 2 * x, lambda x: x / 3, lambda x: 1 / x, lambda x: x**2,
        lambda x: -x, abs, round, math.sqrt, math.floor, hash, bool, lambda x: f"{x:.3f}", lambda x: format(x, "+.1%"),
        json.dumps, lambda x: sorted([0.4, x, 0.2]), lambda x: max(x, 0.1), lambda x: x == 0.31,
        lambda x: x != 0.31, lambda x: {x: 1}[0.31], lambda x: sum([x, x]), lambda x: np.sqrt(x).item(),
        lambda x: np.array([x, 1.0]).tolist(),
        lambda x: np.float64(2) * x, lambda x: np.float64(2) + x, lambda x: x == pytest.approx(0.31), float,
        lambda x: x >= 0.3, lambda x: x < 0.3,
    ],
)  # fmt: skip
def test_it_computes_as_the_float_it_is(use):
    assert use(metric()) == use(0.31)


def test_a_figure_that_could_not_be_measured_is_not_a_number():
    missing = metric(math.nan, ci95=None, count=None, n=0)
    assert math.isnan(missing)
    assert not missing >= 0.1
    assert not missing <= 0.1
    assert repr(missing) == "robust accuracy not a number"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_knows_what_the_original_knows(duplicate):
    original = metric(unit="px", bounds=(0, 1), help="what it is", story=("a line",))
    original.link = "index.html#x"
    assert original >= 0.3
    found = duplicate(original)
    assert float(found) == 0.31
    assert type(found) is Metric
    for name in ("name", "unit", "n", "count", "higher_is_better", "bounds", "help", "story", "link", "comparisons"):
        assert getattr(found, name) == getattr(original, name), name
    assert tuple(map(float, found.ci95)) == (0.27, 0.35)


@pytest.mark.parametrize(
    ("compare", "noted"),
    [
        (lambda x: x >= 0.3, (">=", 0.3, True)),
        (lambda x: x > 0.31, (">", 0.31, False)),
        (lambda x: x <= 0.3, ("<=", 0.3, False)),
        (lambda x: x < 1, ("<", 1.0, True)),
        (lambda x: 0.3 <= x, (">=", 0.3, True)),
        (lambda x: 0.5 > x, ("<", 0.5, True)),
        (lambda x: 0 < x, (">", 0.0, True)),
        (lambda x: 1 >= x, ("<=", 1.0, True)),
        (lambda x: x >= np.float32(0.25), (">=", 0.25, True)),
        (lambda x: x >= np.float64(0.3), (">=", 0.3, True)),
        (lambda x: x < np.int64(1), ("<", 1.0, True)),
    ],
)  # fmt: skip
def test_a_comparison_with_a_number_is_noted(compare, noted):
    held = metric()
    assert compare(held) == noted[2]
    assert held.comparisons == [Comparison(*noted)]


def test_a_numpy_scalar_on_the_left_compares_by_value():
    """It is asked first, and knows nothing of metrics: such a threshold is not noted."""
    assert np.float64(0.3) <= metric()
    assert not np.float32(0.5) <= metric()


def test_both_sides_of_a_chained_comparison_are_noted_and_each_only_once():
    held = metric()
    for _ in range(3):
        assert 0.2 <= held <= 0.4
    assert held.comparisons == [Comparison(">=", 0.2, True), Comparison("<=", 0.4, True)]


def test_two_metrics_are_compared_without_a_note():
    one, other = metric(), metric(0.5)
    assert one < other
    assert one.comparisons == other.comparisons == []


def test_it_does_not_compare_with_what_is_no_number():
    with pytest.raises(TypeError):
        metric() >= "0.3"  # noqa: B015
    assert metric() != "0.31"


def test_an_end_of_the_interval_is_a_metric_whose_comparison_belongs_to_the_whole():
    whole = metric(story=("attack: pgd",))
    low, high = whole.ci95
    assert low < 0.3
    assert high <= 0.35
    assert whole.comparisons == [Comparison("<", 0.3, True, "lower end"), Comparison("<=", 0.35, True, "upper end")]
    assert low.name == "robust accuracy (lower end of the 95% CI)"
    assert low.story == whole.story
    assert low.ci95 is None


def test_it_shows_itself_with_its_uncertainty():
    assert repr(metric()) == "robust accuracy 0.31 (95% CI 0.27 to 0.35, 158 of 512)"
    assert repr(metric(unit="px", count=None)) == "robust accuracy 0.31 px (95% CI 0.27 to 0.35, n 512)"
    assert repr(metric(ci95=None, count=None, n=0)) == "robust accuracy 0.31"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.00"), (0.3086, "0.31"), (1, "1.00"), (-0.5, "-0.50"), (0.00123, "0.00123"), (12345.6, "12,346"),
     (99.999, "100.00"), (100, "100"), (1e-9, "1e-09"), (math.nan, "not a number"), (math.inf, "inf")],
)  # fmt: skip
def test_figures_are_rounded_for_people(value, shown):
    assert figure(value) == shown


def test_a_failure_tells_the_whole_story():
    failed = metric(story=("attack: pgd, linf", "weakest class: bird 0.11"))
    failed.link = "cnnaudit-report/index.html#x"
    assert shortfall(failed, ">=", 0.35) == [
        "robust accuracy 0.31 (95% CI 0.27 to 0.35, 158 of 512) >= 0.35",
        "  attack: pgd, linf",
        "  weakest class: bird 0.11",
        "  cnnaudit-report/index.html#x",
    ]


@pytest.mark.parametrize(
    ("value", "threshold"), [(0.3499, 0.35), (0.35 - 1e-16, 0.35), (123.4, 123.44), (0.001230, 0.001231)]
)
def test_rounding_never_makes_a_failure_look_like_a_tie(value, threshold):
    line = shortfall(metric(value, ci95=None, count=None, n=0), ">=", threshold)[0]
    shown, limit = line.removeprefix("robust accuracy ").split(" >= ")
    assert shown != limit
    assert float(shown) < float(limit)


def test_require_passes_in_silence_and_fails_with_the_story():
    held = metric()
    require(held, ">=", 0.3)
    with pytest.raises(AssertionError, match=r"^assert robust accuracy 0.31 \(.*\) >= 0.35"):
        require(held, ">=", 0.35)
    with pytest.raises(AssertionError):
        require(metric(math.nan), ">=", 0.0)
    assert [each.holds for each in held.comparisons] == [True, False]


def test_costs_add_and_subtract():
    assert Cost(5, 3) - Cost(2, 1) + Cost(1, 0) == Cost(4, 2)


def test_a_measurement_lists_its_metrics_and_is_frozen():
    measurement = Measurement(kind="x", title="A title", settings={}, per_sample={})
    assert measurement.metrics == ()
    with pytest.raises(AttributeError):
        measurement.kind = "y"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Line("v1", [1, 2], [1]), r"line 'v1' has 2 and 1 values: give as many y as x"),
        (lambda: Line("v1", [1], [1], [0]), r"line 'v1' .* both low and high or neither"),
        (lambda: Line("v1", [1], [1], high=[2]), r"both low and high or neither"),
        (lambda: Line("v1", [1], [1], [0, 0], [1, 1]), r"has 1 and 1 and 2 and 2 values"),
        (lambda: Bars("all", [0, 1], [1, 2]), r"bars 'all' have 2 edges and 2 counts: give one edge more"),
        (lambda: Table("t", "", ("a", "b"), (TableRow(("c",)),)), r"table 't' has 1 cells for 2 columns: \('c',\)"),
    ],
)
def test_an_exhibit_that_does_not_fit_together_says_what_does_not(make, message):
    with pytest.raises(ValueError, match=message):
        make()
