"""A report of 5,000 pictures, measured in a real browser."""

import io
from statistics import median, quantiles

import pytest
from PIL import Image

from pytest_cnnaudit.gallery import Report

N = 5_000
OPENED = """
document.addEventListener('DOMContentLoaded', function look() {
    const pictures = [...document.querySelectorAll('.exhibit img')].filter((image) => {
        const { top } = image.getBoundingClientRect();
        return top < Math.min(innerHeight, image.closest('.exhibit-list').getBoundingClientRect().bottom);
    });
    const isThere = pictures.length > 0 && pictures.every((image) => image.complete && image.naturalWidth);
    if (!isThere) requestAnimationFrame(look);
    else requestAnimationFrame(() => requestAnimationFrame(() => { window.openedAfter = performance.now(); }));
});
"""
SCROLLED = """async (step) => {
    const frames = [];
    let before = await new Promise(requestAnimationFrame);
    while (scrollY + innerHeight < document.documentElement.scrollHeight - 1) {
        scrollBy(0, step);
        const now = await new Promise(requestAnimationFrame);
        frames.push(now - before);
        before = now;
    }
    return frames;
}"""
TIMED = """async ([act, selector, value]) => {
    const began = performance.now();
    const node = document.querySelector(selector);
    if (act === 'click') node.click();
    if (act === 'choose') { node.selectedIndex = value; node.dispatchEvent(new Event('change')); }
    if (act === 'press') node.focus();
    if (act === 'press') node.dispatchEvent(new KeyboardEvent('keydown', { key: value, bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - began;
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One exhibit of each kind with 5,000 pictures, each its own file."""
    folder = tmp_path_factory.mktemp("large") / "report"
    run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "", "versions": {}}
    report = Report(folder, run)
    for number in range(N):
        buffer = io.BytesIO()
        image = Image.new("RGB", (32, 32), (number % 256, number // 256 * 12, 90))
        image.putpixel((number % 32, number // 32 % 32), (255, 255, 255))
        image.save(buffer, "PNG", compress_level=1)
        (folder / "images" / f"{number}.png").write_bytes(buffer.getvalue())
    pictures = [
        {"src": f"images/{k}.png", "width": 32, "height": 32, "caption": "", "alt": "", "pixelated": True}
        for k in range(N)
    ]
    for kind, each in (("samples", 1), ("grid", 1), ("rows", 4)):
        rows = [
            {
                "title": f"sample-{k:05d}",
                "status": ("fooled", "robust")[k % 2],
                "figures": {"label": f"class {k % 100}", "‖δ‖": f"{k * 7919 % N}"},
                "pictures": pictures[k * each : (k + 1) * each],
            }
            for k in range(N // each)
        ]
        exhibit = {"kind": kind, "title": "All samples", "text": "", "columns": [], "rows": rows}
        found = {"name": "x", "title": "Attack", "settings": {}, "metrics": [], "notes": [], "cost": {}}
        about = {"outcome": "passed", "message": "", "doc": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": f"test_a.py::{kind}", **about, "measurements": [{**found, "exhibits": [exhibit]}]})
    report.finish("finished", 0)
    return folder


@pytest.fixture
def open_large(open_page, folder):
    def open_large(kind):
        page = open_page("about:blank")
        page.add_init_script(OPENED)
        page.goto(f"{(folder / 'index.html').as_uri()}#test_a.py::{kind}")
        page.wait_for_function("() => window.openedAfter")
        return page, page.evaluate("() => window.openedAfter")

    return open_large


def tell(what, times):
    print(f"{what}: median {median(times):.0f} ms, {' '.join(f'{each:.0f}' for each in sorted(times)[-5:])} at most")


@pytest.mark.parametrize("kind", ["samples", "rows"])
def test_5000_pictures_open_in_under_a_second_and_a_half(open_large, kind):
    times = [open_large(kind)[1] for _ in range(3)]
    tell(f"{kind}: from navigation to the first pictures", times)
    assert median(times) < 1500


def thread_time(cdp):
    """Seconds that the page's thread has computed."""
    metrics = {each["name"]: each["value"] for each in cdp.send("Performance.getMetrics")["metrics"]}
    return metrics["ThreadTime"]


ALL_LAID_OUT = """() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('.exhibit-list ol { content-visibility: visible !important; }');
    document.adoptedStyleSheets = [sheet];
}"""


def scrolled(page, what):
    """Milliseconds of work a frame, of the page's own thread, while it scrolls through all samples."""
    page.locator(".more").click()
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    before = thread_time(cdp)
    frames = page.evaluate(SCROLLED, 50)  # ten pictures more a frame
    work = 1000 * (thread_time(cdp) - before) / len(frames)
    tell(f"{what}: {len(frames)} frames", frames)
    print(f"95% under {quantiles(frames, n=20)[-1]:.0f} ms; {work:.0f} ms of work a frame")
    assert page.locator(".exhibit-list img").count() == N  # it did see all of them
    return work


@pytest.mark.benchmark
def test_scrolling_takes_half_the_work_of_a_page_that_lays_out_what_is_out_of_sight(open_large):
    """As a ratio within one run: how smooth it is depends on the machine, and here no GPU draws."""
    page, _ = open_large("samples")
    ours = scrolled(page, "samples")
    page, _ = open_large("samples")
    page.evaluate(ALL_LAID_OUT)
    assert ours <= 0.6 * scrolled(page, "all laid out")


@pytest.mark.parametrize("kind", ["samples", "grid", "rows"])
def test_jumps_are_immediate(open_large, kind):
    page, _ = open_large(kind)
    acts = {
        "filter": ("click", ".chip:nth-child(2)", None),
        "class": ("choose", "select", 3),
        "all classes": ("choose", "select", 0),
        "all statuses": ("click", ".chip", None),
        "sort": ("choose", ".choice:nth-of-type(2) select", 2),
        "End": ("press", ".opener", "End"),
        "Home": ("press", ".opener", "Home"),
        "filter after all were shown": ("click", ".chip:nth-child(2)", None),
    }
    rounds = [{name: page.evaluate(TIMED, list(act)) for name, act in acts.items()} for _ in range(3)]
    times = {name: median(each[name] for each in rounds) for name in acts}
    print(f"{kind}:", ", ".join(f"{name} {time:.0f} ms" for name, time in times.items()))
    tally = {"rows": "625 of 1,250 shown"}.get(kind, "2,500 of 5,000 shown")
    assert page.locator(".filters [role=status]").inner_text() == tally
    assert max(times.values()) < 300


def test_holding_an_arrow_key_keeps_up_at_the_end_of_the_list(open_large):
    page, _ = open_large("samples")
    page.evaluate(TIMED, ["press", ".opener", "End"])
    keys = ("ArrowLeft", "ArrowUp") * 5
    times = [page.evaluate(TIMED, ["press", ".opener[tabindex='0']", key]) for key in keys]
    tell("samples: one step by an arrow key, all shown", times)
    per_line = page.evaluate("() => itemsPerLine(document.querySelector('.exhibit-list'))")
    assert f"sample-{N - 1 - 5 - 5 * per_line:05d}" in page.evaluate("() => document.activeElement.textContent")
    assert median(times) < 100
