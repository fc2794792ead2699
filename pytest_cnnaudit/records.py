"""Results to records: what goes on a test report, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit
    from pytest_cnnaudit.results import Bars, Chart, Exhibit, Line, Mark, Measurement, Metric, Picture, Table

Save = Callable[["Picture"], Mapping[str, str | None]]
"""Stores a picture and returns where it is, relative to the report: ``src``, and ``thumb`` and ``numbers`` or None."""


def audit_record(audit: Audit, save: Save) -> dict[str, Any]:
    """What one test measured."""
    from pytest_cnnaudit.model.digest import digest as model_digest
    from pytest_cnnaudit.samples.digest import digest as samples_digest

    samples = audit._samples
    return {
        "model": {
            "name": audit.model.name,
            "module": type(audit.model.module).__name__,
            "digest": model_digest(audit.model.module),
        },
        "samples": None
        if samples is None
        else {"n": len(samples), "source": samples.source, "digest": samples_digest(samples)},
        "device": str(audit.device),
        "measurements": [_measurement(measurement, save) for measurement in audit.measurements],
    }


def _measurement(measurement: Measurement, save: Save) -> dict[str, Any]:
    return {
        "name": measurement.kind,
        "title": measurement.title,
        "settings": dict(measurement.settings),
        "metrics": [_metric(metric) for metric in measurement.metrics if metric.n],
        "notes": list(measurement.notes),
        "complete": measurement.complete,
        "cached": None if measurement.cached is None else asdict(measurement.cached),
        "cost": {"forward": measurement.cost.forward, "backward": measurement.cost.backward},
        "exhibits": [_exhibit(exhibit, save) for exhibit in measurement.exhibits],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    interval = metric.ci95
    return {
        "name": metric.name,
        "value": _number(metric),
        "display": metric.display,
        "unit": metric.unit,
        "n": metric.n,
        "count": metric.count,
        "of": metric.of,
        "ci95": None if interval is None else [_number(end) for end in interval],
        "higher_is_better": metric.higher_is_better,
        "range": None if metric.bounds is None else list(metric.bounds),
        "baseline": metric.baseline,
        "thresholds": [
            {"op": each.op, "value": each.threshold, "holds": each.holds, "on": each.on}
            for each in metric.comparisons
            if math.isfinite(each.threshold)
        ],
        "help": metric.help,
    }


def _exhibit(exhibit: Exhibit | Chart | Table, save: Save) -> dict[str, Any]:
    from pytest_cnnaudit.results import Chart, Table

    if isinstance(exhibit, Chart):
        return _chart(exhibit)
    return _table(exhibit) if isinstance(exhibit, Table) else _pictures(exhibit, save)


def _pictures(exhibit: Exhibit, save: Save) -> dict[str, Any]:
    return {
        "kind": exhibit.kind,
        "title": exhibit.title,
        "text": exhibit.text,
        "columns": list(exhibit.columns),
        "rows": [
            {
                "title": row.title,
                "status": row.status,
                "figures": dict(row.figures),
                "pictures": [_picture(picture, save) for picture in row.pictures],
            }
            for row in exhibit.rows
        ],
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "kind": "chart",
        "title": chart.title,
        "text": chart.text,
        "x": chart.x,
        "y": chart.y,
        "series": [_series(series) for series in chart.series],
        "x_marks": _marks(chart.x_marks),
        "y_marks": _marks(chart.y_marks),
        "log_x": chart.log_x,
        "y_range": None if chart.y_range is None else _numbers(chart.y_range),
    }


def _series(series: Line | Bars) -> dict[str, Any]:
    from pytest_cnnaudit.results import Bars

    if isinstance(series, Bars):
        return {
            "kind": "bars",
            "name": series.name,
            "edges": _numbers(series.edges),
            "counts": _numbers(series.counts),
            "samples": _ids(series.samples),
        }
    return {
        "kind": "line",
        "name": series.name,
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "low": None if series.low is None else _numbers(series.low),
        "high": None if series.high is None else _numbers(series.high),
        "samples": _ids(series.samples),
    }


def _ids(samples: Sequence[Sequence[str]] | None) -> list[list[str]] | None:
    return None if samples is None else [list(ids) for ids in samples]


def _marks(marks: Iterable[Mark]) -> list[dict[str, Any]]:
    return [{"at": _number(mark.at), "label": mark.label} for mark in marks]


def _table(table: Table) -> dict[str, Any]:
    return {
        "kind": "table",
        "title": table.title,
        "text": table.text,
        "columns": list(table.columns),
        "rows": [{"cells": list(row.cells), "status": row.status} for row in table.rows],
    }


def _picture(picture: Picture, save: Save) -> Mapping[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {
        **save(picture),
        "width": width,
        "height": height,
        "caption": picture.caption,
        "alt": picture.alt,
        "pixelated": max(width, height) <= 128 and picture.form != "photo",
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]
