"""What became of a metric since its baseline, in the sentence, in the terminal's line and in the pull request."""

import pytest

from pytest_cnnaudit.gallery.costs import cache_words, passes
from pytest_cnnaudit.gallery.markdown import pull_request_report
from pytest_cnnaudit.gallery.story import headline, story

MCNEMAR = "exact McNemar test, p = 0.003"
OF = "the baseline of 2026-11-20"
RUN = {"status": "finished", "notes": [], "exit_status": 0, "device": "cpu", "versions": {}}


def compared(value, before, verdict, *, limits=(), tolerance=0.0, better=True, name="robust accuracy", unit=""):
    def shown(number):
        return "inf" if number is None else f"{number:.2f}{unit and ' '}{unit}"

    known = {"value": before, "display": shown(before), "ci95": None, "of": OF}
    known |= {"verdict": verdict, "test": MCNEMAR, "tolerance": tolerance, "lost": 12, "gained": 3}
    thresholds = [{"op": ">=", "value": limit, "holds": value >= limit, "on": ""} for limit in limits]
    about = {"name": name, "display": shown(value), "unit": unit, "ci95": None, "higher_is_better": better}
    return {**about, "value": value, "thresholds": thresholds, "baseline": known}


def record(outcome, *metrics, message="", **more):
    measured = {"name": "attack", "metrics": list(metrics), "cost": {"forward": 30, "backward": 12}, **more}
    return {
        "id": "test_a.py::test_it",
        "outcome": outcome,
        "message": message,
        "model": None,
        "measurements": [measured],
    }


SENTENCES = [
    (
        "failed",
        [compared(0.31, 0.35, "worse")],
        f"Robust accuracy is 0.31, 0.04 below {OF} (0.35), more than chance explains.",
    ),
    (
        "failed",
        [compared(12, 10, "worse", unit="ms", better=False, tolerance=1, name="b")],
        f"B is 12.00 ms, 2 ms above {OF} (10.00 ms), more than the tolerance of 1 ms allows and chance explains.",
    ),
    (
        "failed",
        [compared(0.9, 0.9, "same"), compared(0.3, 0.5, "worse"), compared(0.2, 0.5, "worse", name="b")],
        f"Robust accuracy is 0.30, 0.2 below {OF} (0.50), more than chance explains; 1 more fell short.",
    ),
    (
        "failed",
        [compared(0.31, 0.35, "worse", limits=[0.4])],
        "Robust accuracy is 0.31, 0.09 below the required 0.4; 1 more fell short.",
    ),
    (
        "failed",
        [compared(0.02, None, "worse", name="median")],
        f"Median is 0.02, beside {OF} (inf), more than chance explains.",
    ),
    (
        "xfailed",
        [compared(0.31, 0.35, "worse", name="a")],
        f"Fell short, as expected: a is 0.31, 0.04 below {OF} (0.35), more than chance explains.",
    ),
    (
        "passed",
        [compared(0.34, 0.35, "not beyond chance")],
        f"Robust accuracy is 0.34, 0.01 below {OF} (0.35), which chance may explain.",
    ),
    (
        "passed",
        [compared(0.34, 0.35, "within the tolerance", tolerance=0.02)],
        f"Robust accuracy is 0.34, 0.01 below {OF} (0.35), within the tolerance of 0.02.",
    ),
    (
        "passed",
        [compared(0.35, 0.35, "same", name="b"), compared(0.5, 0.35, "better", name="a")],
        f"A is 0.50, 0.15 above {OF} (0.35): better; accept it to make it the new baseline.",
    ),
    ("passed", [compared(0.35, 0.35, "same", name="a")], f"A is 0.35, the same as {OF} (0.35)."),
    ("passed", [compared(None, None, "same", name="a")], f"A is inf, the same as {OF} (inf)."),
    ("passed", [compared(0.5, 0.4, "better", limits=[0.3])], "Robust accuracy is 0.50, 0.2 above the required 0.3."),
    ("passed", [compared(0.35, 0.3, "of a later version", name="a")], "A is 0.35; nothing was asked of it."),
]


@pytest.mark.parametrize(("outcome", "metrics", "expected"), SENTENCES)
def test_the_sentence_tells_the_change_and_whether_chance_explains_it(outcome, metrics, expected):
    assert story(record(outcome, *metrics)) == expected


def test_a_missing_baseline_is_told_by_the_message():
    missing = {**compared(0.31, 0.35, "worse"), "baseline": None}
    assert (
        story(record("failed", missing, message="there is no baseline for it\nmore")) == "There is no baseline for it."
    )


def test_the_terminal_s_line_has_the_verdict():
    other = {**compared(0.9, 0.9, ""), "name": "other"}
    line = headline(record("failed", other, compared(0.31, 0.35, "worse")))
    assert line == f"robust accuracy 0.31, worse than {OF}: {MCNEMAR}"
    assert headline(record("passed", other)) == "other 0.90"


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (compared(0.31, 0.35, "worse"), f"−0.04 worse than {OF}: "),
        (compared(0.31, 0.90, "not beyond chance"), "−0.59 not beyond chance: "),
        (compared(0.34, 0.35, "within the tolerance", tolerance=0.02), "−0.01 within the tolerance 0.02 |"),
        (compared(0.5, 0.35, "better"), "; accept it to make it the new baseline |"),
        (compared(0.02, None, "worse"), f"| inf ({OF}) | 0.02 | worse than {OF}: "),
    ],
)
def test_the_pull_request_has_the_verdict_rather_than_what_intervals_tell(metric, expected):
    text = pull_request_report(RUN, [record("passed", metric)])
    assert expected in text
    assert "within the interval" not in text
    assert "1 of 1 figures changed." in text


def test_the_same_is_no_change_and_what_fell_from_infinity_is_the_worst():
    metrics = [compared(0.3, 0.9, "worse", name="much"), compared(0.02, None, "worse", name="from infinity")]
    text = pull_request_report(RUN, [record("passed", compared(0.351, 0.35, "same"), *metrics)])
    assert "2 of 3 figures changed." in text
    assert text.index("| from infinity |") < text.index("| much |")
    assert "robust accuracy |" not in text


def test_passes_that_the_cache_spared_are_not_counted():
    measured = "2026-11-25T14:02:11+00:00"
    whole = record("passed", cached={"measured": measured, "batches": None})
    part = record("passed", cached={"measured": measured, "batches": 12})
    new, old = record("passed", cached=None), record("passed")
    tests = [whole, part, new, old]
    assert (passes(tests, "forward"), passes(tests, "backward")) == (90, 36)
    text = pull_request_report(RUN, tests)
    assert "- Passes: 90 forward, 36 backward\n" in text
    assert "- From the cache: 1 of 4 measurements, 1 measurement continued an earlier run\n" in text
    assert "From the cache" not in pull_request_report(RUN, [new, old])
    assert cache_words([whole]) == "1 of 1 measurement"
    assert cache_words([part, part]) == "2 measurements continued an earlier run"
