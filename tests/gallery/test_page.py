"""The report's page in a real browser, opened from disk."""

import json

import pytest

from pytest_cnnaudit.gallery import Report

BROKEN_IMAGES = """async () => {
    for (const image of document.images) {
        image.scrollIntoView();
        if (!image.complete) await new Promise((done) => { image.onload = image.onerror = done; });
    }
    return [...document.images].filter((image) => !image.complete || !image.naturalWidth).map((image) => image.src);
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
INJECTED = "() => document.querySelectorAll('img[src=x], [onerror], script:not([src]), main script').length"

views = pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")])


@pytest.fixture
def url(report_folder):
    return (report_folder / "index.html").as_uri()


@pytest.fixture
def ids(report_folder):
    return [test["id"] for test in json.loads((report_folder / "report.json").read_text())["tests"]]


def unbroken(page):
    assert page.evaluate(BROKEN_IMAGES) == []
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(INJECTED) == 0


@views
def test_the_overview_gives_the_verdict_and_every_test(open_page, url, ids, width, scheme):
    page = open_page(url, width=width, scheme=scheme)
    assert page.locator("h1").inner_text().strip() == "4 of 8 audits fell short, 1 could not finish"
    assert page.title() == "4 of 8 audits fell short, 1 could not finish · cnnaudit"
    assert page.locator(".test-link").count() == len(ids) == 9
    assert page.locator("main img").count() > 10
    unbroken(page)


@views
def test_every_test_has_its_page_behind_its_link(open_page, url, ids, width, scheme):
    page = open_page(url, width=width, scheme=scheme)
    page.locator("summary").first.click()  # skipped tests are folded away
    seen = set()
    for number in range(len(ids)):
        page.locator(".test-link").nth(number).click()
        path, name = page.locator(".test-page .path").inner_text(), page.locator("h1").inner_text()
        seen.add(f"{path}::{name}")
        unbroken(page)
        page.go_back()
        page.locator(".overview").wait_for()
        if not page.locator("details.group").first.evaluate("details => details.open"):
            page.locator("summary").first.click()
    assert {name.replace("\n", "") for name in seen} == set(ids)


def test_every_test_has_its_page_behind_the_address_that_pytest_prints(open_page, url, ids):
    for name in ids:
        page = open_page(f"{url}#{name}")
        assert page.locator("h1").inner_text() == name.split("::", 1)[1]
        assert page.locator("[role=alert]").count() == 0


def test_an_address_of_no_test_says_so(open_page, url):
    page = open_page(f"{url}#test_audit.py::test_gone")
    assert "no test “test_audit.py::test_gone”" in page.locator("[role=alert]").inner_text()
    assert page.locator(".test-link").count() == 9


def test_a_failed_test_shows_its_message_metrics_and_pictures(open_page, url, evil):
    page = open_page(f"{url}#test_audit.py::test_attack[100%]")
    assert (
        "assert robust accuracy 0.50 (95% CI 0.22 to 0.78, 4 of 8) >= 0.75" in page.locator("pre.message").inner_text()
    )
    card = page.locator(".metric-card").first.inner_text()
    assert "robust accuracy" in card.lower()
    assert "≥ 0.75" in card
    assert page.locator(".exhibit").count() == 3  # fooled, held out, every sample
    assert page.locator(".exhibit").first.locator("img").count() == 16  # four samples, four pictures each
    assert f"{evil}" in page.locator(".exhibit").first.inner_text()


@pytest.mark.parametrize("bundle", ["cnnaudit-report/repro/x", ""])
@pytest.mark.parametrize("width", [1440, 360])
def test_a_failure_says_how_to_see_it_again(open_page, tmp_path, evil, bundle, width):
    run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "", "versions": {}}
    command = f"pytest 'test_audit.py::test_it[{evil}]' --cnnaudit --cnnaudit-replay {bundle}{'/deep' * 30}"
    report = Report(tmp_path / "report", run)
    about = {"outcome": "failed", "message": "no", "doc": "", "duration": 1.0, "model": None, "samples": None}
    found = {"name": "x", "title": "Attack", "settings": {}, "metrics": [], "notes": [], "cost": {}, "exhibits": []}
    repro = {"command": command, "bundle": bundle, "trouble": ""}
    report.add({"id": "test_it", **about, "measurements": [found], "repro": repro})
    report.finish("finished", 1)
    page = open_page((tmp_path / "report" / "index.html").as_uri() + "#test_it", width=width)
    told = page.locator(".reproduction")
    assert told.locator("code").text_content() == command
    assert ("worst samples" in told.inner_text()) == bool(bundle)
    told.locator("code").click()
    assert page.evaluate("getSelection().toString()").strip() == command  # all of it at a click
    unbroken(page)


def test_a_test_with_parameters_stands_beside_its_others(open_page, url, ids):
    page = open_page(f"{url}#{next(name for name in ids if '100%' in name)}".replace("%", "%25"))
    columns = page.locator(".side-by-side .side-column")
    assert columns.count() == 4
    assert columns.locator("h3 strong").all_inner_texts() == ["[100%]"]
    assert columns.locator(".headline-metric").count() == 4
    columns.nth(2).locator("a").click()
    assert "a#b::c?d&e" in page.locator("h1").inner_text()
    unbroken(page)


def test_the_outcome_filter_and_the_search_narrow_the_list(open_page, url):
    page = open_page(url)
    page.locator(".chip[data-outcome=failed]").click()
    assert page.locator(".test-link").count() == 4
    assert page.locator(".tally").inner_text() == "4 of 9 tests shown"
    page.locator("#search").fill("ATTACK 100")
    assert page.locator(".test-link").count() == 1
    page.locator(".chip[data-outcome=all]").click()
    page.locator("#search").fill("filters")
    assert page.locator(".test-link").all_inner_texts()[0].endswith("test_filters")
    page.locator("#search").fill("nothing of that name")
    assert page.locator(".test-link").count() == 0
    page.locator("#search").fill("")
    assert page.locator(".test-link").count() == 9


@pytest.mark.parametrize("width", [1440, 360])
def test_the_lightbox_opens_walks_and_closes_by_keyboard(open_page, url, width):
    page = open_page(f"{url}#test_audit.py::test_attack[100%]", width=width)
    page.locator(".opener").first.focus()
    page.keyboard.press("Enter")
    box = page.locator("#lightbox")
    assert box.is_visible()
    first = page.locator("#lightbox-title").inner_text()
    assert page.locator("#lightbox-body img").count() == 4
    assert page.evaluate(BROKEN_IMAGES) == []
    assert page.evaluate(OVERFLOW) <= 0
    page.keyboard.press("ArrowRight")
    assert page.locator("#lightbox-title").inner_text() != first
    assert page.locator("#lightbox-position").inner_text() == "2 / 4"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#lightbox-title").inner_text() == first
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert page.locator("h1").inner_text().startswith("test_attack")  # Escape closed the box, not the page
    assert page.evaluate("() => document.activeElement.matches('.opener')")


def test_the_keyboard_walks_through_tests(open_page, url):
    page = open_page(url)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    for key, position in (("", 1), ("j", 2), ("ArrowRight", 3), ("k", 2), ("ArrowLeft", 1)):
        if key:
            page.keyboard.press(key)
        page.get_by_text(f"{position} of 9", exact=True).wait_for()
    page.keyboard.press("u")
    page.locator(".overview").wait_for()


def test_hostile_names_are_shown_as_they_are_and_do_nothing(open_page, url, ids, evil):
    for name in ids:
        if evil in name or "error" in name:
            page = open_page(f"{url}#{name}")
            assert page.evaluate(INJECTED) == 0
            assert page.locator("h1").inner_text() == name.split("::", 1)[1]
    assert "<script>alert(1)</script>" in page.locator("pre.message").inner_text()
    page = open_page(f"{url}#<img src=x onerror=alert(1)>")
    assert page.evaluate(INJECTED) == 0


@pytest.fixture
def made(tmp_path):
    """A report made by hand: any state of a run."""

    def make(*outcomes, status, notes=(), exit_status=None):
        run = {
            "started": "2026-01-01T00:00:00+00:00",
            "seed": 0,
            "device": "cpu",
            "command": "pytest",
            "versions": {"python": "3"},
        }
        report = Report(tmp_path / "made", run)
        for number, outcome in enumerate(outcomes):
            measured = {"doc": "", "duration": 1.0, "model": None, "samples": None, "measurements": []}
            report.add({"id": f"test_a.py::test_{number}", "outcome": outcome, "message": "why", **measured})
        for note in notes:
            report.note(note)
        if status != "running":
            report.finish(status, exit_status)
        return (tmp_path / "made" / "index.html").as_uri()

    return make


def test_an_interrupted_run_says_so_above_all(open_page, made):
    page = open_page(
        made("passed", "crashed", status="interrupted", notes=["Only a part (-k x)."], exit_status=2), width=360
    )
    banner = page.locator(".banner").inner_text()
    assert "interrupted" in banner
    assert "Only a part (-k x)." in banner
    assert page.locator("h1").inner_text() == "1 of 2 audits could not finish"
    assert page.evaluate(OVERFLOW) <= 0


def test_a_run_that_never_ended_says_so(open_page, made):
    page = open_page(made("failed", status="running"))
    assert "had not finished" in page.locator(".banner").inner_text()
    assert page.locator("h1").inner_text() == "1 of 1 audit fell short so far"


def test_a_report_of_nothing_claims_nothing(open_page, made):
    page = open_page(made("skipped", status="finished", exit_status=0))
    assert page.locator("h1").inner_text() == "Nothing was measured"


def test_an_outcome_the_page_does_not_know_counts_as_an_error(open_page, made):
    page = open_page(made("passed", "imploded", status="finished", exit_status=1))
    assert page.locator("h1").inner_text() == "1 of 2 audits could not finish"
