"""What the page says of runs before this one: metrics over time, verdicts on baselines, and the cache."""

import copy
import math
from itertools import pairwise

import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.history import append, with_history
from pytest_cnnaudit.records import _metric
from pytest_cnnaudit.results import Metric

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img, [onerror], script:not([src]), main script').length"
NOT_NUMBERS = r"""() => [...document.querySelectorAll('svg, svg *')].flatMap((node) => [...node.attributes]
    .filter(({ name, value }) => !name.startsWith('aria-') && /NaN|Infinity|undefined|null/.test(value)))
    .map(({ name, value }) => `${name}=${value}`)"""
RUN = {"seed": 3, "device": "cpu", "command": "pytest", "versions": {}, "status": "finished"}
COMMIT = "0123456789abcdef" * 2 + "01234567"

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])


def metric(value, threshold=None, *, name="robust accuracy", bounds=(0, 1), ci95=True, **more):
    made = Metric(value, name=name, n=512, ci95=(value - 0.04, value + 0.04) if ci95 else None, bounds=bounds, **more)
    if threshold is not None:
        made._compare(">=", threshold)
    return _metric(made)


def measurement(*metrics, **more):
    about = {"name": "attack", "title": "Attack", "settings": {}, "notes": [], "complete": True, "exhibits": []}
    return {**about, "cost": {"forward": 1000, "backward": 500}, "metrics": list(metrics), **more}


def record(*measurements, name="test_one", outcome="passed"):
    about = {"message": "", "doc": "", "duration": 1.0, "samples": None, "model": None}
    return {"id": f"test_a.py::{name}", "outcome": outcome, **about, "measurements": list(measurements)}


@pytest.fixture
def open_report(open_page, tmp_path):
    def open_report(*records, test="test_one", **view):
        report = Report(tmp_path / "report", {**RUN, "started": "2026-01-09T12:00:00+00:00"})
        for each in records:
            report.add(each)
        report.finish("finished", 0)
        page = open_page((tmp_path / "report" / "index.html").as_uri() + (test and f"#test_a.py::{test}"), **view)
        page.locator("h1").wait_for()
        assert page.evaluate(NOT_NUMBERS) == []
        return page

    return open_report


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """The records of the last of several runs, each a (day, outcome, metrics), with what the history tells of them."""
    monkeypatch.setenv("GITHUB_SHA", COMMIT)

    def remembered(*runs):
        for day, outcome, metrics in runs:
            tests = [record(measurement(*metrics), outcome=outcome)]
            append(tmp_path / "history.sqlite", {**RUN, "started": f"2026-01-{day:02}T12:00:00+00:00"}, tests)
        return with_history(tests, tmp_path / "history.sqlite")

    return remembered


def three_runs():
    for day, value, outcome in ((1, 0.40, "passed"), (5, 0.30, "failed"), (9, 0.45, "passed")):
        yield day, outcome, [metric(value, 0.35), metric(value + 0.2, name="clean accuracy")]


# Over time --------------------------------------------------------------------------------------------------------


@views
def test_a_metric_is_drawn_over_time_on_its_card_and_in_a_chart(open_report, remembered, width, scheme):
    page = open_report(*remembered(*three_runs()), width=width, scheme=scheme)
    button = page.locator(".metric-card").first.locator(".history-button")
    assert button.inner_text() == "3 runs"
    assert button.get_attribute("aria-label") == "robust accuracy over 3 runs, from 0.40 to 0.45: show the chart"
    assert button.locator(".history-path").get_attribute("d").count("L") == 2
    limit, dot = (button.locator(f".{name}").bounding_box() for name in ("history-limit", "dot"))
    assert limit["y"] > dot["y"] + dot["height"] / 2  # 0.45 lies above the required 0.35
    assert page.locator(".metric-card").nth(1).locator(".history-limit").count() == 0
    history = page.locator(".history")
    assert not history.evaluate("node => node.open")
    button.focus()
    page.keyboard.press("Enter")
    assert history.evaluate("node => node.open && document.activeElement === node.querySelector('summary')")
    assert history.locator("summary").first.inner_text() == "Over time: 3 runs since 2026-01-01"
    assert "evenly spaced" in history.locator(".how-to-read").inner_text()
    assert "did not pass" in history.locator(".how-to-read").inner_text()
    assert history.locator(".chart").count() == 1  # of one unit and range
    assert history.locator(".chart-legend li").all_inner_texts() == ["robust accuracy", "clean accuracy"]
    assert history.locator(".chart-mark-label").all_text_contents() == ["robust accuracy ≥ 0.35"]
    assert "2026-01-09" in history.locator(".chart-tick").all_text_contents()
    hollow = history.locator(".chart-dot.is-hollow")
    assert hollow.count() == 2
    assert hollow.first.evaluate("node => getComputedStyle(node).fill") != history.locator(
        ".chart-dot:not(.is-hollow)"
    ).first.evaluate("node => getComputedStyle(node).fill")
    label = history.locator(".chart-point").nth(1).get_attribute("aria-label")
    assert label == "robust accuracy · value 0.300 (0.260–0.340) · run 2026-01-05 · fell short · commit 0123456789ab"
    assert page.evaluate(NOT_NUMBERS) == []
    assert page.evaluate(OVERFLOW) <= 0


def test_the_numbers_are_in_a_table_with_their_commits(open_report, remembered):
    page = open_report(*remembered(*three_runs()))
    page.locator(".history > summary").click()
    page.locator(".history .chart-numbers summary").click()
    table = page.locator(".history .data-table")
    assert table.locator("thead th").all_inner_texts() == ["run", "robust accuracy", "clean accuracy", "test", "commit"]
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert [row[0][:10] for row in rows] == ["2026-01-09", "2026-01-05", "2026-01-01"]  # the latest first
    assert rows[1][1:] == ["0.30 (0.26–0.34)", "0.50 (0.46–0.54)", "fell short", "0123456789ab"]


def test_metrics_of_other_sizes_have_charts_of_their_own(open_report, remembered):
    def metrics(scale):
        yield metric(0.4 * scale, name="share")
        yield metric(12.5 * scale, name="distance", bounds=None, unit="px")
        yield metric(300 * scale, name="score", bounds=None)

    page = open_report(*remembered(*((day, "passed", list(metrics(1 + day / 10))) for day in (1, 2))))
    page.locator(".history > summary").click()
    assert page.locator(".history .chart-name").all_text_contents() == [
        "share",
        "run",
        "distance (px)",
        "run",
        "score",
        "run",
    ]


def test_infinite_values_leave_a_gap_and_are_told_in_the_table(open_report, remembered):
    values = (0.01, math.inf, 0.02, 0.03)
    runs = (
        (day, "passed", [metric(each, name="median", bounds=None, ci95=False)]) for day, each in enumerate(values, 1)
    )
    page = open_report(*remembered(*runs))
    path = page.locator(".history-path").get_attribute("d")
    assert (path.count("M"), path.count("L")) == (2, 1)
    page.locator(".history > summary").click()
    assert page.locator(".history .chart-point").count() == 3
    page.locator(".history .chart-numbers summary").click()
    told = page.locator(".history tbody td:nth-child(2)").all_inner_texts()
    assert told == ["0.03", "0.02", "inf", "0.01"]


def test_nothing_but_infinity_is_still_a_page(open_report, remembered):
    runs = ((day, "passed", [metric(math.inf, name="median", bounds=None, ci95=False)]) for day in (1, 2))
    page = open_report(*remembered(*runs))
    assert page.locator(".history-line").count() == 0
    page.locator(".history-button").click()
    assert "no finite number" in page.locator(".history .chart-canvas").inner_text()


def test_one_run_is_no_history(open_report, remembered):
    page = open_report(*remembered((1, "passed", [metric(0.4)])))
    assert page.locator(".metric-card").count() == 1
    assert page.locator(".history, .history-button").count() == 0


def test_many_runs_of_one_day_are_told_apart_by_their_time(open_report, remembered, tmp_path):
    [test] = remembered((9, "passed", [metric(0.4)]), (9, "failed", [metric(0.5)]))
    [shown] = test["measurements"][0]["metrics"]
    first, last = shown["history"]
    many = [{**first, "run": run, "started": f"2026-01-09T{run // 60:02}:{run % 60:02}:00+00:00"} for run in range(60)]
    shown["history"] = [*many, {**last, "run": 60}]
    page = open_report(test, width=390)
    page.locator(".history > summary").click()
    page.locator(".history .chart-dot").first.wait_for(state="attached")
    ticks = page.locator(".history .chart-axis + .chart-tick").all_text_contents()
    assert all(len(tick) == len("2026-01-09 00:00") for tick in ticks)
    boxes = [tick.bounding_box() for tick in page.locator(".history .chart-axis + .chart-tick").all()]
    assert all(one["x"] + one["width"] < other["x"] for one, other in pairwise(boxes))
    assert page.locator(".history .is-hollow:not(.is-dense)").count() == 1  # seen among points that are not
    assert page.evaluate(OVERFLOW) <= 0


@pytest.mark.parametrize("width", [390, 1440])
def test_the_first_date_is_whole(open_report, remembered, width):
    [test] = remembered((9, "passed", [metric(0.4)]), (9, "failed", [metric(0.5)]))
    page = open_report(test, width=width)
    page.locator(".history > summary").click()
    page.wait_for_function("""() => {
        const chart = document.querySelector('.history svg')?.getBoundingClientRect();
        const dates = [...document.querySelectorAll('.history .chart-axis + .chart-tick')]
          .map((date) => date.getBoundingClientRect());
        return chart && chart.width && dates.length
          && dates[0].left >= chart.left - 0.5 && dates.at(-1).right <= chart.right + 0.5;
    }""")


# Baselines --------------------------------------------------------------------------------------------------------

MCNEMAR = "exact McNemar test, p = 0.003"
TOLERATED = "within the tolerance"
SINCE = "since the baseline of 2026-11-20 · "


def compared(value, before, verdict, *, tolerance=0.0, **more):
    known = {"value": before, "display": f"{before}", "ci95": None, "of": "the baseline of 2026-11-20"}
    known |= {"verdict": verdict, "test": MCNEMAR, "tolerance": tolerance, "lost": 12, "gained": 3}
    return {**metric(value, higher_is_better=True, **more), "baseline": known}


def test_a_verdict_is_told_in_words_and_wins_over_the_intervals(open_report):
    cases = [
        (compared(0.45, 0.47, "worse"), f"−0.02 {SINCE}worse: {MCNEMAR}; 12 samples lost, 3 gained", "bad", "bad"),
        (compared(0.30, 0.90, "not beyond chance"), f"−0.60 {SINCE}not beyond chance: {MCNEMAR}", "idle", "good"),
        (compared(0.44, 0.45, TOLERATED, tolerance=0.02), f"−0.01 {SINCE}within the tolerance 0.02", "idle", "good"),
        (compared(0.60, 0.45, "better"), f"+0.15 {SINCE}better: accept it to make it the new baseline", "good", "good"),
        (compared(0.45, 0.45, "same"), f"±0 {SINCE}no change", "idle", "good"),
    ]  # fmt: skip
    page = open_report(record(measurement(*(shown for shown, *_ in cases))))
    for card, (_, told, tone, judged) in zip(page.locator(".metric-card").all(), cases, strict=True):
        change = card.locator(".change")
        assert change.inner_text().startswith(told)
        assert f"tone-{tone}" in change.get_attribute("class")
        assert f"tone-{judged}" in card.get_attribute("class")
        assert card.locator(".baseline-mark").count() == 1
    assert page.locator(".metrics.is-compact").count() == 0  # something was asked of all of them


def test_a_threshold_that_holds_does_not_hide_what_got_worse(open_report):
    page = open_report(
        record(measurement(compared(0.45, 0.6, "worse", threshold=0.35), compared(0.3, 0.2, "better", threshold=0.35)))
    )
    assert [("tone-bad" in card.get_attribute("class")) for card in page.locator(".metric-card").all()] == [True, True]


def test_from_and_to_infinity_there_is_a_verdict_but_no_distance(open_report):
    fallen = compared(0.02, math.inf, "worse", bounds=None)
    fallen["baseline"] |= {"value": None, "display": "inf"}
    page = open_report(record(measurement(fallen)))
    assert page.locator(".change").inner_text().startswith(f"inf → 0.02 {SINCE}worse")
    assert page.locator(".baseline-mark").count() == 0


def test_the_overview_shows_what_got_worse_first(open_report):
    found = measurement(metric(0.9, 0.5, name="clean accuracy"), metric(0.2, name="other"), compared(0.3, 0.5, "worse"))
    page = open_report({**record(found, outcome="failed"), "message": "assert it is not worse"}, test="")
    assert page.locator(".test .metric-name").all_inner_texts() == ["robust accuracy", "clean accuracy"]
    assert page.locator(".message-line").count() == 0  # the scale tells it


# The cache --------------------------------------------------------------------------------------------------------

MEASURED = "2026-11-25T14:02:11+00:00"


def cached(batches=None):
    return {"cached": {"measured": MEASURED, "batches": batches}}


def test_what_came_from_the_cache_says_so_and_was_not_spent(open_report):
    whole, part, new = (
        measurement(metric(0.5), **cached()),
        measurement(metric(0.5), **cached(12)),
        measurement(metric(0.5)),
    )
    tests = [record(whole), record(part, name="test_two"), record({**new, "cached": None}, name="test_three")]
    page = open_report(*tests)
    shown = page.evaluate("timeText(cnnauditMeasured = '2026-11-25T14:02:11+00:00')")
    spent = "Samples through the model: 1,000 forward · 500 backward"
    assert page.locator(".cost").inner_text() == f"From the cache, measured {shown}. {spent} then, none in this run."
    for name, told in (
        (
            "test_two",
            f"12 batches of an earlier run ({shown}) continued. {spent}, those of the earlier run among them.",
        ),
        ("test_three", spent),
    ):
        page.evaluate(f"location.hash = 'test_a.py::{name}'")
        page.locator("h1", has_text=name).wait_for()
        assert page.locator(".cost").inner_text() == told
    page.evaluate("location.hash = ''")
    page.locator(".run-facts > summary").click()
    facts = page.locator(".run-facts").inner_text()
    assert "1 of 3 measurements, 1 measurement continued an earlier run" in facts
    assert "2,000 forward, 1,000 backward" in facts


# Reports of earlier versions, and names ---------------------------------------------------------------------------


def test_a_report_without_these_fields_says_nothing_of_them(open_report):
    old = measurement(metric(0.5, 0.4))
    del old["metrics"][0]["baseline"]
    page = open_report(record(old))
    assert page.locator(".metric-card").count() == 1
    assert page.locator(".history, .history-button, .change").count() == 0
    page.evaluate("location.hash = ''")
    page.locator(".run-facts > summary").click()
    assert "cache" not in page.locator(".run-facts").inner_text()


@views
def test_hostile_names_do_nothing(open_report, remembered, evil, width, scheme):
    [test] = remembered(*((day, "passed", [metric(0.4, name=evil * 3, unit=evil)]) for day in (1, 2)))
    [shown] = test["measurements"][0]["metrics"]
    shown["baseline"] = {**compared(0.4, 0.5, "worse")["baseline"], "of": evil, "test": evil * 3, "verdict": evil}
    for point in shown["history"]:
        point |= {"commit": evil, "display": evil}
    odd = copy.deepcopy(test)
    odd["measurements"][0]["metrics"][0]["history"][0]["outcome"] = evil
    odd["id"] = "test_a.py::test_two"
    page = open_report(test, odd, width=width, scheme=scheme)
    for name in ("test_one", "test_two"):
        page.evaluate(f"location.hash = 'test_a.py::{name}'")
        page.locator("h1", has_text=name).wait_for()
        page.locator(".history > summary").click()
        page.locator(".history .chart-numbers summary").click()
        assert page.evaluate(INJECTED) == 0
        assert page.evaluate(OVERFLOW) <= 0
