"""The screenshots of the README, made from a real run on the shapes of the example suite.

    CNNAUDIT_SCREENSHOTS=1 pytest tests/gallery/test_screenshots.py

writes them to tests/gallery/screenshots, to be looked at and committed; otherwise they are made and thrown away.
"""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "screenshots"
CONFTEST = """
import pytest, torch
from shapes_data import CLASSES, draw_many
from shapes_network import MEAN, STD, ShapeNet, load
from pytest_cnnaudit import AuditModel, Samples

@pytest.fixture(scope="session", params=["v1", "v2-noisy"])
def audit_model(request):
    network = load("honest")
    if request.param == "v2-noisy":
        weight = network.conv1.weight
        with torch.no_grad():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * weight.std()
    return AuditModel(network, mean=MEAN, std=STD, class_names=CLASSES, name=request.param)

@pytest.fixture(scope="session")
def audit_samples():
    shapes = draw_many(120, seed=1)
    images = torch.stack([torch.from_numpy(shape.image) for shape in shapes]).permute(0, 3, 1, 2)
    return Samples.from_tensors(
        images, [shape.label for shape in shapes], boxes=[shape.box for shape in shapes], class_names=CLASSES
    )
"""
AUDITS = '''
def test_first_layer_filters_are_smooth(audit):
    """The filters of the first layer are edges and blobs, not noise."""
    audit.assert_filters_smooth(max_roughness=0.4)

def test_looks_at_the_object(audit):
    """The brightest spot of Grad-CAM lies on the object."""
    audit.assert_saliency_localized(method="grad_cam", metric="pointing_game", min_score=0.9)

def test_holds_under_attack(audit):
    """An L-infinity perturbation of 8/255 fools less than half."""
    assert audit.attack(norm="linf", eps=8 / 255, attack="pgd", steps=10).robust_accuracy >= 0.5

def test_needs_a_visible_perturbation(audit):
    """Half of the images take an L2 perturbation of 1.1 to fool."""
    assert audit.min_perturbation(norm="l2", steps=20).median >= 1.1
'''


@pytest.fixture(scope="module")
def shapes_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    shapes = ROOT / "example_suites" / "shapes"
    for name in ("shapes_data.py", "shapes_network.py"):
        shutil.copy(shapes / name, folder)
    shutil.copytree(shapes / "weights", folder / "weights")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_release.py").write_text(AUDITS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--cnnaudit", "-q", "-p", "no:cacheprovider"],
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout
    return folder / "cnnaudit-report"


def overview(page):
    return page.screenshot()


def histogram(page):
    """A bar is chosen, and its samples stand beside it."""
    chart = page.locator(".measurement .exhibit-chart").first
    chart.locator(".chart-point").nth(5).focus()
    page.keyboard.press("Enter")
    chart.evaluate("chart => scrollTo(0, chart.getBoundingClientRect().top + scrollY - 16)")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.exhibit img')].slice(0, 20).every((each) => each.complete)"
    )
    return page.screenshot()


def rows(page):
    exhibit = page.locator(".exhibit-rows").first
    exhibit.evaluate("exhibit => scrollTo(0, exhibit.getBoundingClientRect().top + scrollY - 16)")
    page.wait_for_timeout(300)
    return page.screenshot()


def slider(page):
    page.locator(".exhibit-rows .opener").first.click()
    page.keyboard.press("2")
    assert page.locator("#lightbox").get_by_text("A to the left of the handle").is_visible()
    return page.screenshot()


SHOTS = {
    "overview.png": ("", 1280, "light", overview),
    "histogram.png": ("#test_release.py::test_needs_a_visible_perturbation[v2-noisy]", 1280, "dark", histogram),
    "slider.png": ("#test_release.py::test_holds_under_attack[v2-noisy]", 1280, "light", slider),
    "phone.png": ("#test_release.py::test_looks_at_the_object[v1]", 390, "light", rows),
}


@pytest.mark.parametrize("name", SHOTS)
def test_a_screenshot_of_the_readme_shows_the_report(open_page, shapes_report, name):
    address, width, scheme, take = SHOTS[name]
    page = open_page((shapes_report / "index.html").as_uri() + address, width=width, scheme=scheme)
    page.wait_for_load_state("load")
    taken = take(page)
    with Image.open(io.BytesIO(taken)) as image:
        assert image.width == width
        assert len(np.unique(np.asarray(image.convert("L")))) > 100  # pictures, not a blank page
    if os.environ.get("CNNAUDIT_SCREENSHOTS"):
        KEPT.mkdir(exist_ok=True)
        smaller = Image.open(io.BytesIO(taken)).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
        smaller.save(KEPT / name, optimize=True)


def test_the_readme_shows_these_screenshots_and_no_others():
    shown = re.findall(r"tests/gallery/screenshots/([\w.-]+)", (ROOT / "README.md").read_text())
    assert set(shown) == set(SHOTS) == {path.name for path in KEPT.iterdir()}
