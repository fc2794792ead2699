"""A real report of a small real run, and a browser to open it in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pytest_cnnaudit.gallery import Report

EVIL = "<img src=x onerror=alert(1)>\"'../"
SUITE = f'''
import pytest, torch
from pytest_cnnaudit import AuditModel, Samples
from conftest import TinyNet, quadrant_images

EVIL = {EVIL!r}

@pytest.fixture(scope="session")
def audit_model():
    return AuditModel(TinyNet().eval(), class_names=[EVIL + str(each) for each in range(4)], name=EVIL)

@pytest.fixture(scope="session")
def audit_samples():
    images, labels, boxes = quadrant_images()
    return Samples.from_tensors(images, labels, boxes=boxes, ids=[EVIL + str(each) for each in range(8)])

def test_filters(audit):
    """The filters are smooth."""
    audit.assert_filters_smooth()

def test_saliency(audit):
    audit.assert_saliency_localized(min_score=0.5)

@pytest.mark.parametrize("name", [EVIL, "100%", "a#b::c?d&e", "ü ß"])
def test_attack(audit, name):
    assert audit.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.75

def test_error(audit):
    audit.filters("<script>alert(1)</script>")

@pytest.mark.skip(reason=EVIL)
def test_skipped(audit):
    pass

@pytest.mark.xfail(reason="known")
def test_known(audit):
    assert audit.filters().roughness > 1
'''


@pytest.fixture(scope="session")
def evil():
    return EVIL


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    tiny = Path(__file__).parents[1] / "audits" / "tiny_suite.py"
    (folder / "conftest.py").write_text(tiny.read_text())
    (folder / "test_audit.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "--cnnaudit", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stdout
    return folder / "cnnaudit-report"


def _gave_up(request):
    """A picture that was still loading when the page went on to another address; a missing one fails otherwise."""
    return request.failure == "net::ERR_ABORTED"


@pytest.fixture
def open_page(browser):
    """Opens pages; at the end none of them has said anything on the console, failed a request or opened a dialog."""
    contexts, heard = [], []

    def open_page(url, *, width=1440, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on(
            "requestfailed",
            lambda request: _gave_up(request) or heard.append(f"failed: {request.url} ({request.failure})"),
        )
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or heard.append(f"network: {request.url}"),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


@pytest.fixture
def open_exhibits(open_page, tmp_path):
    """A report of one test whose measurement has these exhibits, opened at that test."""

    def open_exhibits(*exhibits, **view):
        run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "", "versions": {}}
        report = Report(tmp_path / "report", run)
        Image.new("RGB", (32, 32), "teal").save(tmp_path / "report" / "images" / "a.png")
        found = {"name": "x", "title": "Attack", "settings": {}, "metrics": [], "notes": [], "cost": {}}
        about = {"outcome": "passed", "message": "", "doc": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": "test_a.py::test_one", **about, "measurements": [{**found, "exhibits": list(exhibits)}]})
        report.finish("finished", 0)
        return open_page(f"{(tmp_path / 'report' / 'index.html').as_uri()}#test_a.py::test_one", **view)

    return open_exhibits


@pytest.fixture
def broken_images():
    """Whether a page has pictures at all, and which of them are broken, those out of sight included."""
    look = """async () => {
        const images = [...document.images];
        for (const image of images) {
            image.loading = 'eager';
            if (!image.complete) await new Promise((done) => { image.onload = image.onerror = done; });
        }
        return [images.length > 0, images.filter((image) => !image.naturalWidth).map((image) => image.src)];
    }"""
    return lambda page: page.evaluate(look)
