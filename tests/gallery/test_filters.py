"""The filter bar above an exhibit, in a real browser."""

import re

import pytest

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img[src=x], [onerror], script:not([src]), main script').length"
VISIBLE = """() => [...document.querySelectorAll('.exhibit-list li')].filter((item) => {
    const clip = item.closest('.exhibit-list').getBoundingClientRect();
    return item.getBoundingClientRect().top < clip.bottom;
}).length"""

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])


def row(title, status="", **figures):
    picture = {"src": "images/a.png", "width": 32, "height": 32, "caption": "", "alt": "", "pixelated": True}
    return {"title": title, "status": status, "figures": figures, "pictures": [picture]}


def exhibit(*rows, kind="rows", title="Fooled by the least"):
    return {"kind": kind, "title": title, "text": "", "columns": ["clean"], "rows": list(rows)}


def twelve(kind="rows"):
    """Every third was fooled; sizes run against the given order, with one missing and one of thousands."""
    sizes = [
        "1,200/255",
        "9.5/255",
        "9/255",
        "8/255",
        "7.25/255",
        "6/255",
        "5/255",
        "4/255",
        "3/255",
        "2/255",
        "0.5/255",
    ]
    rows = [
        row(f"s{k}", ("fooled", "robust", "robust")[k % 3], label=("cat", "dog")[k % 2], **{"‖δ‖": size}, by="pgd")
        for k, size in enumerate(sizes)
    ]
    return exhibit(*rows, row("s11", "misclassified", label="ant"), kind=kind)


def titles(page):
    selector = ".exhibit-list .tile > span:nth-child(2), .exhibit-list h4"
    return page.locator(selector).all_text_contents()


def tally(page):
    return page.locator(".filters [role=status]").inner_text()


def choose(page, name, text):
    page.get_by_label(name, exact=True).select_option(text)


@pytest.mark.parametrize("kind", ["rows", "grid", "samples"])
def test_a_status_leaves_its_rows_in_their_order(open_exhibits, kind):
    page = open_exhibits(twelve(kind))
    chips = page.locator(".filters .chip")
    assert [re.sub(r"\s+", " ", text) for text in chips.all_text_contents()] == [
        "all12", "fooled4", "robust7", "misclassified1",
    ]  # fmt: skip
    assert tally(page) == "12 of 12 shown"
    chips.nth(1).click()
    assert titles(page) == ["s0", "s3", "s6", "s9"]
    assert tally(page) == "4 of 12 shown"
    assert [chip.get_attribute("aria-pressed") for chip in chips.all()] == ["false", "true", "false", "false"]
    chips.nth(0).click()
    assert titles(page) == [f"s{k}" for k in range(12)]


def test_a_class_leaves_its_rows_and_the_counts_tell_what_each_choice_would_leave(open_exhibits):
    page = open_exhibits(twelve())
    select = page.get_by_label("class", exact=True)
    assert select.locator("option").all_text_contents() == ["all (12)", "ant (1)", "cat (6)", "dog (5)"]
    choose(page, "class", "cat (6)")
    assert titles(page) == ["s0", "s2", "s4", "s6", "s8", "s10"]
    assert page.locator(".filters .chip .count").all_text_contents() == ["6", "2", "4", "0"]
    page.locator(".filters .chip").nth(1).click()
    assert titles(page) == ["s0", "s6"]
    assert select.locator("option").all_text_contents() == ["all (4)", "ant (0)", "cat (2)", "dog (2)"]
    choose(page, "class", "ant (0)")
    assert titles(page) == []
    assert tally(page) == "0 of 12 shown"


def test_rows_are_sorted_by_the_number_and_those_without_come_last(open_exhibits):
    page = open_exhibits(twelve())
    options = page.get_by_label("sort", exact=True).locator("option").all_text_contents()
    assert options == ["as given", "‖δ‖ ascending", "‖δ‖ descending"]  # by "by" nothing can be sorted
    choose(page, "sort", "‖δ‖ ascending")
    assert titles(page) == [f"s{k}" for k in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11)]
    choose(page, "sort", "‖δ‖ descending")
    assert titles(page) == [f"s{k}" for k in range(12)]
    page.locator(".filters .chip").nth(1).click()
    choose(page, "sort", "‖δ‖ ascending")
    assert titles(page) == ["s9", "s6", "s3", "s0"]
    choose(page, "sort", "as given")
    assert titles(page) == ["s0", "s3", "s6", "s9"]


def test_there_is_no_bar_without_a_choice(open_exhibits):
    same = [row(f"s{k}", "fooled", label="cat", size="1.0", by="pgd") for k in range(20)]
    few = [row(f"s{k}", ("fooled", "robust")[k % 2], label=f"{k}", size=f"{k}") for k in range(7)]
    rare = [row(f"s{k}", **({"size": f"{k}"} if k < 5 else {})) for k in range(10)]
    page = open_exhibits(exhibit(*same), exhibit(*few), exhibit(*rare), exhibit(row("s8"), kind="grid"))
    assert page.locator(".exhibit").count() == 4
    assert page.locator(".filters").count() == 0


def test_only_what_can_be_chosen_is_offered(open_exhibits):
    classes = [row(f"s{k}", label=f"class {k % 11}") for k in range(22)]
    page = open_exhibits(exhibit(*classes))
    assert page.locator(".filters .chip").count() == 0
    assert page.locator(".filters select").count() == 1
    options = page.locator(".filters option").all_text_contents()
    assert options == ["all (22)", *(f"class {k} (2)" for k in range(11))]  # 2 before 10


@pytest.mark.parametrize("kind", ["rows", "samples"])
def test_the_lightbox_walks_through_what_is_shown_only(open_exhibits, kind):
    page = open_exhibits(twelve(kind))
    page.locator(".filters .chip").nth(1).click()
    choose(page, "sort", "‖δ‖ ascending")
    page.locator(".opener").nth(1).click()
    seen = []
    for _ in range(4):
        seen.append(page.locator("#lightbox-title").inner_text())
        page.keyboard.press("ArrowRight")
    assert seen == ["s6", "s3", "s0", "s9"]
    assert page.locator("#lightbox-position").inner_text() == "2 / 4"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.wait_for_function("() => [...document.querySelectorAll('.opener')].indexOf(document.activeElement) === 2")


def test_the_bar_works_by_keyboard_and_the_exhibit_stays_one_stop(open_exhibits):
    page = open_exhibits(twelve())
    chips = page.locator(".filters .chip")
    chips.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert titles(page) == ["s0", "s3", "s6", "s9"]
    assert page.locator("h1").inner_text() == "test_one"  # the arrow moved inside the bar, not to another test
    assert chips.nth(1).evaluate("chip => chip === document.activeElement")
    for _ in range(5):  # two chips, two selects, the exhibit
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.matches('.opener')")
    page.keyboard.press("End")
    place = "() => [...document.querySelectorAll('.opener')].indexOf(document.activeElement)"
    assert page.evaluate(place) == 3
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(place) == 1
    assert page.locator(".opener[tabindex='0']").count() == 1


def test_of_a_long_exhibit_only_what_the_reader_comes_near_is_drawn(open_exhibits):
    rows = [row(f"s{k}", ("robust", "fooled")[k % 2], size=f"{-k}") for k in range(800)]
    page = open_exhibits(exhibit(*rows))
    assert 60 <= page.locator(".exhibit-list h4").count() < 100
    choose(page, "sort", "size ascending")
    page.locator(".filters .chip").nth(1).click()
    assert tally(page) == "400 of 800 shown"
    assert titles(page)[:60] == [f"s{k}" for k in range(798, 678, -2)]
    page.locator(".opener").first.focus()
    page.keyboard.press("End")
    assert page.evaluate("() => document.activeElement.closest('li').querySelector('h4').textContent") == "s0"
    assert page.locator(".exhibit-list h4").count() < 300
    page.evaluate("() => document.querySelector('.exhibit-list > ol:nth-child(8)').scrollIntoView()")
    page.wait_for_function("() => document.querySelector('.exhibit-list > ol:nth-child(8) h4')?.textContent === 's462'")
    page.locator(".filters .chip").nth(0).click()
    assert titles(page)[:2] == ["s799", "s798"]


def test_what_was_not_drawn_takes_no_room_on_paper(open_exhibits):
    page = open_exhibits(exhibit(*[row(f"s{k}") for k in range(400)]))
    page.emulate_media(media="print")
    assert page.locator(".exhibit-list li").nth(59).is_visible()
    assert page.locator(".exhibit-list").evaluate("list => list.getBoundingClientRect().height") < 61 * 300


@pytest.mark.parametrize("kind", ["grid", "samples"])
def test_no_line_of_tiles_is_cut_short_at_any_width(open_exhibits, kind):
    page = open_exhibits(exhibit(*[row(f"s{k}") for k in range(301)], kind=kind))
    for width in (1440, 777, 390):
        page.set_viewport_size({"width": width, "height": 900})
        lines = page.evaluate("""async () => {
            const list = document.querySelector('.exhibit-list');
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            for (let index = 0; index < 301; index += 1) list.opener(index);
            const lines = {};
            for (const item of document.querySelectorAll('.exhibit-list li')) {
                const { top } = item.getBoundingClientRect();
                lines[Math.round(top)] = (lines[Math.round(top)] || 0) + 1;
            }
            return Object.values(lines);
        }""")
        assert set(lines[:-1]) == {lines[0]}
        assert page.evaluate(OVERFLOW) <= 0


@views
def test_all_samples_are_folded_until_asked_for(open_exhibits, width, scheme):
    rows = [row(f"s{k}", ("robust", "fooled")[k % 2], label="cat") for k in range(200)]
    page = open_exhibits(exhibit(*rows, kind="samples"), width=width, scheme=scheme)
    per_line = page.evaluate("() => itemsPerLine(document.querySelector('.exhibit-list'))")
    assert page.evaluate(VISIBLE) == 3 * per_line
    assert page.evaluate(OVERFLOW) <= 0
    assert page.locator(".more").inner_text() == "Show all 200"
    page.locator(".more").click()
    assert page.evaluate(VISIBLE) > 3 * per_line
    assert page.locator(".more").is_hidden()
    page.locator(".opener").first.focus()
    page.keyboard.press("End")
    page.locator(".exhibit-list li").last.locator("img").wait_for()
    assert "s199" in page.evaluate("() => document.activeElement.textContent")
    assert page.evaluate(OVERFLOW) <= 0


def test_moving_into_folded_samples_unfolds_them(open_exhibits):
    page = open_exhibits(exhibit(*[row(f"s{k}") for k in range(100)], kind="samples"))
    page.locator(".opener").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert page.locator(".is-folded").count() == 1
    page.keyboard.press("ArrowDown")
    assert page.locator(".is-folded").count() == 0
    focused = page.evaluate("() => document.activeElement.getBoundingClientRect().bottom")
    assert focused <= 900


def test_a_status_shows_as_a_shape_too(open_exhibits):
    statuses = ["fooled", "robust", "note", "anything", "constructor", "", "", ""]
    page = open_exhibits(exhibit(*[row(f"s{k}", each) for k, each in enumerate(statuses)], kind="samples"))
    shapes = page.locator(".tile-pictures").evaluate_all(
        "tiles => tiles.map((tile) => getComputedStyle(tile, '::after').content.split(' ')[0])"
    )
    assert shapes == ['"×"', '"✓"', '"!"', '"–"', '"–"', "none", "none", "none"]
    chips = page.locator(".filters .chip")
    assert chips.nth(5).get_attribute("class") == "chip tone-idle"
    assert chips.all_text_contents() == [
        "all8",
        "fooled1",
        "robust1",
        "note1",
        "anything1",
        "constructor1",
        "no status3",
    ]


@views
def test_hostile_names_are_shown_as_they_are_and_do_nothing(open_exhibits, evil, width, scheme):
    rows = [row(f"{evil}{k}", evil * (k % 2), label=evil * (1 + k % 3), **{evil: f"{k}"}) for k in range(9)]
    page = open_exhibits(exhibit(*rows), exhibit(*rows, kind="samples", title=evil), width=width, scheme=scheme)
    for place in (0, 1):
        page.locator(".filters").nth(place).locator(".chip").nth(2).click()
        page.get_by_label("class", exact=True).nth(place).select_option(index=3)
        page.get_by_label("sort", exact=True).nth(place).select_option(index=2)
    assert page.locator(".filters [role=status]").all_inner_texts() == ["1 of 9 shown"] * 2
    assert titles(page) == [f"{evil}5"] * 2
    assert page.evaluate(INJECTED) == 0
    assert page.evaluate(OVERFLOW) <= 0
    page.locator(".opener").last.click()
    assert page.locator("#lightbox-title").inner_text() == f"{evil}5"
    assert page.evaluate(INJECTED) == 0
