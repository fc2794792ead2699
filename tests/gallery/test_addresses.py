"""Addresses of tests and of samples: each leads to what it names, whatever the names are."""

import re

import pytest
from PIL import Image

from pytest_cnnaudit.gallery import Report

EVIL = "<img src=x onerror=alert(1)>\"'../"
TITLES = [EVIL, "100%", "a&sample=b", "%2e", "a#b?c&exhibit=2", "ü ß 画像", "\udce9.png", "plain"]
IDS = [
    "plain", "t", "t&sample=plain", "t&exhibit=1", f"test_a.py::test[{EVIL}]", "test_a.py::test[100%]", "t[a&sample=b]",
]  # fmt: skip
INJECTED = "() => document.querySelectorAll('img[src=x], [onerror], script:not([src]), main script').length"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("addresses") / "report"
    report = Report(folder, {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "versions": {}})
    Image.new("RGB", (4, 4), (200, 20, 40)).save(folder / "images" / "red.png")
    picture = {"src": "images/red.png", "width": 4, "height": 4, "caption": "", "alt": "", "pixelated": True}

    def exhibit(title, titles, kind="rows"):
        rows = [{"title": name, "status": "", "figures": {}, "pictures": [picture]} for name in titles]
        return {"kind": kind, "title": title, "text": "", "columns": ["image"], "rows": rows}

    chart = {
        "kind": "chart", "title": "curve", "text": "", "x": "x", "y": "y", "x_marks": [], "y_marks": [],
        "log_x": False, "y_range": None,
        "series": [{"kind": "line", "name": "", "x": [0, 1], "y": [0, 1], "low": None, "high": None}],
    }  # fmt: skip

    def test(name, *exhibits):
        measurement = {
            "name": name, "title": name, "settings": {}, "notes": [], "metrics": [],
            "cost": {"forward": 0, "backward": 0}, "exhibits": exhibits,
        }  # fmt: skip
        told = {"doc": "", "message": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": name, "outcome": "passed", "measurements": [measurement], **told})

    for name in IDS:
        test(name, exhibit("Rows", TITLES))
    test("twice", chart, exhibit("First", ["a", "b", "", "a"]), exhibit("Second", ["c", "b"], kind="grid"))
    test("long", exhibit("Long", [f"sample {number}" for number in range(150)]))
    report.finish("finished", 0)
    return (folder / "index.html").as_uri()


def shown(page):
    """The test, the exhibit and the place of the sample that is open."""
    page.locator("#lightbox[open]").wait_for()
    texts = page.locator("#lightbox-title, #lightbox-exhibit, #lightbox-position").all_text_contents()
    return page.locator("h1").text_content(), *texts


def openers(page, exhibit):
    return page.locator(".exhibit", has=page.get_by_role("heading", name=exhibit, exact=True)).locator(".opener")


def test_the_address_of_every_sample_names_it_and_no_other(open_page, url):
    page = open_page(url)
    wrong = page.evaluate("""() => {
        const leadsElsewhere = (test, row) => {
            const named = addressed(new URL(sampleAddress(test, row), location.href).hash);
            return named.test !== test || !named.exhibit || named.exhibit.rows[named.index] !== row;
        };
        return report.tests.flatMap((test) => pictureExhibits(test).flatMap(({ exhibit }) =>
            exhibit.rows.filter((row) => leadsElsewhere(test, row)).map((row) => [test.id, exhibit.title, row.title])));
    }""")
    assert wrong == [["twice", "First", ""], ["twice", "First", "a"]]  # without a name, or with that of one above it


@pytest.mark.parametrize("name", [IDS[1], IDS[4]])
def test_the_address_that_is_shown_opens_the_same_sample(open_page, url, name):
    page = open_page(f"{url}#{name}")
    openers(page, "Rows").first.click()
    seen = {}
    for _ in TITLES:
        page.wait_for_function("() => location.href === new URL(rowAddress(), location.href).href")
        seen[page.url] = shown(page)
        page.keyboard.press("ArrowRight")
    assert [title for _, title, _, _ in seen.values()] == TITLES
    for address in list(seen)[::2]:
        page.goto("about:blank")
        page.goto(address)
        assert shown(page) == seen[address]
        assert page.evaluate(INJECTED) == 0


def test_an_address_may_be_typed_as_the_names_are_read(open_page, url):
    page = open_page(url)
    for title in (EVIL, "100%", "a&sample=b", "a#b?c&exhibit=2", "ü ß 画像"):
        page.goto("about:blank")
        page.goto(f"{url}#{IDS[4]}&sample={title}")
        assert shown(page)[1] == title


def test_a_test_of_just_that_name_comes_first(open_page, url):
    page = open_page(f"{url}#t&sample=plain")
    assert page.locator("h1").text_content() == "t&sample=plain"
    assert not page.locator("#lightbox").is_visible()
    page = open_page(f"{url}#t")
    openers(page, "Rows").last.click()
    assert page.url.endswith("#t&exhibit=1&sample=plain")
    page = open_page(page.url)
    assert shown(page)[:2] == ("t", "plain")


def test_a_title_in_several_exhibits_is_told_apart_by_the_exhibit(open_page, url):
    page = open_page(f"{url}#twice")
    openers(page, "First").nth(1).click()
    assert page.url.endswith("#twice&sample=b")
    page.keyboard.press("Escape")
    openers(page, "Second").nth(1).click()
    assert page.url.endswith("#twice&exhibit=3&sample=b")  # the chart before it counts
    assert shown(open_page(page.url)) == ("twice", "b", "Second", "2 / 2")
    assert shown(open_page(f"{url}#twice&exhibit=9&sample=c")) == ("twice", "c", "Second", "1 / 2")


def test_the_address_is_the_samples_while_it_is_open_and_then_the_tests(open_page, url):
    page = open_page(url)
    page.locator(".test-link", has_text="twice").click()
    length = page.evaluate("() => history.length")
    openers(page, "First").first.click()
    assert page.url.endswith("#twice&sample=a")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**#twice&sample=b")
    page.keyboard.press("Escape")
    page.wait_for_url("**#twice")
    assert page.locator(".opener:focus").count() == 1
    openers(page, "Second").first.click()
    assert page.url.endswith("#twice&sample=c")
    assert page.evaluate("() => history.length") == length
    page.go_back()
    page.locator(".overview").wait_for()
    assert not page.locator("#lightbox").is_visible()
    assert page.url.endswith("index.html")
    assert page.locator(".test-link:focus").text_content().endswith("twice")
    page.go_forward()
    assert shown(page)[1] == "c"
    page.wait_for_function("() => location.hash === '#twice&sample=c'")


def test_other_addresses_may_be_entered_while_a_sample_is_open(open_page, url):
    page = open_page(f"{url}#twice&sample=a")
    page.evaluate("() => { location.hash = '#long&sample=sample 7'; }")
    page.locator("#lightbox-title", has_text=re.compile("^sample 7$")).wait_for()
    page.wait_for_timeout(400)  # what the first had still to do is done
    assert page.url.endswith("#long&sample=sample%207")
    assert shown(page) == ("long", "sample 7", "Long", "8 / 150")
    page.go_back()
    page.locator("#lightbox-title", has_text=re.compile("^a$")).wait_for()


def test_a_sample_that_is_not_there_is_told(open_page, url):
    page = open_page(f"{url}#twice&sample=<img src=x onerror=alert(1)>")
    assert page.get_by_role("alert").inner_text() == "This test shows no sample “<img src=x onerror=alert(1)>”."
    assert page.locator("h1").inner_text() == "twice"
    assert not page.locator("#lightbox").is_visible()
    assert page.evaluate(INJECTED) == 0
    page = open_page(f"{url}#nothing&sample=a")
    assert "no test “nothing&sample=a”" in page.get_by_role("alert").inner_text()


def test_a_row_far_down_opens_and_gives_the_focus_to_the_page(open_page, url):
    page = open_page(f"{url}#long&sample=sample%20149")
    assert shown(page) == ("long", "sample 149", "Long", "150 / 150")
    page.keyboard.press("ArrowLeft")
    assert shown(page)[1] == "sample 148"
    page.keyboard.press("Escape")
    page.wait_for_url("**#long")
    assert page.locator(".opener:focus").count() == 1


def test_a_held_key_does_not_write_an_address_at_each_repeat(open_page, url):
    page = open_page(f"{url}#long&sample=sample%200")  # Safari takes 100 in half a minute and then fails
    written = page.evaluate("""() => {
        let written = 0;
        const replaceState = history.replaceState.bind(history);
        history.replaceState = (...state) => { written += 1; replaceState(...state); };
        for (let press = 0; press < 400; press += 1) {
            document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }));
        }
        return written;
    }""")
    assert written <= 1
    assert shown(page)[1] == "sample 100"
    page.wait_for_url("**#long&sample=sample%20100")


def test_the_link_is_copied(open_page, url):
    page = open_page(f"{url}#{IDS[4]}")
    page.evaluate("""() => Object.defineProperty(navigator, 'clipboard', {
        value: { writeText: async (text) => { window.copied = text; } },
    })""")
    openers(page, "Rows").nth(2).click()
    page.keyboard.press("ArrowLeft")
    page.locator("#lightbox-copy").click()  # at once: it does not wait for the address bar
    page.get_by_text("copied", exact=True).wait_for()
    assert shown(open_page(page.evaluate("() => window.copied")))[1] == "100%"


def test_where_there_is_no_clipboard_the_link_is_selected(open_page, url):
    page = open_page(f"{url}#{IDS[4]}")
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    openers(page, "Rows").first.click()
    page.locator("#lightbox-copy").click()
    field = page.get_by_role("textbox", name="Address of this sample")
    field.wait_for()
    selected = field.evaluate("(field) => field.value.slice(field.selectionStart, field.selectionEnd)")
    assert field.evaluate("(field) => field === document.activeElement && field.readOnly")
    assert shown(open_page(selected))[1] == EVIL
    page.keyboard.press("ArrowRight")  # the field's own key
    assert shown(page)[1] == EVIL
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert shown(page)[1] == "100%"
    assert not field.is_visible()
