"""Results as plain JSON values."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from pytest_cnnaudit.records import audit_record
from pytest_cnnaudit.results import Bars, Chart, Exhibit, Line, Mark, Measurement, Picture, Row, Table, TableRow


def recorded(*exhibits):
    """What a report holds of them, through strict JSON and back."""
    found = Measurement(kind="x", title="X", settings={}, per_sample={}, exhibits=exhibits)
    model = SimpleNamespace(name="net", module=nn.Identity())
    audit = SimpleNamespace(_samples=None, model=model, device="cpu", measurements=[found])
    record = audit_record(audit, lambda _: {"src": "images/a.png", "thumb": None, "numbers": None})
    return json.loads(json.dumps(record, allow_nan=False))["measurements"][0]["exhibits"]


def test_a_chart_is_recorded_in_plain_numbers():
    curve = Line("v1", np.array([0, 4, 8], np.float32), [1, 0.5, 0], np.array([0.9, 0.4, 0.0]), (1, 0.6, 0.1))
    marks = {"x_marks": (Mark(np.float64(4), "asserted"),), "y_marks": (Mark(0.35, "required"),)}
    (chart,) = recorded(
        Chart("Title", "Read it so.", "eps (1/255)", "robust accuracy", (curve,), **marks, y_range=(0, 1))
    )
    assert chart == {
        "kind": "chart",
        "title": "Title",
        "text": "Read it so.",
        "x": "eps (1/255)",
        "y": "robust accuracy",
        "series": [
            {
                "kind": "line",
                "name": "v1",
                "x": [0, 4, 8],
                "y": [1, 0.5, 0],
                "low": [0.9, 0.4, 0],
                "high": [1, 0.6, 0.1],
                "samples": None,
            }
        ],
        "x_marks": [{"at": 4, "label": "asserted"}],
        "y_marks": [{"at": 0.35, "label": "required"}],
        "log_x": False,
        "y_range": [0, 1],
    }


def test_a_histogram_is_recorded_with_its_edges():
    counts, edges = np.histogram([0.1, 0.2, 0.9], bins=2, range=(0, 1))
    (chart,) = recorded(Chart("t", "", "size", "samples", (Bars("all", edges, counts),), log_x=True))
    assert chart["series"] == [{"kind": "bars", "name": "all", "edges": [0, 0.5, 1], "counts": [2, 1], "samples": None}]
    assert chart["log_x"] is True
    assert chart["y_range"] is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_what_is_not_finite_is_null(odd):
    line = Line("", [0, odd], [odd, 1], [odd, 0], [1, odd])
    (chart,) = recorded(Chart("t", "", "x", "y", (line, Bars("", [0, odd], [odd])), x_marks=(Mark(odd, "m"),)))
    found, bars = chart["series"]
    assert (found["x"], found["y"], found["low"], found["high"]) == ([0, None], [None, 1], [None, 0], [1, None])
    assert (bars["edges"], bars["counts"]) == ([0, None], [None])
    assert chart["x_marks"] == [{"at": None, "label": "m"}]


def test_a_line_without_a_band_has_none():
    (chart,) = recorded(Chart("t", "", "x", "y", (Line("", [0], [1]),)))
    assert chart["series"][0]["low"] is chart["series"][0]["high"] is None


def test_a_table_is_recorded_row_by_row():
    rows = (TableRow(("Gradients are not zero", "3.1%"), "passed"), TableRow(("More steps", "0.26")))
    (table,) = recorded(Table("Is it real?", "Each check.", ("check", "figure"), rows))
    assert table == {
        "kind": "table",
        "title": "Is it real?",
        "text": "Each check.",
        "columns": ["check", "figure"],
        "rows": [
            {"cells": ["Gradients are not zero", "3.1%"], "status": "passed"},
            {"cells": ["More steps", "0.26"], "status": ""},
        ],
    }


def test_exhibits_of_all_kinds_keep_their_order():
    pictures = Exhibit("Pictures", "", (Row("row", (Picture(np.zeros((2, 3, 3), np.uint8)),)),), kind="grid")
    chart = Chart("Chart", "", "x", "y", ())
    table = Table("Table", "", ("a",), ())
    found = recorded(table, pictures, chart, pictures)
    assert [each["kind"] for each in found] == ["table", "grid", "chart", "grid"]
    assert found[1]["rows"][0]["pictures"][0]["src"] == "images/a.png"
