"""What axe-core finds on the page, and where the Tab key leads."""

import numpy as np
import pytest

from pytest_cnnaudit.gallery import PictureFiles, Report
from pytest_cnnaudit.records import _exhibit, _metric
from pytest_cnnaudit.results import Bars, Chart, Exhibit, Line, Mark, Metric, Picture, Row, Table, TableRow

RUN = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
STOPS = """() => [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter((node) => node.tabIndex >= 0 && node.checkVisibility({ visibilityProperty: true }))
    .filter((node) => !node.closest('dialog'))
    .map((node, index) => { node.dataset.stop = index; return node.outerHTML.slice(0, 120); })"""
FOCUS = """() => {
    const node = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(node);
    const isOutlined = outlineStyle !== 'none' && parseFloat(outlineWidth) > 0;
    const shapes = [...node.querySelectorAll('.chart-ring, .chart-column')];
    const isDrawn = shapes.some((shape) => getComputedStyle(shape).stroke !== 'none');
    return [node.dataset.stop ?? null, node === document.body, isOutlined || isDrawn];
}"""

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])


def metric(value, threshold, *, ci95, before=None, name="robust accuracy"):
    made = Metric(value, name=name, n=64, ci95=ci95, higher_is_better=True, bounds=(0, 1), help="What it is.")
    made._compare(">=", threshold)
    known = before and {"value": before, "display": f"{before}", "ci95": [before - 0.02, before + 0.02], "of": "main"}
    return {**_metric(made), "baseline": known}


def exhibits(save):
    def picture(seed):
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
        return Picture(pixels, caption=f"cat 0.{seed}", alt=f"picture {seed}", form="numbers")

    statuses = ("fooled", "robust", "misclassified", "hit", "miss")
    samples = [Row(f"sample {n}", (picture(n),), status, {"label": "cat"}) for n, status in enumerate(statuses)]
    rows = [Row(row.title, (picture(n), picture(n + 9)), row.status, row.figures) for n, row in enumerate(samples)]
    ids = [[row.title] for row in samples[:2]]
    bars = Bars("", (0, 1, 2), (1, 1), samples=ids)
    line = Line("", (1, 2), (0.9, 0.5), (0.8, 0.4), (1, 0.6), samples=ids)
    checks = [
        TableRow(("steps", "0.1"), "passed"),
        TableRow(("noise", "0.9"), "failed"),
        TableRow(("size", "2"), "note"),
    ]
    made = (
        Exhibit("Worst first", "How to read it.", tuple(rows), "rows", ("clean", "adversarial")),
        Exhibit("Filters", "How to read it.", tuple(samples), "grid"),
        Exhibit("All samples", "How to read it.", tuple(samples), "samples"),
        Chart("Sizes", "How to read it.", "size", "samples", (bars,), x_marks=(Mark(1.5, "median"),)),
        Chart("Curve", "How to read it.", "eps", "robust accuracy", (line,), y_marks=(Mark(0.35, "required"),)),
        Table("Checks", "How to read it.", ("check", "figure"), tuple(checks)),
    )
    return [_exhibit(each, save) for each in made]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A report of everything that a page can show."""
    folder = tmp_path_factory.mktemp("whole") / "report"
    report, files = Report(folder, RUN), PictureFiles(folder)
    about = {
        "title": "Attack",
        "settings": {"eps": "4/255"},
        "notes": ["A note."],
        "cost": {"forward": 1, "backward": 2},
    }
    figures = {"v1": (0.34, (0.3, 0.39), 0.5), "v2": (0.6, (0.55, 0.65), 0.5), "v3": (0.6, (0.55, 0.65), 0.7)}
    for model, (value, ci95, before) in figures.items():
        judged = metric(value, 0.35, ci95=ci95, before=before)
        measured = {"name": "attack", "metrics": [judged, metric(0.9, 0.5, ci95=None, name="clean accuracy")], **about}
        outcome = "passed" if value > 0.35 else "failed"
        report.add({
            "id": f"test_a.py::test_attack[{model}]", "outcome": outcome, "message": "assert 0.34 >= 0.35\n" * 30,
            "doc": "It holds.", "duration": 1.5, "model": {"name": model, "module": "Net", "digest": "ab" * 32},
            "samples": {"n": 64, "source": "a folder", "digest": "cd" * 32}, "device": "cpu",
            "measurements": [{**measured, "complete": model == "v2", "exhibits": exhibits(files.save)}],
        })  # fmt: skip
    for name, outcome in (("skipped", "skipped"), ("crashed", "crashed"), ("known", "xfailed"), ("sudden", "xpassed")):
        known = {"message": "Skipped: no GPU", "doc": "", "duration": 0.1, "model": None, "samples": None}
        report.add({"id": f"test_a.py::test_{name}", "outcome": outcome, "measurements": [], **known})
    report.note("Only a part (-k x).")
    files.wait()
    report.finish("interrupted", 2)
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def violations():
    """Serious and critical ones, each with its rule, what it is about and why."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()

    def violations(page):
        page.evaluate("() => document.querySelectorAll('main details').forEach((each) => { each.open = true; })")
        options = {"resultTypes": ["violations"], "preload": False}  # it would fetch the stylesheets, which no page may
        found = axe.run(page, options=options).response["violations"]
        return [
            (each["id"], node["target"], node["html"][:160], node["failureSummary"])
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    return violations


@views
def test_axe_finds_nothing_serious(open_page, url, violations, width, scheme):
    page = open_page(url, width=width, scheme=scheme)
    assert violations(page) == []
    page.locator(".chip[data-outcome=passed]").click()  # a pressed chip, a pressed button
    page.locator(".close-calls").click()
    assert violations(page) == []
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert violations(page) == []
    page.goto(f"{url}#test_a.py::test_attack[v1]")
    page.locator(".test-page").wait_for()
    assert violations(page) == []
    page.locator(".opener").first.click()
    assert page.locator("#lightbox").is_visible()
    assert violations(page) == []


def test_axe_would_find_something(open_page, url, violations):
    page = open_page(url)
    page.evaluate("() => document.querySelector('.controls').append(document.createElement('button'))")
    page.evaluate("() => document.documentElement.style.setProperty('--soft', '#ccc')")
    assert {rule for rule, *_ in violations(page)} == {"button-name", "color-contrast"}


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("name", ["", "#test_a.py::test_attack[v1]"])
def test_tab_reaches_everything_and_the_focus_is_seen(open_page, url, width, name):
    page = open_page(f"{url}{name}", width=width)
    page.locator("h1").wait_for()
    stops = page.evaluate(STOPS)
    reached, unseen = set(), []
    for _ in range(2 * len(stops)):
        page.keyboard.press("Tab")
        stop, is_over, is_seen = page.evaluate(FOCUS)
        if is_over:
            break
        if stop is not None:
            reached.add(int(stop))
            unseen += [] if is_seen else [stops[int(stop)]]
    assert len(stops) > 20
    assert [stops[number] for number in sorted(set(range(len(stops))) - reached)] == []
    assert unseen == []
