"""A metric's numbers and its scale on the page, where its interval has no end."""

import math

import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.records import _metric
from pytest_cnnaudit.results import Metric, require

NOT_NUMBERS = r"""() => [...document.querySelectorAll('.scale *')].flatMap((node) => [...node.attributes]
    .filter(({ value }) => /NaN|Infinity|undefined|null/.test(value)).map(({ name, value }) => `${name}=${value}`))"""
BAND = """() => { const { x, width } = document.querySelector('.interval-band').attributes;
    return [parseFloat(x.value), parseFloat(width.value)]; }"""


@pytest.fixture
def open_metric(open_page, tmp_path):
    """The page of a test that found one metric, held against 0.2."""

    def open_metric(value, ci95):
        metric = Metric(value, name="median perturbation", n=3, ci95=ci95, higher_is_better=True)
        require(metric, ">=" if value >= 0.2 else "<", 0.2)
        run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
        report = Report(tmp_path / "report", run)
        measured = {
            "name": "x", "title": "X", "settings": {}, "metrics": [_metric(metric)], "notes": [], "exhibits": [],
            "cost": {"forward": 0, "backward": 0},
        }  # fmt: skip
        about = {"outcome": "passed", "message": "", "doc": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": "test_a.py::test_one", **about, "measurements": [measured]})
        report.finish("finished", 0)
        page = open_page(f"{(tmp_path / 'report' / 'index.html').as_uri()}#test_a.py::test_one")
        page.locator(".metric-card").wait_for()
        return page

    return open_metric


@pytest.mark.parametrize(
    ("value", "ci95", "shown", "close"),
    [
        (0.3, (0.1, 0.4), "(0.10–0.40)", True),
        (0.3, (0.25, 0.4), "(0.25–0.40)", False),
        (0.3, (0, math.inf), "(0.00–∞)", True),
        (0.3, (0.25, math.inf), "(0.25–∞)", False),
        (0.3, (-math.inf, 0.4), "(−∞–0.40)", True),
        (0.1, (-math.inf, math.inf), "(−∞–∞)", True),
        (math.inf, (0.1, math.inf), "(0.1–∞)", True),
    ],
)
def test_an_open_interval_goes_to_the_end_of_the_picture(open_metric, value, ci95, shown, close):
    page = open_metric(value, ci95)
    assert page.locator(".metric-card .interval").inner_text() == shown
    assert (page.locator(".metric-card .close-call").count() == 1) == close
    assert page.evaluate(NOT_NUMBERS) == []
    start, width = page.evaluate(BAND)
    assert 0 <= start < start + width <= 100 + 1e-6
    if ci95[1] == math.inf:
        assert start + width == pytest.approx(100)
