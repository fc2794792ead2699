"""Charts whose bars and points open the samples they count, in a real browser."""

import pytest

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img[src=x], [onerror], script:not([src]), main script').length"
BROKEN = "() => [...document.images].filter((image) => image.complete && !image.naturalWidth).length"

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])


@pytest.fixture
def open_charts(open_exhibits):
    """The same, once its charts are drawn to their width."""

    def open_charts(*exhibits, **view):
        page = open_exhibits(*exhibits, **view)
        page.wait_for_function("""() => [...document.querySelectorAll('.chart-drawing')].every((svg) =>
            Math.abs(svg.viewBox.baseVal.width - svg.getBoundingClientRect().width) < 1)""")
        return page

    return open_charts


def chart(*series, x="L∞", title="Smallest perturbations", log_x=False):
    axes = {"x": x, "y": "samples", "x_marks": [], "y_marks": [], "log_x": log_x, "y_range": None}
    return {"kind": "chart", "title": title, "text": "", **axes, "series": list(series)}


def bars(*samples, name="", edges=(0, 0.8, 1.2, 1.6, None)):
    counts = [len(ids) for ids in samples]
    return {"kind": "bars", "name": name, "edges": list(edges), "counts": counts, "samples": [*map(list, samples)]}


def line(*samples, name="", x=(0, 1, 2), y=None):
    low_high = {"low": None, "high": None}
    return {"kind": "line", "name": name, "x": list(x), "y": y or [*map(len, samples)], **low_high,
            "samples": [*map(list, samples)]}  # fmt: skip


def exhibit(kind, *titles, title="All samples", columns=(), pictures=1):
    shown = [
        {"src": "images/a.png", "width": 32, "height": 32, "caption": f"c{k}", "alt": "", "pixelated": True}
        for k in range(pictures)
    ]
    rows = [{"title": each, "status": "fooled", "figures": {"label": "cat"}, "pictures": shown} for each in titles]
    return {"kind": kind, "title": title, "text": "", "columns": list(columns), "rows": rows}


HISTOGRAM = chart(bars(["a", "b"], [], ["c", "d", "unseen"], ["e"]))
SAMPLES = exhibit("samples", "e", "d", "c", "b", "a")


def click(page, place):
    point = page.locator(".chart-point").nth(place)
    point.locator(".chart-column, .chart-ring").scroll_into_view_if_needed()
    box = point.locator(".chart-column, .chart-ring").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def shown(page):
    return page.locator(".chart-samples .tile > span:nth-child(2)").all_text_contents()


def expanded(page):
    return [point.get_attribute("aria-expanded") for point in page.locator(".chart-point").all()]


@views
def test_a_click_on_a_bar_shows_just_its_samples_and_names_those_without_a_picture(open_charts, width, scheme):
    page = open_charts(HISTOGRAM, SAMPLES, width=width, scheme=scheme)
    assert page.locator(".chart-samples").inner_text() == "Choose a bar to see the samples that it counts."
    click(page, 2)
    assert page.locator(".chart-samples h4").inner_text() == "3 samples with L∞ 1.2 to 1.6"
    assert page.locator(".chart-with-samples [role=status]").inner_text() == "3 samples with L∞ 1.2 to 1.6"
    assert shown(page) == ["c", "d"]
    assert page.locator(".samples-unseen summary").inner_text() == "No picture is kept of 1 more"
    assert page.locator(".samples-unseen li").all_inner_texts() == ["unseen"]
    assert expanded(page) == ["false", None, "true", "false"]
    assert page.locator(".chart-samples img").first.is_visible()
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate(OVERFLOW) <= 0
    click(page, 3)
    assert page.locator(".chart-samples h4").inner_text() == "1 sample with L∞ 1.6 and more"
    assert shown(page) == ["e"]
    assert page.locator(".samples-unseen").count() == 0


def test_samples_stand_beside_the_chart_where_there_is_width(open_charts):
    page = open_charts(HISTOGRAM, SAMPLES)
    click(page, 0)
    figure, panel = (page.locator(each).bounding_box() for each in (".chart", ".chart-samples"))
    assert panel["x"] >= figure["x"] + figure["width"]
    assert abs(panel["y"] - figure["y"]) < 30
    page.set_viewport_size({"width": 1100, "height": 900})
    page.wait_for_function("""() => {
        const place = (name) => document.querySelector(name).getBoundingClientRect();
        const [figure, panel] = [place('.chart'), place('.chart-samples')];
        return panel.top >= figure.bottom && panel.left === figure.left;
    }""")


@pytest.mark.parametrize("how", ["click", "Escape", "Enter", "button"])
def test_they_close_again_and_the_bar_has_the_focus(open_charts, how):
    page = open_charts(HISTOGRAM, SAMPLES)
    click(page, 2)
    assert shown(page) == ["c", "d"]
    if how == "click":
        click(page, 2)
    elif how == "button":
        page.get_by_label("Close these samples").click()
    else:
        page.keyboard.press(how)
    assert page.locator(".chart-samples h4").count() == 0
    assert expanded(page) == ["false", None, "false", "false"]
    assert page.evaluate("() => [...document.querySelectorAll('.chart-point')].indexOf(document.activeElement)") == 2
    assert page.locator("h1").inner_text() == "test_one"  # Escape closed these, not the page


def test_the_keyboard_does_the_same(open_charts):
    page = open_charts(HISTOGRAM, SAMPLES)
    page.locator(".chart-point").first.focus()
    page.keyboard.press("Enter")
    assert shown(page) == ["a", "b"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")  # no samples there: nothing changes
    assert shown(page) == ["a", "b"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert shown(page) == ["c", "d"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert page.locator(".chart-samples h4").count() == 0
    assert page.locator("h1").inner_text() == "test_one"


def test_the_pointer_learns_that_it_can_click(open_charts):
    page = open_charts(HISTOGRAM, SAMPLES)
    cursor = "() => getComputedStyle(document.querySelector('.chart-canvas')).cursor"
    page.locator(".chart-canvas").hover(position={"x": 2, "y": 2})
    assert page.evaluate(cursor) == "default"
    for place, hint, pointer in ((0, "Click or Enter: show 2 samples", "pointer"), (1, None, "default")):
        box = page.locator(".chart-column").nth(place).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 10)
        assert page.evaluate(cursor) == pointer
        told = page.locator(".tooltip").inner_text()
        assert hint in told if hint else "Click" not in told
    click(page, 0)
    assert "Click or Enter: close" in page.locator(".tooltip").inner_text()


def test_a_point_of_a_line_shows_its_samples_whatever_is_left_undrawn_before_it(open_charts):
    held = line(["a", "b", "c"], ["a", "b"], ["a"], [], name="v1", x=(0, 0.1, 1, 10))
    other = line(["d"], ["e"], ["c"], ["b"], name="v2", x=(0, 0.1, 1, 10), y=[9, 8, 7, 6])
    page = open_charts(chart(held, other, x="eps", log_x=True), SAMPLES)
    assert page.locator(".chart-samples").inner_text() == "Choose a point to see the samples that it counts."
    click(page, 0)  # a logarithmic axis has no place for the point at zero
    assert page.locator(".chart-samples h4").inner_text() == "v1: 2 samples at eps 0.1"
    assert shown(page) == ["a", "b"]
    click(page, 4)
    assert page.locator(".chart-samples h4").inner_text() == "v2: 1 sample at eps 1"
    assert shown(page) == ["c"]


def test_the_chosen_bar_stays_marked_when_the_chart_is_drawn_anew(open_charts):
    page = open_charts(HISTOGRAM, SAMPLES)
    click(page, 2)
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function("() => document.querySelector('.chart-drawing').viewBox.baseVal.width < 480")
    assert expanded(page) == ["false", None, "true", "false"]
    assert page.locator(".is-open-datum").count() == 1
    assert page.evaluate(OVERFLOW) <= 0


def test_a_tile_opens_the_lightbox_on_these_samples(open_charts):
    page = open_charts(HISTOGRAM, SAMPLES)
    click(page, 2)
    page.locator(".chart-samples .opener").nth(1).click()
    assert page.locator("#lightbox-title").inner_text() == "d"
    assert page.locator("#lightbox-exhibit").inner_text() == "3 samples with L∞ 1.2 to 1.6"
    assert page.locator("#lightbox-position").inner_text() == "2 / 2"
    page.keyboard.press("ArrowRight")
    assert page.locator("#lightbox-title").inner_text() == "c"
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.closest('.chart-samples') !== null")
    assert shown(page) == ["c", "d"]


def test_pictures_come_from_all_samples_first_and_from_other_exhibits_else(open_charts):
    pairs = exhibit("rows", "a", "c", "d", title="Fooled", columns=("clean", "adversarial"), pictures=2)
    page = open_charts(HISTOGRAM, pairs, exhibit("samples", "c"))
    click(page, 2)
    page.locator(".chart-samples .opener").first.click()
    count = page.locator("#lightbox-body img").count()
    page.keyboard.press("ArrowRight")
    assert (count, page.locator("#lightbox-body img").count()) == (1, 2)
    page.keyboard.press("Escape")
    click(page, 0)
    assert shown(page) == ["a"]
    assert page.locator(".samples-unseen li").all_inner_texts() == ["b"]


def test_without_any_picture_the_ids_are_listed(open_charts):
    page = open_charts(chart(bars([f"s{k}" for k in range(30)], [], [], ["t"])))
    click(page, 3)
    assert page.locator(".samples-unseen summary").inner_text() == "No picture is kept of these"
    assert page.locator(".samples-unseen li").all_inner_texts() == ["t"]
    click(page, 0)
    assert not page.locator(".samples-unseen li").first.is_visible()  # many: on demand
    page.locator(".samples-unseen summary").click()
    assert page.locator(".samples-unseen li").all_inner_texts() == [f"s{k}" for k in range(30)]


def test_a_chart_without_samples_offers_nothing(open_charts):
    old = bars(["a"], [], ["b"], [])
    del old["samples"]
    page = open_charts(chart(old), chart({**old, "samples": None}), SAMPLES)
    assert page.locator(".chart").count() == 2
    assert page.locator(".chart-samples").count() == 0
    click(page, 0)
    assert page.locator(".chart-point[role=button]").count() == 0
    assert page.locator("h4").count() == 0


@views
def test_hostile_ids_are_shown_as_they_are_and_do_nothing(open_charts, evil, width, scheme):
    histogram = chart(bars([f"{evil}1", f"{evil}2"], [], [], []), x=evil, title=evil)
    page = open_charts(histogram, exhibit("samples", f"{evil}1"), width=width, scheme=scheme)
    click(page, 0)
    assert page.locator(".chart-samples h4").inner_text() == f"2 samples with {evil} 0 to 0.8"
    assert shown(page) == [f"{evil}1"]
    assert page.locator(".samples-unseen li").all_text_contents() == [f"{evil}2"]
    assert page.evaluate(INJECTED) == 0
    assert page.evaluate(OVERFLOW) <= 0
