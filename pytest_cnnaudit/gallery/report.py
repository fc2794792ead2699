"""The report folder: written as tests finish, so that it is whole whenever the run ends."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_cnnaudit.gallery.images import write_atomically

SCHEMA = 1
_STATIC = Path(__file__).parent / "static"
_OURS = ("index.html", "report.json", "records.jsonl", "images", "assets", "data")
_WITHOUT_APPEAL = ("failed", "error", "crashed")
_WRITING = 0.05  # the share of the run's time that rewriting the report may take,
_ALLOWANCE = 1.0  # and the seconds that it may take besides, so that a small report is never behind


class ReportFolderError(Exception):
    """The folder holds something else than a report."""


def check_folder(folder: Path) -> None:
    """Raise a `ReportFolderError` where a report would overwrite anything but an earlier report."""
    if folder.is_dir() and (not any(folder.iterdir()) or _is_report(folder)):
        return
    if folder.exists():
        raise ReportFolderError(f"{folder} holds something else than a report of this plugin")


def _is_report(folder: Path) -> bool:
    try:
        return str(json.loads((folder / "report.json").read_text())["generator"]).startswith("pytest-cnnaudit")
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Report:
    """One run's report.

    A record is one finished test (the README lists the fields of `report.json`). Each is appended to
    `records.jsonl` at once. `report.json` and the page's copy of it are rewritten then too, unless rewriting has taken
    more than a second and a twentieth of the run's time so far: then with a later record, and at the end.

    Args:
        folder: made if it is not there; an earlier report in it is replaced.
        run: facts about the run.

    Raises:
        ReportFolderError: see `check_folder`.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = folder
        self.run: dict[str, Any] = {"status": "running", "notes": [], "exit_status": None, **run}
        self._records: dict[str, dict[str, Any]] = {}
        self._began = time.monotonic()
        self._spent = 0.0
        self._prepare()
        self._write()

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is known of each test, in the order they finished."""
        return list(self._records.values())

    def add(self, record: dict[str, Any]) -> None:
        """Take in what a test has to say; a later word on the same test adds to the earlier."""
        with (self.folder / "records.jsonl").open("a", encoding="utf-8") as file:
            file.write(_json(record) + "\n")
        before = self._records.get(record["id"], {})
        if before.get("outcome") in _WITHOUT_APPEAL and record["outcome"] == "passed":  # a subtest has failed already
            record = {**record, "outcome": before["outcome"], "message": before["message"]}
        self._records[record["id"]] = {**before, **record}
        if self._spent <= _ALLOWANCE + _WRITING * (time.monotonic() - self._began):
            self._write()

    def note(self, text: str) -> None:
        """Something that a reader of the report must know about the run."""
        if text not in self.run["notes"]:
            self.run["notes"].append(text)

    def finish(self, status: str, exit_status: int) -> None:
        """The run is over: ``finished`` or ``interrupted``."""
        self.run.update(status=status, exit_status=exit_status)
        self._write()

    def _prepare(self) -> None:
        check_folder(self.folder)
        for entry in (self.folder / name for name in _OURS):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        (self.folder / "images").mkdir(parents=True)
        (self.folder / "records.jsonl").touch()
        for source in _STATIC.iterdir():
            target = self.folder / source.name if source.name == "index.html" else self.folder / "assets" / source.name
            write_atomically(target, source.read_bytes())

    def _write(self) -> None:
        began = time.monotonic()
        self.run["duration"] = round(began - self._began, 3)
        report = {
            "schema": SCHEMA,
            "generator": f"pytest-cnnaudit {self.run.get('versions', {}).get('pytest-cnnaudit', '')}".strip(),
            "run": self.run,
            "tests": self.records,
        }
        text = _json(report)
        write_atomically(self.folder / "report.json", text.encode())
        write_atomically(self.folder / "data" / "report.js", f"window.CNNAUDIT_REPORT = {text};\n".encode())
        self._spent += time.monotonic() - began


def _json(value: object) -> str:
    """Strict JSON in ASCII: it is a JavaScript literal too, with no separators that only JSON allows."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
