"""The overview and a test's page, of reports made by hand, in a real browser."""

import math

import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.records import _exhibit, _metric
from pytest_cnnaudit.results import Metric, Table, TableRow

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img, [onerror], script:not([src]), main script').length"
TEXTS = "(cells) => cells.map((cell) => cell.textContent.trim())"
RUN = {"started": "2026-01-01T00:00:00+00:00", "seed": 3, "device": "cuda:0", "command": "pytest a", "versions": {}}

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])


def wilson(share, n=512, z=1.96):
    scale = 1 + z * z / n
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (share + z * z / (2 * n)) / scale - half, (share + z * z / (2 * n)) / scale + half


def metric(value, threshold=None, *, before=None, name="robust accuracy", better=True):
    made = Metric(value, name=name, n=512, ci95=wilson(value), higher_is_better=better, bounds=(0, 1))
    if threshold is not None:
        made._compare(">=" if better else "<=", threshold)
    known = before and {"value": before, "display": f"{before:.2f}", "ci95": list(wilson(before)), "of": "last release"}
    return {**_metric(made), "baseline": known}


def measurement(*metrics, name="attack", **more):
    about = {"name": name, "title": name.title(), "settings": {}, "notes": [], "complete": True, "exhibits": []}
    return {**about, "cost": {"forward": 1000, "backward": 500}, "metrics": list(metrics), **more}


def record(name, outcome="passed", *measurements, model=None, **more):
    about = {"message": "", "doc": "", "duration": 1.0, "samples": None}
    named = model and {"name": model, "module": "Net", "digest": f"{model}-digest-of-its-weights"}
    return {
        "id": f"test_a.py::{name}",
        "outcome": outcome,
        "model": named,
        **about,
        "measurements": measurements,
        **more,
    }


@pytest.fixture
def open_report(open_page, tmp_path):
    def open_report(*records, test="", **view):
        report = Report(tmp_path / "report", RUN)
        for each in records:
            report.add(each)
        report.finish("finished", 1)
        page = open_page((tmp_path / "report" / "index.html").as_uri() + (test and f"#test_a.py::{test}"), **view)
        page.locator("h1").wait_for()
        return page

    return open_report


def two_models():
    """An attack at two sizes and a saliency test on both of two models, filters on one of them."""
    for model, small, large, pointing in (("v1", 0.60, 0.37, 0.90), ("v2", 0.70, 0.20, 0.85)):
        for eps, value in ((1, small), (4, large)):
            outcome = "passed" if value >= 0.36 else "failed"
            yield record(f"test_attack[{model}-{eps}]", outcome, measurement(metric(value, 0.36)), model=model)
        pointed = measurement(metric(pointing, name="pointing game"), name="saliency")
        yield record(f"test_saliency[{model}]", "passed", pointed, model=model)
    yield record("test_filters[v1]", "passed", measurement(metric(0.5), name="filters"), model="v1")


def shown(page):
    return [name.split(": ")[1] for name in page.locator(".test-link").evaluate_all(TEXTS)]


# Models side by side ----------------------------------------------------------------------------------------------


@views
def test_models_stand_side_by_side_in_the_tests_that_both_ran(open_report, width, scheme):
    page = open_report(*two_models(), width=width, scheme=scheme)
    assert page.locator(".matrix thead th").evaluate_all(TEXTS) == ["test", "v1", "v2"]
    assert page.locator(".matrix-test").evaluate_all(TEXTS) == ["test_attack[4]", "test_attack[1]", "test_saliency"]
    entries = page.locator(".matrix tbody tr").first.locator(".matrix-entry")
    assert entries.locator(".value").all_inner_texts() == ["0.37", "0.20"]
    assert entries.locator("svg.axis").count() == 2
    assert page.locator(".is-best .value").all_inner_texts() == ["0.37", "0.70", "0.90"]
    weights = [value.evaluate("node => getComputedStyle(node).fontWeight") for value in entries.locator(".value").all()]
    assert weights == ["700", "400"]
    assert page.evaluate(OVERFLOW) <= 0
    entries.nth(1).click()
    page.locator(".test-page").wait_for()
    assert page.locator("h1").inner_text() == "test_attack[v2-4]"


def test_the_dots_of_a_row_share_one_scale(open_report):
    values = {"v1": 0.98, "v2": 0.49}  # alone, the first would be shown enlarged, beside its threshold
    page = open_report(
        *(
            record(f"test_a[{model}]", "failed", measurement({**metric(value, 0.99), "ci95": None}), model=model)
            for model, value in values.items()
        )
    )
    dots = page.locator(".matrix .dot").evaluate_all("dots => dots.map((dot) => dot.cx.baseVal.value)")
    assert dots[0] / dots[1] == pytest.approx(2, rel=0.01)


def test_one_model_needs_no_matrix(open_report):
    page = open_report(
        record("test_a[1]", "passed", measurement(metric(0.5)), model="v1"), record("test_a[2]", model="v1")
    )
    assert page.locator(".matrix, .chips-model").count() == 0


def test_models_are_told_apart_where_parameters_do_not_name_them(open_report):
    tests = [record(f"test_a[{each}]", "passed", measurement(metric(0.5)), model=f"release {each}") for each in (10, 9)]
    page = open_report(*tests)
    assert page.locator(".matrix thead th").evaluate_all(TEXTS) == ["test", "release 9", "release 10"]
    assert page.locator(".matrix-test").evaluate_all(TEXTS) == ["test_a"]
    assert page.locator(".is-best").count() == 0  # neither is better


def test_many_rows_are_folded_and_unfold(open_report):
    names = [f"test_{number}[{model}]" for number in range(12) for model in ("v1", "v2")]
    page = open_report(*(record(name, "passed", measurement(metric(0.5)), model=name[-3:-1]) for name in names))
    rows = page.locator(".matrix tbody tr")
    assert [row.is_visible() for row in rows.all()] == [True] * 8 + [False] * 4
    page.get_by_role("button", name="Show all 12 tests").click()
    assert all(row.is_visible() for row in rows.all())
    assert page.evaluate("() => document.activeElement.closest('tr').sectionRowIndex") == 8


# Filters ----------------------------------------------------------------------------------------------------------


def test_filters_by_model_and_measurement_narrow_the_list_and_are_kept(open_report):
    page = open_report(*two_models())
    page.locator(".chip[data-model=v1]").click()
    assert shown(page) == ["test_attack[v1-1]", "test_attack[v1-4]", "test_saliency[v1]", "test_filters[v1]"]
    page.locator("#kind").select_option("saliency")
    assert shown(page) == ["test_saliency[v1]"]
    assert page.locator(".tally").inner_text() == "1 of 7 tests shown"
    page.locator(".test-link").click()
    page.keyboard.press("u")
    page.locator(".overview").wait_for()
    assert shown(page) == ["test_saliency[v1]"]
    assert page.locator("#kind").input_value() == "saliency"
    assert page.locator(".chip[data-model=v1]").get_attribute("aria-pressed") == "true"
    page.locator("#kind").select_option("any measurement")
    page.locator(".chip[data-outcome=failed]").click()
    assert shown(page) == []
    page.locator(".chip[data-model=all]").click()
    assert shown(page) == ["test_attack[v2-4]"]


def test_close_calls_are_counted_and_shown_alone(open_report):
    tests = [
        ("test_just", 0.36, 0.35),
        ("test_clear", 0.8, 0.35),
        ("test_nearly", 0.34, 0.35),
        ("test_none", 0.5, None),
    ]
    judged = [record(name, "passed", measurement(metric(value, limit))) for name, value, limit in tests]
    page = open_report(*judged, width=390)
    button = page.locator(".verdict").get_by_role("button", name="2 close calls")
    button.click()
    assert shown(page) == ["test_just", "test_nearly"]
    assert page.locator(".test .close-call").count() == 2
    button.click()
    assert len(shown(page)) == 4


def test_no_close_call_is_claimed_where_there_is_none(open_report):
    page = open_report(record("test_clear", "passed", measurement(metric(0.8, 0.35))))
    assert page.locator(".close-calls").count() == 0


# Skips and the run ------------------------------------------------------------------------------------------------


def test_a_reason_for_skipping_is_said_once(open_report):
    reasons = ["Skipped: no GPU", "Skipped: no weights", "Skipped: no GPU", ""]
    skips = [record(f"test_{number}", "skipped", message=reason) for number, reason in enumerate(reasons)]
    page = open_report(record("test_a", "passed", measurement(metric(0.5))), *skips)
    page.locator("details.group summary").click()
    groups = {
        group.locator(".reason").inner_text(): len(group.locator(".test-link").all())
        for group in page.locator(".reasons > li").all()
    }
    assert groups == {"no GPU": 2, "no weights": 1, "no reason given": 1}
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("() => document.activeElement.textContent").endswith("test_0")  # j reaches them, too


@views
def test_the_run_says_what_was_measured_at_what_cost(open_report, width, scheme):
    samples = {"n": 512, "source": "folder x", "digest": "0123456789abcdef"}
    tests = [
        record(f"test_{number}", "passed", measurement(metric(0.5)), model="resnet20", samples=samples, duration=number)
        for number in range(1, 8)
    ]
    page = open_report(*tests, width=width, scheme=scheme)
    page.locator(".run-facts > summary").click()
    facts = page.locator(".run-facts").inner_text()
    assert "7,000 forward, 3,500 backward" in facts
    digests = page.locator(".run-facts code")
    assert digests.all_inner_texts() == ["resnet20-dig", "0123456789ab"]
    assert digests.first.get_attribute("title") == "resnet20-digest-of-its-weights"
    slowest = page.locator(".run-facts section").last.locator("tbody tr")
    assert slowest.locator("a").evaluate_all(TEXTS) == [f"test_a.py::test_{number}" for number in (7, 6, 5, 4, 3)]
    assert slowest.first.locator("td").last.locator("> span").last.inner_text() == "25 %"  # 7 of 28 seconds
    assert page.evaluate(OVERFLOW) <= 0


# A test's page ----------------------------------------------------------------------------------------------------


def test_the_story_leads_and_the_docstring_follows(open_report):
    told = record(
        "test_a", "failed", measurement(metric(0.3, 0.35)), doc="What it asks.", story="It fell short by far."
    )
    page = open_report(told, test="test_a")
    story = page.evaluate("() => report.tests[0].story")
    assert page.locator(".test-header .lead").all_inner_texts() == [story]
    assert page.locator(".test-header .doc").all_inner_texts() == ["What it asks."]


def test_bounds_are_never_shown_as_values(open_report):
    early = record(
        "test_a", "failed", measurement(metric(0.1, 0.35), metric(0.9, name="clean accuracy"), complete=False)
    )
    whole = record("test_b", "passed", measurement(metric(0.5, 0.35)))
    page = open_report(early, whole, test="test_a")
    assert "bounds, not values" in page.locator(".bounds-note").inner_text()
    assert page.locator(".metric-card .bound").count() == page.locator(".metric-card").count() == 2
    page.keyboard.press("u")
    page.locator(".overview").wait_for()
    assert page.locator(".test .bound").count() == 1
    page.locator(".test-link").nth(1).click()
    page.locator(".test-page").wait_for()
    assert page.locator(".bound, .bounds-note").count() == 0


def table(title, *rows, columns=("check", "figure", "limit")):
    return _exhibit(Table(title, "How to read it.", columns, tuple(rows)), str)


@views
def test_a_long_page_says_what_is_on_it(open_report, width, scheme):
    exhibits = [table(f"Table {number}", TableRow(("a", "1", "2"))) for number in range(4)]
    four = record("test_four", "passed", measurement(metric(0.5), exhibits=exhibits))
    three = record("test_three", "passed", measurement(metric(0.5), exhibits=exhibits[:3]))
    page = open_report(four, three, test="test_four", width=width, scheme=scheme)
    entries = page.locator(".contents button")
    assert entries.all_inner_texts() == ["Attack", "Table 0", "Table 1", "Table 2", "Table 3"]
    address = page.url
    entries.last.click()
    assert page.evaluate("() => [document.activeElement.tagName, document.activeElement.textContent]") == [
        "H3",
        "Table 3",
    ]
    assert page.locator(".exhibit h3").last.evaluate("node => node.getBoundingClientRect().bottom <= innerHeight")
    assert page.url == address
    assert page.evaluate(OVERFLOW) <= 0
    page.keyboard.press("j")
    page.get_by_text("2 of 2", exact=True).wait_for()
    assert page.locator(".contents").count() == 0


@views
def test_compared_tables_name_every_column(open_report, width, scheme):
    def on(model, *figures):
        rows = [
            TableRow((name, figure, "≤ 1", "A long word on what this check means."), "passed")
            for name, figure in figures
        ]
        drawn = table("Checks", *rows, columns=("check", "figure", "limit", "meaning"))
        return record(f"test_a[{model}]", "passed", measurement(metric(0.5), exhibits=[drawn]), model=model)

    page = open_report(
        on("v1", ("steps", "0.1"), ("noise", "0.2"), ("noise", "0.3")),
        on("v2", ("noise", "0.4")),
        test="test_a[v1]", width=width, scheme=scheme,
    )  # fmt: skip
    drawn = page.locator(".side-by-side .text-table")
    assert drawn.locator(".table-groups th").evaluate_all(TEXTS) == ["v1", "v2"]
    names = ["check", "verdict", "figure", "limit", "verdict", "figure", "limit"]
    assert drawn.locator("thead tr").last.locator("th").evaluate_all(TEXTS) == names
    rows = drawn.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.lastElementChild.textContent))"
    )
    assert rows == [
        ["steps", "passed", "0.1", "≤ 1", "–", "–", "–"],
        ["noise", "passed", "0.2", "≤ 1", "passed", "0.4", "≤ 1"],
        ["noise", "passed", "0.3", "≤ 1", "–", "–", "–"],
    ]
    if width == 390:
        assert "v2 · figure" in drawn.locator("tbody").inner_text()
    assert page.evaluate(OVERFLOW) <= 0


# Anything a report may hold ----------------------------------------------------------------------------------------


@views
def test_hostile_names_do_nothing(open_report, evil, width, scheme):
    name = evil.replace("[", "")
    tests = [
        record(
            f"test_a[{name}{each}]",
            "failed",
            measurement(metric(0.3, 0.35, before=0.5, name=name), name=name),
            model=name + each,
        )
        for each in "12"
    ]
    for test in tests:
        test["measurements"][0]["metrics"][0]["baseline"]["of"] = name
    page = open_report(*tests, record("test_skip", "skipped", message=name), width=width, scheme=scheme)
    assert page.locator(".matrix thead th").evaluate_all(TEXTS) == ["test", name + "1", name + "2"]
    assert page.evaluate(INJECTED) == 0
    assert page.evaluate(OVERFLOW) <= 0
    page.locator(".matrix-entry").first.click()
    page.locator(".test-page").wait_for()
    assert page.evaluate(INJECTED) == 0
    assert page.evaluate(OVERFLOW) <= 0


def test_a_report_from_before_these_fields_still_opens(open_report, tmp_path):
    old = record("test_a[v1]", "failed", measurement(metric(0.3, 0.35)), model="v1")
    other = record("test_a[v2]", "passed", measurement(metric(0.5, 0.35)), model="v2")
    for test in (old, other):
        del (
            test["model"]["digest"],
            test["measurements"][0]["complete"],
            test["measurements"][0]["metrics"][0]["baseline"],
        )
    page = open_report(old, other)
    assert page.locator(".matrix-entry").count() == 2
    page.locator(".run-facts > summary").click()
    assert "no digest" in page.locator(".run-facts").inner_text()
    page.locator(".matrix-entry").first.click()
    page.locator(".test-page").wait_for()
    assert page.locator(".change, .bound").count() == 0
