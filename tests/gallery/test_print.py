"""The report on paper."""

import re

import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.records import _exhibit, _metric
from pytest_cnnaudit.results import Chart, Line, Metric, Table, TableRow

PAPER = {"width": 703, "height": 1000}  # A4 between margins of 12 mm, in CSS pixels
MODELS = ("v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8")
CUT_OFF = """() => [...document.querySelectorAll('main table, main svg, main pre, main img, main td, main h3')]
    .filter((node) => node.checkVisibility())
    .filter((node) => {
        const { left, right } = node.getBoundingClientRect();
        const frame = node.closest('.table-frame, .data-frame, .matrix-frame');
        return left < 0 || right > innerWidth + 0.5 || (frame && right > frame.getBoundingClientRect().right + 0.5);
    })
    .map((node) => `${node.tagName}.${node.className.baseVal ?? node.className}`)"""
SHOWN_CONTROLS = """() =>
    [...document.querySelectorAll('button, input, select, .controls, .test-navigation, .contents')]
    .filter((node) => node.checkVisibility() && !node.matches('.close-calls, .opener, figure button'))
    .map((node) => node.outerHTML)"""
INK = """(selector) => [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility()).map((node) =>
    getComputedStyle(node).color)"""


def measurement(model):
    metric = Metric(0.3, name="robust accuracy", n=64, ci95=(0.25, 0.36), higher_is_better=True, bounds=(0, 1))
    metric._compare(">=", 0.35)
    long = "A sentence on what this check means, and what to do where it fails."
    rows = [
        TableRow((f"check {n}", f"0.0{n} (95% CI 0.00 to 0.12)", "12 of 128", "0.0476"), "failed") for n in range(3)
    ]
    wide = Table("Wide", long, ("check", "figure", "how many of them", "share"), tuple(rows))
    prose = Table("Prose", long, ("check", "what it means"), (TableRow(("one", long * 3), "passed"),))
    line = Line("", (0.25, 1, 4), (0.91234, 0.5, 0.1), (0.8, 0.4, 0), (1, 0.6, 0.2))
    chart = Chart("Curve", long, "eps (1/255)", "robust accuracy", (line,))
    return {
        "name": "attack", "title": "Attack", "settings": {}, "notes": [], "cost": {"forward": 1},
        "metrics": [_metric(metric)], "exhibits": [_exhibit(each, dict) for each in (wide, prose, chart)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The same test on eight models: wider than any sheet."""
    folder = tmp_path_factory.mktemp("print") / "report"
    run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
    report = Report(folder, run)
    for number in range(10):
        for model in MODELS:
            report.add({
                "id": f"test_a.py::test_{number}[{model}]", "outcome": "failed", "message": "assert\n" * 40,
                "doc": "It holds.", "duration": 1.5, "samples": None,
                "model": {"name": model, "module": "Net", "digest": None},
                "measurements": [measurement(model)] if number == 0 else [],
            })  # fmt: skip
    report.finish("finished", 1)
    return (folder / "index.html").as_uri()


@pytest.fixture
def open_printed(open_page, url):
    def open_printed(test=""):
        page = open_page(url + test, width=PAPER["width"], scheme="dark")
        page.locator("h1").wait_for()
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        return page

    return open_printed


def luminance(colour):
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


pages = pytest.mark.parametrize("test", ["", "#test_a.py::test_0[v1]"])


@pages
def test_nothing_is_cut_off_and_no_control_is_printed(open_printed, test):
    page = open_printed(test)
    assert page.locator("main table").count() > 0
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(SHOWN_CONTROLS) == []


@pages
def test_a_dark_page_is_printed_dark_on_white(open_printed, test):
    page = open_printed(test)
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    inks = page.evaluate(INK, "main h1, main h2, main h3, main p, main a, main td, main th, main .value, main .change")
    assert len(inks) > 20
    assert max(map(luminance, inks)) < 0.45  # 4.5 : 1 on white and more


@pages
def test_backgrounds_that_carry_meaning_are_kept(open_printed, test):
    page = open_printed(test)
    kept = page.locator(".outcome-bar span, .outcome, .badge, .scale .track, .mark circle").evaluate_all(
        "nodes => [...new Set(nodes.map((node) => getComputedStyle(node).printColorAdjust))]"
    )
    assert kept == ["exact"]


def test_what_is_folded_away_on_the_screen_is_printed(open_printed):
    page = open_printed()
    rows = page.locator(".matrix tbody tr")
    assert rows.count() == 10
    assert all(row.is_visible() for row in rows.all())
    assert page.locator(".run-facts dl").is_visible()
    message = open_printed("#test_a.py::test_0[v1]").locator("pre.message")
    assert message.evaluate("node => node.scrollHeight <= node.clientHeight")


def test_it_prints(open_page, url, tmp_path):
    page = open_page(f"{url}#test_a.py::test_0[v1]", scheme="dark")
    page.locator(".test-page").wait_for()
    page.pdf(path=tmp_path / "test.pdf", format="A4")
    assert (tmp_path / "test.pdf").read_bytes().startswith(b"%PDF")
