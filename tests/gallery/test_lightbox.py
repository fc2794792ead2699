"""The enlarged sample: ways to compare its pictures, zoom, and the numbers under the pointer."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from pytest_cnnaudit.gallery import Report

WIDTH, HEIGHT = 16, 12
RED, BLUE = (200, 20, 40), (10, 60, 220)
OVERFLOW = """() => [document.documentElement, document.getElementById('lightbox')]
    .map((box) => box.scrollWidth - box.clientWidth)"""
VIEWS = ("side-by-side", "slider", "overlay", "difference", "difference10")


def clean(x, y):
    return (10 * x, 20 * y, 200 - x * y)


def adversarial(x, y):
    """Equal to `clean` in the left half; in the right half off by 7, by -3 and by nothing."""
    red, green, blue = clean(x, y)
    return (red + 7, max(green - 3, 0), blue) if x >= WIDTH // 2 else (red, green, blue)


def painted(colour, width=WIDTH, height=HEIGHT):
    """A picture whose pixel at (x, y) is `colour(x, y)`, or that one colour; a number makes it grey."""
    at = colour if callable(colour) else lambda x, y: colour
    image = Image.new("L" if isinstance(at(0, 0), int) else "RGB", (width, height))
    for x in range(width):
        for y in range(height):
            image.putpixel((x, y), at(x, y))
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lightbox") / "report"


@pytest.fixture(scope="module")
def url(folder):
    report = Report(folder, {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "versions": {}})

    def picture(name, image, *, numbers=False, caption="", **more):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        path = f"images/{name}.png"
        (folder / path).write_bytes(buffer.getvalue())
        script = f"data/pixels/{name}.js" if numbers else None
        if script:
            (folder / "data/pixels").mkdir(exist_ok=True)
            data = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            (folder / script).write_text(f"cnnauditPixels({json.dumps(path)},{json.dumps(data)});\n")
        width, height = image.size
        return {
            "src": path, "numbers": script, "width": width, "height": height,
            "caption": caption, "alt": "", "pixelated": True, **more,
        }  # fmt: skip

    def row(title, *pictures, status=""):
        return {"title": title, "status": status, "figures": {"label": "cat"}, "pictures": list(pictures)}

    def test(name, columns, *rows):
        exhibit = {"kind": "rows", "title": f"Rows of {name}", "text": "", "columns": columns, "rows": rows}
        measurement = {
            "name": name, "title": name, "settings": {}, "notes": [], "metrics": [],
            "cost": {"forward": 0, "backward": 0}, "exhibits": [exhibit],
        }  # fmt: skip
        told = {"doc": "", "message": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": name, "outcome": "passed", "measurements": [measurement], **told})

    checkers = painted(lambda x, y: RED if (x + y) % 2 else BLUE, 2, 2)
    quarters = [painted(lambda x, y, n=n: (RED, BLUE)[x >= n // 2 and y >= n // 2], n, n) for n in (8, 20)]
    attacked = [
        picture("clean", painted(clean), numbers=True, caption="cat 0.9"),
        picture("adversarial", painted(adversarial), numbers=True, caption="dog 0.6"),
        picture("difference", painted(128)),
    ]
    test(
        "attack", ["clean", "adversarial", "difference"], row("one", *attacked, status="fooled"), row("two", *attacked)
    )
    test("solid", ["red", "blue"], row("solid", picture("red", painted(RED)), picture("blue", painted(BLUE))))
    test("checkers", ["a", "b"], *[row(t, picture("two", checkers), picture("other", checkers)) for t in "xy"])
    test("quarters", ["8", "20"], row("quarters", *[picture(f"q{n}", each) for n, each in enumerate(quarters)]))
    grey = picture("grey", painted(lambda x, y: 10 * x + y), numbers=True)
    small = picture("small", painted(lambda x, y: 9 * x, 4, 3), numbers=True)
    dumb = {**picture("dumb", painted(BLUE)), "numbers": "data/pixels/dumb.js"}
    (folder / "data/pixels/dumb.js").write_text("// says nothing\n")
    test("grey", ["image", "map", "dumb", "small"], row("grey", attacked[0], grey, dumb, small))
    thumb = picture("thumb", painted(RED, 4, 3))["src"]
    large = picture("large", painted(BLUE, 40, 30), thumb=thumb)
    test(
        "mixed", [], row("alone", large), row("pair", attacked[0], attacked[1]), row("odd", small, status="constructor")
    )
    report.finish("finished", 0)
    return (folder / "index.html").as_uri()


@pytest.fixture
def opened(open_page, url):
    def opened(test, view="side-by-side", **options):
        page = open_page(f"{url}#{test}", **options)
        page.locator(".opener").first.click()
        page.keyboard.press(str(VIEWS.index(view) + 1))
        page.evaluate("() => Promise.all([...document.querySelectorAll('.frame img')].map((image) => image.decode()))")
        return page

    return opened


def shot(page, number=0):
    return Image.open(io.BytesIO(page.locator(".frame").nth(number).screenshot())).convert("RGB")


def seen(image, x, y):
    """The colour at a place given as shares of the picture."""
    return image.getpixel((round(x * (image.width - 1)), round(y * (image.height - 1))))


def is_near(colour, expected, within=1):
    return all(abs(one - other) <= within for one, other in zip(colour, expected, strict=True))


def point(page, x, y, number=0, size=(WIDTH, HEIGHT)):
    """Point at the pixel (x, y) of a picture that is seen whole."""
    box = page.locator(".frame").nth(number).bounding_box()
    page.mouse.move(
        box["x"] + (x + 0.5) / size[0] * box["width"],
        box["y"] + (y + 0.5) / size[1] * box["height"],
    )


def line(page, start):
    numbers = page.locator("#lightbox-numbers", has_text=re.compile(f"^{re.escape(start)} ·"))
    numbers.wait_for()
    return numbers.text_content()


def expected(x, y):
    def number(value):
        return f"−{-value}" if value < 0 else f"+{value}" if value else "0"

    one, other = clean(x, y), adversarial(x, y)
    change = " ".join(number(b - a) for a, b in zip(one, other, strict=True))
    texts = [" ".join(map(str, values)) for values in (one, other)]
    return f"x {x}, y {y} · clean {texts[0]} · adversarial {texts[1]} · difference {change}"


# ---- views ----


def test_the_slider_uncovers_a_to_the_left_of_its_handle_and_b_to_the_right(opened):
    page = opened("solid", "slider")
    image = shot(page)
    assert is_near(seen(image, 0.35, 0.2), RED)
    assert is_near(seen(image, 0.65, 0.2), BLUE)
    box = page.locator(".split-handle").bounding_box()
    frame = page.locator(".frame").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.25, middle, steps=4)
    page.mouse.up()
    image = shot(page)
    assert is_near(seen(image, 0.15, 0.2), RED)
    assert is_near(seen(image, 0.35, 0.2), BLUE)
    assert 24 <= float(page.locator("#split").input_value()) <= 26
    page.locator("#split").focus()
    page.keyboard.press("End")
    assert is_near(seen(shot(page), 0.9, 0.2), RED)
    assert page.locator("#split").get_attribute("aria-valuetext") == "100% red"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#split").input_value() == "99"
    page.keyboard.press("Home")
    assert is_near(seen(shot(page), 0.1, 0.2), BLUE)


def test_the_overlay_mixes_by_the_range(opened):
    page = opened("solid", "overlay")
    for share in (0, 25, 100):
        page.locator("#split").fill(str(share))
        mixed = [(share * a + (100 - share) * b) / 100 for a, b in zip(RED, BLUE, strict=True)]
        assert is_near(seen(shot(page), 0.5, 0.5), mixed, within=2)
    page.keyboard.press("5")
    assert seen(shot(page), 0.5, 0.5) == (255, 255, 255)  # ten times as much is cut at white


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_difference_is_black_where_they_are_equal_and_exact_where_not(opened, scheme):
    page = opened("attack", "difference", scheme=scheme)
    for factor in (1, 10):
        image = shot(page)
        for x, y in ((1, 1), (6, 10), (8, 0), (9, 5), (14, 11)):
            change = [factor * abs(a - b) for a, b in zip(clean(x, y), adversarial(x, y), strict=True)]
            assert is_near(seen(image, (x + 0.5) / WIDTH, (y + 0.5) / HEIGHT), change, within=0)
        told = page.locator(".stage").inner_text()
        assert "absolute difference" in told
        assert "8-bit" in told
        assert page.get_by_role("img", name="Absolute difference of clean and adversarial").count() == 1
        page.keyboard.press("5")


def test_the_pictures_to_compare_are_chosen_by_their_columns_names(opened):
    page = opened("attack", "slider")
    a, b = (page.get_by_role("combobox", name=name, exact=True) for name in "AB")
    assert a.locator("option").all_inner_texts() == ["clean", "adversarial", "difference"]
    assert (a.input_value(), b.input_value()) == ("0", "1")
    b.select_option("difference")
    assert is_near(seen(shot(page), 0.8, 0.2), (128, 128, 128), within=0)
    a.select_option("difference")  # what is on both sides changes places
    assert (a.input_value(), b.input_value()) == ("2", "0")
    assert is_near(seen(shot(page), 0.2, 0.2), (128, 128, 128), within=0)
    page.keyboard.press("Tab")  # the keys of a select are its own; elsewhere they walk
    page.locator("#lightbox-next").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#lightbox-title").inner_text() == "two"
    assert (a.input_value(), b.input_value()) == ("2", "0")


def test_the_view_is_kept_while_walking_and_its_choice_hidden_for_a_single_picture(opened):
    page = opened("mixed")
    assert not page.locator("#views").is_visible()
    assert page.locator(".frame img").count() == 1
    page.keyboard.press("4")  # there is nothing to compare
    assert page.locator(".frame img").count() == 1
    page.keyboard.press("j")
    assert page.get_by_role("radio", name="side by side").is_checked()
    page.keyboard.press("4")
    assert page.locator(".view-difference .frame img").count() == 2
    page.keyboard.press("j")
    assert page.locator(".view-side-by-side .frame img").count() == 1
    page.keyboard.press("k")
    assert page.locator(".view-difference .frame img").count() == 2
    assert page.get_by_role("radio", name="difference", exact=True).is_checked()


def test_arrow_keys_choose_among_the_views_and_walk_elsewhere(opened):
    page = opened("attack")
    page.get_by_role("radio", name="side by side").focus()
    for name in ("slider", "overlay", "difference", "10× difference", "side by side"):
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("radio", name=name, exact=True).is_checked()
        assert page.evaluate("() => document.activeElement.name") == "view"
    assert page.locator("#lightbox-title").inner_text() == "one"
    page.locator("#lightbox-stage").focus()
    for key, title in (("End", "two"), ("Home", "one"), ("ArrowLeft", "two"), ("j", "one"), ("k", "two")):
        page.keyboard.press(key)
        assert page.locator("#lightbox-title").inner_text() == title


def test_the_row_says_its_figures_and_status_and_its_captions_and_nothing_odd(opened):
    page = opened("attack")
    body = page.locator("#lightbox").inner_text()
    for text in ("one", "Rows of attack", "1 / 2", "cat 0.9", "dog 0.6", "fooled", "label\ncat"):
        assert text in body
    for odd in ("undefined", "null", "NaN", "[object"):
        assert odd not in body
    page = opened("mixed")
    page.keyboard.press("End")
    assert page.locator("#lightbox .badge").get_attribute("class") == "badge tone-idle"


def test_lists_show_the_thumbnail_and_the_lightbox_the_picture(opened):
    page = opened("mixed")
    assert page.locator(".opener img").first.get_attribute("src") == "images/thumb.png"
    assert page.locator(".frame img").get_attribute("src") == "images/large.png"
    assert page.locator(".frame img").evaluate("(image) => image.naturalWidth") == 40


def test_help_lists_the_keys_and_lies_over_the_sample(opened):
    page = opened("attack")
    page.keyboard.press("?")
    assert "pixel by pixel" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    assert page.locator("#lightbox").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#lightbox").is_visible()
    assert page.evaluate("() => document.activeElement.matches('.opener')")


def test_nothing_overflows_on_a_phone_and_a_comparison_has_its_width(opened):
    page = opened("attack", width=390, scheme="dark")
    for number, view in enumerate(VIEWS):
        page.keyboard.press(str(number + 1))
        assert max(page.evaluate(OVERFLOW)) <= 0
        if view != "side-by-side":
            assert page.locator(".frame").bounding_box()["width"] >= 350
    page.locator("#lightbox-copy").click()
    assert max(page.evaluate(OVERFLOW)) <= 0


# ---- zoom ----


def test_zoom_shows_square_pixels_in_every_view(opened):
    page = opened("checkers")
    for view, presses in ((0, 0), (0, 1), (0, 3), (1, 2), (2, 2)):
        page.keyboard.press(str(view + 1))
        for _ in range(presses):
            page.keyboard.press("+")
        if view:
            page.locator("#split").fill("100")
        image = shot(page)
        inside = image.crop((10, 10, image.width - 50, image.height // 3))  # without round corners and the handle
        if presses == 0:
            inside = image.crop((10, 10, image.width - 10, image.height - 10))
        colours = {colour for _, colour in inside.getcolors(1 << 16)}
        assert colours <= {RED, BLUE}
        assert len(colours) == 2 or presses > 1
        page.locator("#zoom-fit").click()


def test_the_zoom_has_limits_and_is_told(opened):
    page = opened("solid", "overlay")
    level = page.locator("#zoom-level")
    width = page.locator(".frame").bounding_box()["width"]
    assert level.inner_text() == f"fit, {width / WIDTH:.2g} px per pixel"
    page.keyboard.press("-")
    assert level.inner_text().startswith("fit, ")
    for factor in (2, 4, 8, 16, 32, 32):
        page.locator("#zoom-in").click()
        assert level.inner_text().startswith(f"{factor}×, ")
    page.locator("#zoom-out").click()
    assert level.inner_text().startswith("16×, ")
    page.locator("#zoom-fit").click()
    assert level.inner_text().startswith("fit, ")


def test_zoom_and_pan_move_all_pictures_together_whatever_their_size(opened):
    page = opened("quarters")
    assert [is_near(seen(shot(page, n), 0.25, 0.75), RED) for n in (0, 1)] == [True, True]
    box = page.locator(".frame").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    page.mouse.wheel(0, -480)  # the corner under the pointer stays
    for number in (0, 1):
        image = shot(page, number)
        assert {seen(image, x, y) for x in (0.1, 0.9) for y in (0.1, 0.9)} == {BLUE}
    near, far = box["width"] * 0.02, box["width"] * 0.98
    for start, end, colour in (
        ((near, 40), (far, 40), RED),
        ((far, 40), (near, 40), BLUE),
        ((40, near), (40, far), RED),
    ):
        for _ in range(2):  # each moves by as much as is seen: from the last quarter to the second, and back
            page.mouse.move(box["x"] + start[0], box["y"] + start[1])
            page.mouse.down()
            page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=2)
            page.mouse.up()
        assert [seen(shot(page, number), 0.5, 0.5) for number in (0, 1)] == [colour, colour]
    page.mouse.wheel(0, 4000)
    assert page.locator("#zoom-level").inner_text().startswith("fit, ")


def test_a_zoomed_slider_is_dragged_by_its_handle_and_no_drag_closes(opened):
    page = opened("solid", "slider")
    box = page.locator(".frame").bounding_box()
    page.keyboard.press("+")
    image = shot(page)
    assert is_near(seen(image, 0.35, 0.2), RED)
    assert is_near(seen(image, 0.65, 0.2), BLUE)
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 20, steps=3)
    page.mouse.up()
    assert page.locator("#lightbox").is_visible()
    assert page.locator("#split").input_value() == "50"
    for key in "30":  # the overlay, unzoomed
        page.keyboard.press(key)
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 20, steps=3)
    page.mouse.up()
    assert page.locator("#lightbox").is_visible()
    page.mouse.click(box["x"] - 40, box["y"] + 20)
    assert not page.locator("#lightbox").is_visible()


# ---- numbers ----


def test_the_numbers_are_the_pictures_own_in_every_view(opened):
    page = opened("attack")
    assert "Point at a picture" in page.locator("#lightbox-numbers").inner_text()
    for number in range(len(VIEWS)):
        page.keyboard.press(str(number + 1))
        for x, y in ((0, 0), (7, 3), (15, 11)):
            point(page, x, y)
            assert line(page, f"x {x}, y {y}") == expected(x, y)
    swatches = page.locator(".pixel-swatch")
    colours = swatches.evaluate_all("(all) => all.map((each) => getComputedStyle(each).backgroundColor)")
    assert colours == [f"rgb{clean(15, 11)}", f"rgb{adversarial(15, 11)}"]


def test_the_numbers_follow_the_zoom_and_the_keyboard(opened):
    page = opened("attack", "slider")
    page.locator("#lightbox-stage").focus()
    page.keyboard.press("Shift+ArrowRight")  # begins in the middle
    x, y = WIDTH // 2, HEIGHT // 2
    assert line(page, f"x {x}, y {y}") == expected(x, y)
    for _ in range(3):
        page.keyboard.press("+")
    for key, step in (("ArrowRight", (1, 0)), ("ArrowDown", (0, 1)), ("ArrowLeft", (-1, 0)), ("ArrowUp", (0, -1))):
        for _ in range(3):
            page.keyboard.press(f"Shift+{key}")
            x, y = x + step[0], y + step[1]
            assert line(page, f"x {x}, y {y}") == expected(x, y)
            mark, frame = (page.locator(each).first.bounding_box() for each in (".pixel-mark", ".frame"))
            assert frame["x"] - 1 <= mark["x"]
            assert mark["x"] + mark["width"] <= frame["x"] + frame["width"] + 1
            assert frame["y"] - 1 <= mark["y"]
            assert mark["y"] + mark["height"] <= frame["y"] + frame["height"] + 1
    assert page.locator("#lightbox-title").inner_text() == "one"  # plain arrows walk, these do not
    mark = page.locator(".pixel-mark").bounding_box()
    page.mouse.move(mark["x"] + mark["width"] * 1.5, mark["y"] + mark["height"] / 2)
    assert line(page, f"x {x + 1}, y {y}") == expected(x + 1, y)
    page.locator("#pixel-spoken", has_text=f"x {x + 1}, y {y} · clean").wait_for(state="attached")


def test_the_pixel_is_outlined_in_every_picture_of_the_size(opened):
    page = opened("grey")
    point(page, 5, 2)
    line(page, "x 5, y 2")
    marks = page.locator(".pixel-mark")
    assert [mark.is_visible() for mark in marks.all()] == [True, True, True, False]
    frame, mark = page.locator(".frame").nth(1).bounding_box(), marks.nth(1).bounding_box()
    assert abs(mark["x"] - frame["x"] - frame["width"] * 5 / WIDTH) < 1
    assert abs(mark["y"] - frame["y"] - frame["height"] * 2 / HEIGHT) < 1
    assert abs(mark["width"] - frame["width"] / WIDTH) < 1


def test_grey_pictures_have_one_number_and_those_without_are_left_out(opened):
    page = opened("grey")
    point(page, 5, 2)
    red, green, blue = clean(5, 2)
    change = " ".join(f"{52 - value:+d}".replace("-", "−") for value in (red, green, blue))
    assert line(page, "x 5, y 2") == f"x 5, y 2 · image {red} {green} {blue} · map 52 · difference {change}"
    point(page, 3, 1, number=3, size=(4, 3))
    assert line(page, "x 3, y 1") == "x 3, y 1 · small 27"


def test_where_no_picture_has_numbers_there_is_no_line(opened):
    page = opened("solid")
    point(page, 3, 3)
    page.keyboard.press("Shift+ArrowRight")
    assert not page.locator("#lightbox-numbers").is_visible()
    assert not page.locator(".pixel-mark").first.is_visible()


def test_scripts_of_numbers_are_loaded_when_they_are_wanted(open_page, url):
    page = open_page(f"{url}#attack")
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.locator(".opener").first.click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert not [name for name in asked if name.endswith(".js")]
    point(page, 1, 1)
    line(page, "x 1, y 1")
    point(page, 2, 2)
    line(page, "x 2, y 2")
    assert sorted(name for name in asked if name.endswith(".js")) == ["adversarial.js", "clean.js"]


# ---- touch ----


@pytest.fixture
def touch():
    def touch(page, *places):
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
        kinds = ["touchStart", *["touchMove"] * (len(places) - 1), "touchEnd"]
        for kind, place in zip(kinds, [*places, None], strict=True):
            points = [] if place is None else [{"x": place[0], "y": place[1]}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return touch


def test_a_tap_reads_a_pixel_and_a_swipe_walks(opened, touch):
    page = opened("attack", width=390)
    box = page.locator(".frame").first.bounding_box()
    place = (box["x"] + 4.5 / WIDTH * box["width"], box["y"] + 6.5 / HEIGHT * box["height"])
    touch(page, place)
    assert line(page, "x 4, y 6") == expected(4, 6)
    touch(page, *[(place[0] + 120 - 30 * step, place[1]) for step in range(5)])
    page.locator("#lightbox-title", has_text="two").wait_for()
    page.keyboard.press("2")
    box = page.locator(".frame").bounding_box()
    places = [(box["x"] + share * box["width"], box["y"] + 50) for share in (0.6, 0.5, 0.4, 0.25)]
    touch(page, *places)  # in the slider's view a finger moves the handle
    assert 24 <= float(page.locator("#split").input_value()) <= 26
    touch(page, places[0])
    assert 59 <= float(page.locator("#split").input_value()) <= 61
    assert page.locator("#lightbox-title").inner_text() == "two"
