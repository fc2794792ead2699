"""A test's outcome in one sentence."""

import pytest

from pytest_cnnaudit.gallery.story import story


def metric(value, *limits, name="robust accuracy", ci95=None, unit=""):
    thresholds = [{"op": op, "value": limit, "holds": holds, "on": on} for op, limit, holds, on in limits]
    return {
        "name": name,
        "value": value,
        "display": f"{value:g}{unit and ' '}{unit}",
        "unit": unit,
        "ci95": ci95,
        "thresholds": thresholds,
    }


def told(outcome, *metrics, message=""):
    return story({"outcome": outcome, "message": message, "measurements": [{"metrics": list(metrics)}]})


@pytest.mark.parametrize(
    ("outcome", "metrics", "expected"),
    [
        (
            "failed",
            [metric(0.31, (">=", 0.35, False, ""), ci95=[0.28, 0.34])],
            "Robust accuracy is 0.31, 0.04 below the required 0.35.",
        ),
        (
            "failed",
            [metric(0.31, (">=", 0.35, False, ""), ci95=[0.27, 0.36], name="accuracy")],
            "Accuracy is 0.31, 0.04 below the required 0.35; its 95% interval holds the threshold: a close call.",
        ),
        (
            "failed",
            [metric(0.3, (">=", 0.35, False, "")), metric(0.9, ("<=", 0.4, False, ""), name="roughness")],
            "Roughness is 0.9, 0.5 above the allowed 0.4; 1 more fell short.",
        ),
        (
            "passed",
            [metric(12, (">", 10, True, ""), unit="ms")],
            "Robust accuracy is 12 ms, 2 ms above the required 10 ms.",
        ),
        (
            "passed",
            [metric(0.5, (">=", 0.5, True, ""))],
            "Robust accuracy is 0.5, exactly the required 0.5.",
        ),
        (
            "passed",
            [metric(0.5, (">=", 0.3, True, "lower end"), ci95=[0.4, 0.6])],
            "The lower end of the interval of robust accuracy is 0.4, 0.1 above the required 0.3.",
        ),
        (
            "passed",
            [metric(0.5, (">=", 0.3, True, ""), (">=", 0.49, True, ""))],
            "All 2 thresholds hold; the closest: robust accuracy is 0.5, 0.01 above the required 0.49.",
        ),
        ("passed", [metric(0.5)], "Robust accuracy is 0.5; nothing was asked of it."),
        ("passed", [], "Nothing was measured."),
        (
            "xpassed",
            [metric(0.5, (">=", 0.3, True, ""))],
            "Passed, although expected to fall short: robust accuracy is 0.5, 0.2 above the required 0.3.",
        ),
    ],
)
def test_the_sentence_tells_figure_distance_and_chance(outcome, metrics, expected):
    assert told(outcome, *metrics) == expected


@pytest.mark.parametrize(
    ("outcome", "message", "expected"),
    [
        ("skipped", "Skipped: no weights", "Not run: no weights."),
        ("error", "\nno layer 'x'.\nmore", "No verdict: no layer 'x'."),
        ("crashed", "", "No verdict."),
        ("passed", "", "Nothing was measured."),
        ("failed", "assert 1 == 2", "Assert 1 == 2."),
        ("xfailed", "known", "Fell short, as expected: known."),
    ],
)
def test_without_a_threshold_the_reason_is_told(outcome, message, expected):
    assert told(outcome, message=message) == expected


def test_what_is_not_a_number_has_no_distance():
    nothing = {**metric(0.0, (">=", 0.5, False, "")), "value": None, "display": "not a number"}
    assert told("failed", nothing, message="assert it is a number") == "Assert it is a number."
