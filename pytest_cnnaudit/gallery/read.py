"""Reads a report folder, checks it, and saves what a killed run left of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from pytest_cnnaudit.gallery.report import PICTURED, SCHEMA, ReportFolderError, check_folder, take_in

_NUMBER = (int, float)
_TEXTS = {str: str}
_METRIC = {
    "name": str,
    "value": (*_NUMBER, None),
    "display": str,
    "unit": str,
    "ci95": ([(*_NUMBER, None), (*_NUMBER, None)], None),
    "higher_is_better": (bool, None),
    "thresholds": [{"op": str, "value": _NUMBER, "holds": bool, "on": str}],
}
_MEASUREMENT = {
    "name": str,
    "settings": _TEXTS,
    "notes": [str],
    "metrics": [_METRIC],
    "exhibits": [{"kind": str, "title": str}],
}
_TEST = {
    "id": str,
    "outcome": str,
    "message": str,
    "duration": _NUMBER,
    "model": (dict, None),
    "samples": (dict, None),
    "measurements": [_MEASUREMENT],
}
_RUN = {
    "status": str,
    "notes": [str],
    "started": str,
    "duration": _NUMBER,
    "seed": (int, None),
    "device": str,
    "command": str,
    "versions": _TEXTS,
    "exit_status": (int, None),
}
_PICTURES = {"columns": [str], "rows": [{"title": str, "status": str, "figures": _TEXTS, "pictures": [{"src": str}]}]}


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as it lies in its folder; `run` and `tests` are as the README has them."""

    folder: Path
    run: dict[str, Any]
    tests: list[dict[str, Any]]


def read_report(folder: Path) -> StoredReport:
    """Read a report, of a killed run too: then from ``records.jsonl``, and a note says so.

    Raises:
        ReportFolderError: there is no report, it is of a newer version, or it is broken.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ReportFolderError(f"{folder} {what}: give the folder that pytest --cnnaudit wrote, cnnaudit-report.")
    path = folder / "report.json"
    try:
        report = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _recovered(folder, f"{path} is missing")
    except (ValueError, RecursionError) as error:
        return _recovered(folder, f"{path} is not whole ({error})")
    _check_origin(path, report)
    _check(path, report, {"run": _RUN, "tests": [_TEST]})
    run, tests = report["run"], report["tests"]
    if run["status"] == "running":  # records are on disk sooner than the report that gathers them
        records, notes = _records(folder / "records.jsonl")
        if len(records) > len(tests):
            tests, run = records, {**run, "notes": [*run["notes"], *notes]}
    return StoredReport(folder, run, tests)


def check_out(out: Path, reports: Sequence[StoredReport]) -> None:
    """Raise a `ReportFolderError` where a new report in `out` would overwrite one that it is made of, or anything else.

    Raises:
        ReportFolderError: as said.
    """
    for report in reports:
        if out.exists() and out.samefile(report.folder):
            raise ReportFolderError(f"{out} is one of the reports that are read: give -o another folder.")
    try:
        check_folder(out)
    except ReportFolderError as error:
        raise ReportFolderError(f"{error}: give -o a new folder.") from None


def short_names(folders: Sequence[Path]) -> list[str]:
    """The ends of the paths, as long as it takes to tell them apart: shards often call their report the same.

    >>> short_names([Path("/ci/1/cnnaudit-report"), Path("/ci/2/cnnaudit-report")])
    ['1/cnnaudit-report', '2/cnnaudit-report']
    """
    paths = [folder.absolute() for folder in folders]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


# What a killed run left -------------------------------------------------------------------------------------------


def _recovered(folder: Path, trouble: str) -> StoredReport:
    path = folder / "records.jsonl"
    tests, notes = _records(path)
    if not tests and "missing" in trouble and not path.exists():
        raise ReportFolderError(f"{folder} holds no report: {trouble}, and so is records.jsonl.")
    if not tests:
        raise ReportFolderError(f"{trouble}, and records.jsonl holds no test instead: run the audits again.")
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    run = {
        "status": "interrupted",
        "notes": [f"{trouble}: what is here comes from records.jsonl, and when the run started is not known.", *notes],
        "started": written,
        "duration": round(sum(test["duration"] for test in tests), 3),
        "seed": None,
        "device": ", ".join(sorted({test["device"] for test in tests if isinstance(test.get("device"), str)})),
        "command": "",
        "versions": {},
        "exit_status": None,
    }
    return StoredReport(folder, run, tests)


def _records(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The tests of a ``records.jsonl``, and what there is to note."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], []
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = _parsed(line.decode())
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return list(found.values()), ["The last line of records.jsonl was cut off, and is left out."]
            raise ReportFolderError(f"{path} is broken in line {number} ({error}): run the audits again.") from None
        if isinstance(record, dict):
            before = found.get(str(record.get("id")), {"model": None, "samples": None, "measurements": []})
            record = {**before, **record}
        _check(path, record, _TEST, f"line {number}: ")
        take_in(found, record)
    return list(found.values()), []


# What a report must be like ---------------------------------------------------------------------------------------


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=_not_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _check_origin(path: Path, report: Any) -> None:
    generator = report.get("generator") if isinstance(report, dict) else None
    if not str(generator).startswith("pytest-cnnaudit") or not isinstance(report.get("schema"), int):
        raise ReportFolderError(f"{path} is not a report of pytest-cnnaudit: give the folder that it wrote.")
    if report["schema"] > SCHEMA:
        raise ReportFolderError(
            f"{path} has schema {report['schema']}, and this version reads up to {SCHEMA}: update pytest-cnnaudit."
        )


def _check(path: Path, value: Any, shape: Any, where: str = "") -> None:
    misfit = _misfit(value, shape)
    if misfit is None:
        tests = value.get("tests", [value])
        exhibits = (each for test in tests for one in test["measurements"] for each in one["exhibits"])
        pictured = (_misfit(each, _PICTURES) for each in exhibits if each["kind"] in PICTURED)
        misfit = next(filter(None, pictured), None)
    if misfit is not None:
        raise ReportFolderError(f"{path} is broken: {where}{misfit}: run the audits again.")


def _misfit(value: Any, shape: Any, name: str = "") -> str | None:
    """Where and how a value of JSON departs from a shape; None where it fits.

    A shape is a type, None, a tuple of alternatives, a list of one shape for any number of items or of several for as
    many, or a dict of the keys that there must be (of the key `str`: any).
    """
    if isinstance(shape, tuple):
        misfits = [_misfit(value, each, name) for each in shape]
        return None if None in misfits else misfits[0]
    if isinstance(shape, dict) and isinstance(value, dict):
        shape = dict.fromkeys(value, shape[str]) if str in shape else shape
        if lacking := [key for key in shape if key not in value]:
            return f"{name or 'it'} has no {lacking[0]!r}"
        inside = (_misfit(value[key], each, f"{name}.{key}".lstrip(".")) for key, each in shape.items())
        return next(filter(None, inside), None)
    if isinstance(shape, list) and isinstance(value, list) and len(shape) in (1, len(value)):
        shapes = shape * len(value) if len(shape) == 1 else shape
        inside = (_misfit(value[at], each, f"{name}[{at}]") for at, each in enumerate(shapes))
        return next(filter(None, inside), None)
    fits = value is None if shape is None else isinstance(shape, type) and isinstance(value, shape)
    if fits and (shape is bool or not isinstance(value, bool)):  # to Python, True is an int
        return None
    shown = repr(value)
    return f"{name or 'it'} is {shown if len(shown) < 40 else f'{shown[:40]}…'}"
