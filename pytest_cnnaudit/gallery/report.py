"""The report folder: written as tests finish, so that it is whole whenever the run ends."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.gallery import last
from pytest_cnnaudit.gallery.markdown import write_pull_request_report
from pytest_cnnaudit.gallery.story import story

SCHEMA = 1
_STATIC = Path(__file__).parent / "static"
_OLD = ("report.md", "images", "data/pixels", "repro")
PICTURED = ("rows", "grid", "samples")
"""The kinds of exhibits that hold pictures."""
_WITHOUT_APPEAL = ("failed", "error", "crashed")
_WRITING = 0.05  # the share of the run's time that rewriting the report may take,
_ALLOWANCE = 1.0  # and the seconds that it may take besides, so that a small report is never behind


class ReportFolderError(Exception):
    """The folder holds something else than a report, or one that cannot serve: one sentence says why."""


def check_folder(folder: Path) -> None:
    """Raise a `ReportFolderError` where a report would overwrite anything but an earlier report."""
    _checked(folder)


def _checked(folder: Path) -> str:
    """What wrote the report that is there; empty where none is."""
    if not folder.exists() or (folder.is_dir() and all(entry.suffix == ".tmp" for entry in folder.iterdir())):
        return ""
    generator = _generator_of(folder)
    if not generator.startswith("pytest-cnnaudit"):
        raise ReportFolderError(f"{folder} holds something else than a report of this plugin")
    return generator


def _generator_of(folder: Path) -> str:
    """What wrote the report in a folder; empty where there is none."""
    try:
        return str(json.loads((folder / "report.json").read_text())["generator"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _generator(run: Mapping[str, Any]) -> str:
    return f"pytest-cnnaudit {run.get('versions', {}).get('pytest-cnnaudit', '')}".strip()


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
        self.run: dict[str, Any] = {"status": "running", "notes": [], "exit_status": None, "duration": 0.0, **run}
        self._records: dict[str, dict[str, Any]] = {}
        self._began = time.monotonic()
        self._spent = 0.0
        _prepare(folder, self.run)
        self._write()

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is known of each test, in the order they finished."""
        return list(self._records.values())

    def add(self, record: dict[str, Any]) -> None:
        """Take in what a test has to say; a later word on the same test adds to the earlier."""
        with (self.folder / "records.jsonl").open("a", encoding="utf-8") as file:
            file.write(_json(record) + "\n")
        take_in(self._records, record)
        if self._spent <= _ALLOWANCE + _WRITING * (time.monotonic() - self._began):
            self._write()

    def note(self, text: str) -> None:
        """Something that a reader of the report must know about the run."""
        if text not in self.run["notes"]:
            self.run["notes"].append(text)

    def amend(self, amended: Callable[[dict[str, Any], list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace the records by what is made of the facts of the run and of them; `records.jsonl` stays as it is."""
        self._records = {record["id"]: record for record in amended(self.run, self.records)}

    def finish(self, status: str, exit_status: int) -> None:
        """The run is over: ``finished`` or ``interrupted``."""
        self.run.update(status=status, exit_status=exit_status)
        self._write()
        last.clear(self.folder)

    def _write(self) -> None:
        began = time.monotonic()
        self.run["duration"] = round(began - self._began, 3)
        _write_data(self.folder, self.run, self.records)
        self._spent += time.monotonic() - began


def take_in(records: dict[str, dict[str, Any]], record: dict[str, Any]) -> None:
    """Add a record to those by test id; a later word on the same test adds to the earlier."""
    before = records.get(record["id"], {})
    if before.get("outcome") in _WITHOUT_APPEAL and record["outcome"] == "passed":  # a subtest has failed already
        record = {**record, "outcome": before["outcome"], "message": before["message"]}
    known = {**before, **record}
    records[record["id"]] = {**known, "story": story(known)}


def write_report(
    folder: Path,
    run: Mapping[str, Any],
    tests: Sequence[dict[str, Any]],
    sources: Sequence[Path],
    bundles: Sequence[Path] = (),
) -> None:
    """Write a report of what other reports hold, `report.md` included.

    Args:
        folder: as of `Report`.
        run: facts about the run; where pictures are missing, its notes get one more.
        tests: the records.
        sources: the report folders that hold the pictures which the records name.
        bundles: folders that show failures again, to be copied to ``repro``.

    Raises:
        ReportFolderError: see `check_folder`.
    """
    _prepare(folder, run)
    last.clear(folder)
    names = {name for test in tests for name in _files_of(test)}
    missing = sum(not _copy(name, sources, folder) for name in sorted(names))
    if missing:
        run = {**run, "notes": [*run["notes"], f"{missing} of {len(names)} picture files were missing."]}
    for bundle in bundles:
        for name in sorted(file.name for file in bundle.iterdir() if file.is_file()):
            _copy(name, [bundle], folder / "repro" / bundle.name)
    (folder / "records.jsonl").write_text("".join(f"{_json(test)}\n" for test in tests), encoding="utf-8")
    _write_data(folder, run, tests)
    write_pull_request_report(folder, run, tests)


def _files_of(test: dict[str, Any]) -> Iterator[str]:
    for measurement in test["measurements"]:
        for exhibit in measurement["exhibits"]:
            for row in exhibit["rows"] if exhibit["kind"] in PICTURED else ():
                for picture in row["pictures"]:
                    yield from filter(None, (picture.get(name) for name in ("src", "thumb", "numbers")))


def _copy(name: str, sources: Sequence[Path], folder: Path) -> bool:
    """Copy a file from the first source that has it: the name of a picture is a hash of its content."""
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):  # a report from elsewhere may name anything
        return False
    for source in sources:
        found = (source / name).resolve()
        if found.is_file() and found.is_relative_to(source.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, target)
            return True
    return False


def _prepare(folder: Path, run: Mapping[str, Any]) -> None:
    """Make an empty report; wherever this is killed, what the folder holds is a report, the last one or the new one."""
    keeps_pictures = _checked(folder) == _generator(run)  # another version may write them in another way
    (folder / "records.jsonl").unlink(missing_ok=True)  # first: a reader adds them to a report that is not finished
    _write_data(folder, {**run, "status": "running"}, [])
    if keeps_pictures:
        last.set_aside(folder)
    for entry in (folder / name for name in _OLD):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    for leftover in folder.glob(".*.tmp"):  # of a run that was killed
        leftover.unlink(missing_ok=True)
    (folder / "images").mkdir(parents=True)
    (folder / "records.jsonl").touch()
    _write_page(folder)


def _write_page(folder: Path) -> None:
    """The page, file by file in the place of an older one: there is one at every moment."""
    ours = {source.name: source for source in _STATIC.iterdir()}
    for name, source in ours.items():
        write_atomically(folder / name if name == "index.html" else folder / "assets" / name, source.read_bytes())
    for old in (folder / "assets").iterdir():
        if old.name not in ours:
            old.unlink()


def _write_data(folder: Path, run: Mapping[str, Any], tests: Sequence[dict[str, Any]]) -> None:
    report = {
        "schema": SCHEMA,
        "generator": _generator(run),
        "run": run,
        "tests": tests,
    }
    text = _json(report)
    write_atomically(folder / "report.json", text.encode())
    write_atomically(folder / "data" / "report.js", f"window.CNNAUDIT_REPORT = {text};\n".encode())


def _json(value: object) -> str:
    """Strict JSON in ASCII: it is a JavaScript literal too, with no separators that only JSON allows."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
