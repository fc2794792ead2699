"""Charts and tables on the page, with realistic numbers, in a real browser."""

from itertools import pairwise

import numpy as np
import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.records import _measurement
from pytest_cnnaudit.results import Bars, Chart, Line, Mark, Measurement, Table, TableRow

EPS = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8)
HELD = {"v1": (118, 110, 98, 84, 71, 49, 33, 14, 5), "v2": (112, 109, 105, 100, 93, 80, 66, 43, 26)}
N = 128
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img, [onerror], script:not([src]), main script').length"
NOT_NUMBERS = r"""() => [...document.querySelectorAll('svg, svg *')].flatMap((node) => [...node.attributes]
    .filter(({ name, value }) => !name.startsWith('aria-') && /NaN|Infinity|undefined|null/.test(value)))
    .map(({ name, value }) => `${name}=${value}`)"""

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])


def wilson(count, n=N, z=1.96):
    share, scale = count / n, 1 + z * z / n
    half = z / scale * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return share, (share + z * z / (2 * n)) / scale - half, (share + z * z / (2 * n)) / scale + half


def robustness_curve(model="v1"):
    share, low, high = zip(*map(wilson, HELD[model]), strict=True)
    return Chart(
        "Robust accuracy over eps",
        "The share of samples still classified correctly under an attack of that size; the band is the 95% interval.",
        "eps (1/255)",
        "robust accuracy",
        (Line("", EPS, share, low, high),),
        x_marks=(Mark(4, "asserted eps"),),
        y_marks=(Mark(0.35, "required 0.35"),),
        y_range=(0, 1),
    )


def perturbations(model="v1"):
    sizes = np.random.default_rng(7).lognormal({"v1": -1.1, "v2": -0.55}[model], 0.55, N)
    edges = np.append(np.linspace(0, 1.6, 17), np.inf)
    median = float(np.median(sizes))
    return Chart(
        "Smallest perturbations that fool",
        "How many samples need a perturbation of that L2 norm; the last bar is all that need more.",
        "L2 norm of the perturbation",
        "samples",
        (Bars("", edges, np.histogram(sizes, edges)[0]),),
        x_marks=(Mark(0.5, "required median"), Mark(median, f"median {median:.2f}")),
    )


def checklist(model="v1"):
    bad = model == "v1"
    misled = "A search without gradients (square) fooled 9 samples that no gradient attack did: the gradients mislead."
    rows = (
        ("Iterative attacks beat one step", "PGD 0.26, FGSM 0.34", "More steps find more, as they should.", "passed"),
        ("An unbounded attack reaches 0%", "0.00 at eps 1.0", "Nothing stands when all is allowed.", "passed"),
        ("Larger eps never helps the model", "9 of 9 steps fall", "The curve only falls.", "passed"),
        ("White box beats transfer", "0.26 against 0.71", "Its own gradients fool it most.", "passed"),
        ("White box beats black box", "0.26 against 0.19", misled, "failed")
        if bad
        else ("White box beats black box", "0.41 against 0.52", "Gradients fool more than a search does.", "passed"),
        ("Gradients are not zero", "3.1% zero", "Few samples have no gradient to follow.", "passed"),
        ("More steps change nothing", "0.26, then 0.24", "It had not converged: take the lower figure.", "note")
        if bad
        else ("More steps change nothing", "0.41, then 0.41", "The attack has converged.", "passed"),
        ("Random restarts change little", "0.5 points", "Where the attack starts hardly matters.", "passed"),
    )
    return Table(
        "Is the robustness real?",
        "Gradient masking makes attacks fail without making a model robust (Carlini et al. 2019): each check fails "
        "where it shows.",
        ("check", "figure", "what it means"),
        tuple(TableRow(cells, status) for *cells, status in rows),
    )


def fooled_by():
    return Table(
        "Which attack fooled whom",
        "The attacks ran in this order, each on the samples that the ones before it left standing.",
        ("attack", "fooled first", "share"),
        (
            TableRow(("apgd-ce", "301", "78.4%")),
            TableRow(("apgd-t", "53", "13.8%")),
            TableRow(("square", "30", "7.8%")),
        ),
    )


def write_report(folder, **exhibits):
    """A report of one test for each name; returns the addresses of the tests' pages by name."""
    run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
    report = Report(folder, run)
    about = {"outcome": "passed", "message": "", "doc": "", "duration": 1.0, "model": None, "samples": None}
    for name, shown in exhibits.items():
        found = Measurement(kind="x", title="Robustness (linf)", settings={}, per_sample={}, exhibits=tuple(shown))
        report.add({"id": f"test_a.py::{name}", **about, "measurements": [_measurement(found, str)]})
    report.finish("finished", 0)
    return {name: f"{(folder / 'index.html').as_uri()}#test_a.py::{name}" for name in exhibits}


@pytest.fixture
def open_exhibits(open_page, tmp_path):
    def open_exhibits(*exhibits, **view):
        return open_page(write_report(tmp_path / "report", test_one=exhibits)["test_one"], **view)

    return open_exhibits


@pytest.fixture
def open_two_models(open_page, tmp_path):
    def open_two_models(*makers, **view):
        tests = {f"test_one[{model}]": [make(model) for make in makers] for model in HELD}
        return open_page(write_report(tmp_path / "report", **tests)["test_one[v1]"], **view)

    return open_two_models


def sound(page):
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(INJECTED) == 0
    assert page.evaluate(NOT_NUMBERS) == []
    assert "undefined" not in page.locator("main").inner_text()


def rows_of(table):
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]


def drawn_to_fit(page):
    """Its units are the page's pixels: its text is as large as it says."""
    page.wait_for_function("""() => [...document.querySelectorAll('.chart-drawing')].every((svg) =>
        Math.abs(svg.viewBox.baseVal.width - svg.getBoundingClientRect().width) < 1)""")


@views
def test_exhibits_of_all_kinds_are_shown_in_their_order(open_exhibits, width, scheme):
    page = open_exhibits(robustness_curve(), checklist(), perturbations(), fooled_by(), width=width, scheme=scheme)
    assert page.locator(".exhibit h3").all_inner_texts() == [
        "Robust accuracy over eps",
        "Is the robustness real?",
        "Smallest perturbations that fool",
        "Which attack fooled whom",
    ]
    drawn_to_fit(page)
    sound(page)
    for summary in page.locator("summary").all():
        summary.click()
    sound(page)


def test_a_curve_has_its_band_points_marks_and_words(open_exhibits):
    page = open_exhibits(robustness_curve())
    drawn_to_fit(page)
    assert page.locator("svg > title").text_content() == "Robust accuracy over eps"
    assert page.locator("svg > desc").text_content() == (
        "robust accuracy over eps (1/255). robust accuracy: 9 points. asserted eps at eps (1/255) 4. "
        "required 0.35 at robust accuracy 0.35."
    )
    assert page.locator(".chart-tick").all_text_contents() == (
        ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "0", "1", "2", "3", "4", "5", "6", "7", "8"]
    )
    assert page.locator(".chart-mark-label").all_text_contents() == ["asserted eps", "required 0.35"]
    assert page.locator(".chart-legend").count() == 0
    line, band = (page.locator(name).get_attribute("d") for name in ("path.chart-line", "path.chart-band"))
    assert (line.count("L"), band.count("L")) == (8, 17)
    points = [page.locator(".chart-ring").nth(index).bounding_box() for index in range(9)]
    assert [box["x"] for box in points] == sorted(box["x"] for box in points)
    heights = np.array([-box["y"] for box in points])
    shares = np.array(HELD["v1"]) / N
    np.testing.assert_allclose(np.diff(heights) / np.diff(shares), np.diff(heights)[0] / np.diff(shares)[0], rtol=0.02)


def test_the_band_is_translucent_and_lies_where_the_numbers_say(open_exhibits):
    page = open_exhibits(Chart("t", "", "x", "y", (Line("", [0, 1], [1, 2], [0, 1], [2, 4]),)))
    drawn_to_fit(page)
    band = page.locator(".chart-band").bounding_box()
    bottom, top = (page.locator(".chart-grid").nth(index).bounding_box()["y"] for index in (0, -1))
    assert band["y"] == pytest.approx(top, abs=1)
    assert band["y"] + band["height"] == pytest.approx(bottom, abs=1)
    assert 0 < float(page.locator(".chart-band").evaluate("node => getComputedStyle(node).opacity")) < 0.5


def test_the_keyboard_reaches_every_point_and_reads_it(open_exhibits):
    page = open_exhibits(robustness_curve())
    drawn_to_fit(page)
    page.locator("h1").focus()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('.chart-point')"):
            break
    tooltip = page.locator(".tooltip")
    assert tooltip.inner_text() == "robust accuracy 0.922 (0.862–0.957)\neps (1/255) 0"
    page.keyboard.press("ArrowRight")
    assert "eps (1/255) 0.5" in tooltip.inner_text()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    focused = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "robust accuracy 0.0391 (0.0168–0.0882) · eps (1/255) 8"
    page.keyboard.press("Home")
    assert page.evaluate(focused).endswith("eps (1/255) 0")
    assert page.locator(".chart-point[tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"
    assert not tooltip.is_visible()


def test_reading_by_keyboard_outlasts_the_scrolling_that_it_causes(open_exhibits):
    page = open_exhibits(checklist(), checklist(), robustness_curve(), width=390)
    drawn_to_fit(page)
    assert page.evaluate("() => window.scrollY") == 0
    page.locator(".chart-point").nth(4).focus()
    page.wait_for_function("() => window.scrollY > 0")
    in_view(page, page.locator(".chart-point").nth(4))
    tooltip = page.locator(".tooltip")
    assert tooltip.is_visible()
    assert abs(tooltip.bounding_box()["y"] - page.locator(".chart-ring").nth(4).bounding_box()["y"]) < 120


def in_view(page, locator):
    """Its place, once the scrolling is over and has been heard of."""
    locator.scroll_into_view_if_needed()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return locator.bounding_box()


def test_the_pointer_reads_the_nearest_point_or_bar(open_exhibits):
    page = open_exhibits(robustness_curve(), perturbations())
    drawn_to_fit(page)
    tooltip = page.locator(".tooltip")
    box = in_view(page, page.locator(".chart-ring").nth(6))
    page.mouse.move(box["x"] + 15, box["y"] + 15)
    assert "robust accuracy 0.258 (0.190–0.340)" in tooltip.inner_text()
    page.mouse.move(5, 5)
    assert not tooltip.is_visible()
    box = in_view(page, page.locator(".chart-bar").nth(2))
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] - 3)
    count = perturbations().series[0].counts[2]
    assert f"samples {count}\nL2 norm of the perturbation 0.2 to 0.3" in tooltip.inner_text()
    assert page.locator(".chart-point.is-active").count() == 1


def test_the_numbers_are_in_a_table(open_exhibits):
    page = open_exhibits(robustness_curve(), perturbations("v2"))
    curve, bars = page.locator(".chart-numbers").all()
    assert not curve.locator("table").first.is_visible()
    curve.locator("summary").click()
    bars.locator("summary").click()
    assert curve.locator("thead").first.locator("th").all_inner_texts() == ["eps (1/255)", "robust accuracy"]
    rows = rows_of(curve.locator("table").first)
    assert [row[0] for row in rows] == [f"{eps:g}" for eps in EPS]
    assert rows[0][1] == "0.9219 (0.8622–0.9570)"
    assert rows[6][1] == "0.2578 (0.1899–0.3399)"
    assert rows_of(curve.locator("table").nth(1)) == [
        ["asserted eps", "eps (1/255)", "4"],
        ["required 0.35", "robust accuracy", "0.35"],
    ]
    rows = rows_of(bars.locator("table").first)
    assert [int(row[1]) for row in rows] == list(perturbations("v2").series[0].counts)
    assert [rows[0][0], rows[-1][0]] == ["0 to 0.1", "1.6 and more"]


def test_a_bin_without_an_end_is_named_and_stands_apart(open_exhibits):
    page = open_exhibits(perturbations("v2"))
    drawn_to_fit(page)
    assert page.locator(".chart-bar").count() == 17
    assert page.locator(".chart-bar.is-open").count() == 1
    boxes = [bar.bounding_box() for bar in page.locator(".chart-column").all()]
    gaps = [after["x"] - before["x"] - before["width"] for before, after in pairwise(boxes)]
    assert max(gaps[:-1]) < 3
    assert gaps[-1] > 10
    assert page.locator(".chart-tick").last.text_content() == "≥ 1.6"
    assert "1.6 and more" in page.locator(".chart-point").last.get_attribute("aria-label")


def test_a_logarithmic_axis_has_equal_decades_and_owns_up_to_what_it_cannot_show(open_exhibits):
    line = Line("", [0, 0.01, 0.1, 1, 10], [1, 0.9, 0.6, 0.2, 0.0])
    page = open_exhibits(Chart("t", "", "eps", "y", (line,), log_x=True))
    drawn_to_fit(page)
    places = [ring.bounding_box()["x"] for ring in page.locator(".chart-ring").all()]
    assert len(places) == 4
    assert max(np.diff(places)) - min(np.diff(places)) < 0.5
    assert "1 point at or below zero" in page.locator(".chart .facts").inner_text()
    page.locator("summary").click()
    assert rows_of(page.locator(".data-table"))[0] == ["0", "1"]


@pytest.mark.parametrize("width", [1440, 390])
def test_charts_at_their_limits_are_drawn_without_a_stumble(open_exhibits, width):
    nan, inf = float("nan"), float("inf")
    many = np.linspace(0, 1, 400)
    holes = Line("", [0, 1, 2, 3, inf], [1, nan, 3, 4, 5], [0, 0, nan, 3, 4], [2, 2, 4, 5, 6])
    page = open_exhibits(
        Chart("gap", "", "x", "y", (holes,)),
        Chart("one", "", "x", "y", (Line("", [3], [0.0031], [0.003], [0.004]),)),
        Chart("zero", "", "x", "y", (Line("", [0], [0]),)),
        Chart("nothing", "", "x", "y", (Line("", [nan], [1]),), x_marks=(Mark(nan, "a"),), y_marks=(Mark(nan, "b"),)),
        Chart("empty", "", "x", "y", ()),
        Chart("far", "", "x", "y", (Line("", [0, 1e6, 2.5e6], [123456.1, 123456.2, 123456.15]),)),
        Chart("tiny", "", "x", "y", (Line("", [0, 1e-6, 3e-6], [-1e-7, 2e-7, 1.5e-7]),)),
        Chart("one bin", "", "x", "y", (Bars("", [0, 1], [0]),)),
        Chart("open bin", "", "x", "y", (Bars("", [2, inf], [5]),)),
        Chart("log", "", "x", "y", (Bars("", [0, 0.1, 1, inf], [1, 2, 3]),), x_marks=(Mark(0, "zero"),), log_x=True),
        Chart("many", "", "x", "y", tuple(Line(f"{k}", many, many**k) for k in range(9))),
        Chart("marks", "", "x", "y", (Line("", [0, 1], [0, 1]),),
              x_marks=tuple(Mark(0.5, f"a label {k}") for k in range(6)),
              y_marks=(Mark(0.5, "a" * 300), Mark(0.51, "b"))),
        Table("no rows", "", ("a", "b"), ()),
        Table("no cells", "", ("a", "b", "c"), (TableRow(("", "", ""), "failed"),)),
        width=width,
    )  # fmt: skip
    drawn_to_fit(page)
    sound(page)
    assert page.get_by_text("There is no finite number to draw.").count() == 2
    gap = page.locator(".exhibit").first
    assert gap.locator("path.chart-line").get_attribute("d").count("M") == 2
    assert gap.locator(".chart-point").count() == 3
    assert gap.locator("svg").evaluate("svg => svg.getBBox().width <= svg.viewBox.baseVal.width + 1")


def test_labels_of_marks_do_not_cover_one_another_and_stay_inside(open_exhibits):
    marks = tuple(Mark(at, f"a long label, number {at}") for at in (0, 0.01, 0.02, 0.5, 0.99, 1))
    page = open_exhibits(Chart("t", "", "x", "y axis", (Line("", [0, 1], [0, 1]),), x_marks=marks), width=390)
    drawn_to_fit(page)
    frame = page.locator(".chart").bounding_box()
    boxes = [label.bounding_box() for label in page.locator(".chart-mark-label, .chart-name:first-of-type").all()]
    for index, one in enumerate(boxes):
        assert frame["x"] <= one["x"]
        assert one["x"] + one["width"] <= frame["x"] + frame["width"]
        for other in boxes[index + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            assert beside or abs(one["y"] - other["y"]) >= 14


@pytest.mark.parametrize(
    ("call", "ticks"),
    [
        ("linearTicks([0, 8], 10)", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("linearTicks([0, 8], 5)", [0, 2, 4, 6, 8]),
        ("linearTicks([0.03, 0.97], 6)", [0.2, 0.4, 0.6, 0.8]),
        ("linearTicks([-1, 1], 4)", [-1, -0.5, 0, 0.5, 1]),
        ("linearTicks([0, 3], 10, 1)", [0, 1, 2, 3]),
        ("linearTicks([0, 0.3], 3)", [0, 0.1, 0.2, 0.3]),
        ("logTicks([0.01, 10], 5)", [0.01, 0.1, 1, 10]),
        ("logTicks([1, 100], 7)", [1, 2, 5, 10, 20, 50, 100]),
        ("logTicks([1e-6, 1e6], 5)", [1e-6, 1e-3, 1, 1e3, 1e6]),
        ("logTicks([2.2, 4.4], 5)", [2.5, 3, 3.5, 4]),
        ("tickTexts([0, 0.05, 0.1])", ["0.00", "0.05", "0.10"]),
        ("tickTexts([0, 20000, 40000])", ["0", "20,000", "40,000"]),
        ("tickTexts([0, 5e5, 1e6])", ["0", "5e5", "1e6"]),
        ("tickTexts([0.001, 0.1, 1, 10], true)", ["0.001", "0.1", "1", "10"]),
        ("bandedText(0.31, [0.2704, 0.3512], 3)", "0.310 (0.270–0.351)"),
        ("bandedText(0, [0, 0.0291], 3)", "0.0000 (0.0000–0.0291)"),
        ("bandedText(0.5, null, 3)", "0.5"),
        ("[numberText(12345), numberText(0.123456), numberText(null)]", ["12,345", "0.1235", "not a number"]),
    ],
)
def test_ticks_and_numbers_are_round(open_exhibits, call, ticks):
    assert open_exhibits().evaluate(f"() => {call}") == ticks


# ---- tables ----


@pytest.mark.parametrize("width", [1440, 390])
def test_a_table_says_its_verdicts_in_words_colour_and_shape(open_exhibits, width):
    page = open_exhibits(checklist(), width=width)
    table = page.get_by_role("table")
    assert table.get_by_role("row").count() >= 8
    assert page.locator(".badge").all_inner_texts() == [
        "passed", "passed", "passed", "passed", "failed", "passed", "note", "passed",
    ]  # fmt: skip
    assert page.locator(".badge .mark").count() == 8
    tones = page.locator(".badge").evaluate_all("nodes => nodes.map((node) => getComputedStyle(node).color)")
    assert len({tones[0], tones[4], tones[6]}) == 3
    assert table.get_by_role("rowheader").nth(4).inner_text() == "White box beats black box"
    failed = table.locator("tbody tr").nth(4).inner_text()
    assert "0.26 against 0.19" in failed
    assert "the gradients mislead" in failed
    assert page.locator("tbody .column-name").first.is_visible() == (width == 390)
    sound(page)


def test_verdicts_go_where_a_table_has_a_column_for_them(open_exhibits):
    rows = (TableRow(("a", "0.1", "passed"), "passed"), TableRow(("b", "0.2", "by a hair"), "failed"))
    page = open_exhibits(Table("t", "", ("check", "figure", "verdict"), rows))
    assert page.locator("thead th").all_inner_texts() == ["check", "figure", "verdict"]
    assert rows_of(page.locator("table")) == [["a", "0.1", "passed"], ["b", "0.2", "failed\nby a hair"]]


def test_a_table_without_verdicts_has_no_column_for_them_and_aligns_numbers(open_exhibits):
    page = open_exhibits(fooled_by())
    assert page.locator("thead th").all_inner_texts() == ["attack", "fooled first", "share"]
    assert rows_of(page.locator("table"))[1] == ["apgd-t", "53", "13.8%"]
    align = (
        page.locator("tbody tr")
        .first.locator("td")
        .evaluate_all("cells => cells.map((cell) => getComputedStyle(cell).textAlign)")
    )
    assert align == ["right", "right"]


# ---- several models ----


@views
def test_curves_of_several_models_are_drawn_over_one_another(open_two_models, width, scheme):
    page = open_two_models(robustness_curve, perturbations, checklist, width=width, scheme=scheme)
    drawn_to_fit(page)
    chart = page.locator(".side-by-side .chart").first
    assert chart.locator(".chart-legend li").all_inner_texts() == ["v1", "v2"]
    assert chart.locator("path.chart-line").count() == 4  # two of them in the legend
    assert chart.locator(".chart-mark-label").all_text_contents() == ["asserted eps", "required 0.35"]
    chart.locator("summary").click()
    assert rows_of(chart.locator("table").first)[6] == ["4", "0.2578 (0.1899–0.3399)", "0.5156 (0.4299–0.6005)"]
    chart.locator(".chart-point").nth(6).focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith(
        "v2 · robust accuracy 0.516 (0.430–0.600) · eps (1/255) 4"
    )
    page.keyboard.press("ArrowUp")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("v1 · ")
    sound(page)


def test_a_mark_of_one_model_says_whose_it_is(open_two_models):
    page = open_two_models(lambda model: Chart(
        "t", "", "x", "y", (Line("a", [0, 1], [0, 1]), Line("b", [0, 1], [1, 0])),
        x_marks=(Mark(0.5, "all"), Mark(0.2, model)),
    ))  # fmt: skip
    chart = page.locator(".side-by-side .chart")
    assert chart.locator(".chart-legend li").all_inner_texts() == ["v1: a", "v1: b", "v2: a", "v2: b"]
    assert sorted(chart.locator(".chart-mark-label").all_text_contents()) == ["all", "v1: v1", "v2: v2"]


def test_histograms_of_several_models_stand_side_by_side_on_one_scale(open_two_models):
    page = open_two_models(perturbations)
    drawn_to_fit(page)
    charts = page.locator(".small-multiples .chart")
    assert charts.count() == 2
    assert page.locator(".small-multiples h4").all_inner_texts() == ["v1", "v2"]
    one, other = (chart.locator(".chart-tick").all_text_contents() for chart in charts.all())
    assert one == other
    assert charts.nth(0).bounding_box()["y"] == charts.nth(1).bounding_box()["y"]


def test_tables_of_several_models_are_one_with_a_column_each(open_two_models):
    page = open_two_models(checklist)
    table = page.locator(".side-by-side table")
    assert table.locator(".table-groups th").all_inner_texts() == ["v1", "v2"]
    names = table.locator("thead tr:last-child th").all_inner_texts()
    assert names == ["check", *["verdict", "figure"] * 2]
    row = ["White box beats black box", "failed", "0.26 against 0.19", "passed", "0.41 against 0.52"]
    assert rows_of(table)[4] == row
    assert "mislead" not in table.inner_text()


def test_what_only_one_model_has_is_not_compared(open_page, tmp_path):
    urls = write_report(tmp_path / "r", **{"test_one[v1]": [robustness_curve()], "test_one[v2]": [fooled_by()]})
    page = open_page(urls["test_one[v1]"])
    assert page.locator(".side-by-side .side-column").count() == 2
    assert page.locator(".side-by-side .exhibit").count() == 0
    sound(page)


# ---- elsewhere on the page ----


def test_hostile_names_are_shown_as_they_are_and_do_nothing(open_page, tmp_path, evil):
    name = f"{evil}</title></svg><script>alert(1)</script>"

    def exhibits(_):
        return [
            Chart(name, name, name, name, (Line(name, [0, 1], [0, 1]), Line(name, [0, 1], [1, 1])),
                  x_marks=(Mark(0.5, name),), y_marks=(Mark(0.5, name),)),
            Chart(name, name, name, name, (Bars(name, [0, 1, 2], [0, 1]),)),
            Table(name, name, (name, name),
                  (TableRow((name, name), name), TableRow((name, "constructor"), "constructor"))),
        ]  # fmt: skip

    urls = write_report(tmp_path / "r", **{f"test_one[{model}]": exhibits(model) for model in (evil, "v2")})
    for width in (1440, 390):
        page = open_page(urls["test_one[v2]"], width=width)
        for summary in page.locator("summary").all():
            summary.click()
        page.locator(".measurement .chart-point").first.focus()
        assert name in page.locator(".tooltip").inner_text()
        assert page.locator(".measurement svg > title").first.text_content() == name
        assert page.locator(".measurement h3").all_inner_texts() == [name] * 3
        assert page.locator(".measurement .badge").all_inner_texts() == [name, "constructor"]
        sound(page)


def test_the_overview_shows_the_shape_of_a_chart_where_there_are_no_pictures(open_page, tmp_path):
    exhibits = {
        "test_curve": [checklist(), robustness_curve()],
        "test_bars": [perturbations()],
        "test_table": [fooled_by()],
    }
    url = write_report(tmp_path / "r", **exhibits)["test_curve"].partition("#")[0]
    page = open_page(url, width=390)
    assert page.locator(".thumbnail-chart").count() == 2
    assert page.locator(".thumbnail-chart [tabindex]").count() == 0
    sound(page)


def test_on_paper_the_numbers_are_unfolded(open_exhibits):
    page = open_exhibits(robustness_curve())
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".data-table").first.is_visible()
    sound(page)


def test_a_chart_is_drawn_anew_when_the_window_changes_and_keeps_its_focus(open_exhibits):
    page = open_exhibits(robustness_curve())
    drawn_to_fit(page)
    page.locator(".chart-point").nth(3).focus()
    page.set_viewport_size({"width": 390, "height": 900})
    drawn_to_fit(page)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").endswith("eps (1/255) 1.5")
    sound(page)
