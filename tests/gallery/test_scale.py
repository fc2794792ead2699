"""A metric's numbers and its scale on the page: open intervals, near misses and the change since a baseline."""

import math

import pytest

from pytest_cnnaudit.gallery import Report
from pytest_cnnaudit.records import _metric
from pytest_cnnaudit.results import Metric

NOT_NUMBERS = r"""() => [...document.querySelectorAll('.scale *')].flatMap((node) => [...node.attributes]
    .filter(({ value }) => /NaN|Infinity|undefined|null/.test(value)).map(({ name, value }) => `${name}=${value}`))"""
BAND = """(card) => { const { x, width } = card.querySelector('.interval-band').attributes;
    return [parseFloat(x.value), parseFloat(width.value)]; }"""
PLACES = """(card) => ['dot', 'threshold', 'baseline-mark'].map((name) => {
    const box = card.querySelector(`.${name}`)?.getBoundingClientRect();
    return box && box.left + box.width / 2;
})"""


@pytest.fixture
def open_metrics(open_page, tmp_path):
    """The cards of metrics, and the baselines of some, on a test's page."""

    def open_metrics(*metrics, baselines=(), **view):
        records = [_metric(metric) for metric in metrics]
        for each, baseline in zip(records, baselines, strict=False):
            each["baseline"] = baseline
        run = {"started": "2026-01-01T00:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
        report = Report(tmp_path / "report", run)
        measured = {"name": "x", "title": "X", "settings": {}, "metrics": records, "notes": [], "exhibits": []}
        about = {"outcome": "passed", "message": "", "doc": "", "duration": 1.0, "model": None, "samples": None}
        report.add({"id": "test_a.py::test_one", **about, "measurements": [{**measured, "cost": {}}]})
        report.finish("finished", 0)
        page = open_page(f"{(tmp_path / 'report' / 'index.html').as_uri()}#test_a.py::test_one", **view)
        page.locator(".metric-card").first.wait_for()
        assert page.evaluate(NOT_NUMBERS) == []
        return page.locator(".metric-card").all()

    return open_metrics


def judged(metric, op, threshold):
    metric._compare(op, threshold)
    return metric


def test_an_open_interval_goes_to_the_end_of_the_picture(open_metrics):
    cases = [
        (0.3, (0.1, 0.4), "(0.10–0.40)", True),
        (0.3, (0.25, 0.4), "(0.25–0.40)", False),
        (0.3, (0, math.inf), "(0.00–∞)", True),
        (0.3, (0.25, math.inf), "(0.25–∞)", False),
        (0.3, (-math.inf, 0.4), "(−∞–0.40)", True),
        (0.1, (-math.inf, math.inf), "(−∞–∞)", True),
        (math.inf, (0.1, math.inf), "(0.1–∞)", True),
    ]
    cards = open_metrics(
        *(
            judged(Metric(value, name="median", n=3, ci95=ci95, higher_is_better=True), ">=", 0.2)
            for value, ci95, *_ in cases
        )
    )
    for card, (_, ci95, shown, close) in zip(cards, cases, strict=True):
        assert card.locator(".interval").inner_text() == shown
        assert (card.locator(".close-call").count() == 1) == close
        start, width = card.evaluate(BAND)
        assert 0 <= start < start + width <= 100 + 1e-6
        if ci95[1] == math.inf:
            assert start + width == pytest.approx(100)


def accuracy(value, ci95=None, *, better=True):
    return Metric(value, name="robust accuracy", n=512, ci95=ci95, bounds=(0, 1), higher_is_better=better)


# Near misses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1440, 390])
def test_a_near_miss_can_be_seen(open_metrics, width):
    cards = open_metrics(
        judged(accuracy(0.985), ">=", 0.99), judged(accuracy(0.004), ">=", 0.01), accuracy(0.98), width=width
    )
    ends = [card.locator(".end").all_inner_texts() for card in cards]
    assert ends == [["0.975", "1"], ["0", "0.022"], ["0", "1"]]  # of the last nothing was asked
    for card in cards[:2]:
        dot, threshold, _ = card.evaluate(PLACES)
        assert threshold - dot > 20  # pixels: more than the dot covers
        assert "short by" in card.inner_text()


def test_a_threshold_under_the_dot_still_sticks_out(open_metrics):
    [card] = open_metrics(judged(accuracy(0.3496, (0.31, 0.39)), ">=", 0.35))
    dot, line = (card.locator(f".{name}").bounding_box() for name in ("dot", "threshold"))
    assert line["y"] < dot["y"] - 2
    assert line["y"] + line["height"] > dot["y"] + dot["height"] + 2
    assert "short by 0.0004" in card.inner_text()
    assert card.locator(".close-call").count() == 1


def test_an_end_of_the_interval_is_judged_as_such(open_metrics):
    missed, held = accuracy(0.31, (0.27, 0.35)), accuracy(0.31, (0.27, 0.35))
    missed.ci95[0]._compare(">=", 0.3)
    held.ci95[0]._compare(">=", 0.25)
    cards = open_metrics(missed, held)
    assert [card.locator(".threshold-verdict b").inner_text() for card in cards] == [
        "lower end ≥ 0.3",
        "lower end ≥ 0.25",
    ]
    assert [card.locator(".miss").all_inner_texts() for card in cards] == [["short by 0.03"], []]
    assert [card.locator(".close-call").count() for card in cards] == [0, 0]  # chance has been allowed for


# The change since the baseline ------------------------------------------------------------------------------------


def test_the_change_since_the_baseline_is_told_and_drawn(open_metrics):
    cases = [
        (True, 0.40, (0.36, 0.44), "+0.20 since main · better", "good"),
        (False, 0.40, (0.36, 0.44), "+0.20 since main · worse", "bad"),
        (None, 0.40, (0.36, 0.44), "+0.20 since main · changed", "idle"),
        (True, 0.80, (0.76, 0.84), "−0.20 since main · worse", "bad"),
        (True, 0.60, (0.56, 0.64), "±0 since main · no change", "idle"),
        (True, 0.57, (0.53, 0.61), "+0.03 since main · within the interval", "idle"),
        (True, 0.53, (0.49, 0.57), "+0.07 since main · better", "good"),  # 0.07 > √(0.04² + 0.04²) = 0.057
        (True, 0.55, (0.51, 0.59), "+0.05 since main · within the interval", "idle"),
        (True, 0.55, None, "+0.05 since main · better", "good"),
        (True, 0.57, None, "+0.03 since main · within the interval", "idle"),
        (True, 0.53, (0.49, None), "+0.07 since main · within the interval", "idle"),  # its facing end is open
        (True, 0.53, (None, 0.57), "+0.07 since main · better", "good"),
        (True, 0.5999, None, "+0.0001 since main · within the interval", "idle"),
    ]
    metrics = [accuracy(0.6, (0.56, 0.64), better=better) for better, *_ in cases]
    baselines = [{"value": value, "display": f"{value}", "ci95": ci95, "of": "main"} for _, value, ci95, *_ in cases]
    for card, (_, before, ci95, told, tone) in zip(open_metrics(*metrics, baselines=baselines), cases, strict=True):
        change = card.locator(".change")
        assert change.inner_text() == told
        assert f"tone-{tone}" in change.get_attribute("class")
        dot, _, ring = card.evaluate(PLACES)
        assert (dot > ring, dot < ring) == (before < 0.6, before > 0.6)
        assert card.locator(".baseline-mark").evaluate("ring => getComputedStyle(ring).fill") == "none"
        assert card.locator(".baseline-interval").count() == (ci95 is not None)


def test_without_a_number_or_an_interval(open_metrics):
    metrics = [accuracy(0.6), accuracy(math.nan), accuracy(0.5)]
    baselines = [{"value": value, "display": "?", "ci95": None, "of": "main"} for value in (0.5, 0.5, None)]
    cards = open_metrics(*metrics, baselines=baselines)
    told = [card.locator(".change").all_inner_texts() for card in cards]
    assert told == [["+0.10 since main · better"], [], []]
    assert [card.locator(".baseline-mark").count() for card in cards] == [1, 0, 0]
