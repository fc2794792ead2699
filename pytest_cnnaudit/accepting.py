"""The command ``cnnaudit accept``: takes what a report measured as baselines. Imports neither torch nor pytest."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_cnnaudit import terminal
from pytest_cnnaudit.gallery import ReportFolderError
from pytest_cnnaudit.gallery.read import StoredReport, read_report

_VERDICTS = ("passed", "failed", "xfailed", "xpassed")
_FOLDER = "__cnnaudit__"

Offer = dict[Path, dict[str, dict[str, Any]]]
"""Baseline file → test id → metric → entry."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is given."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="the folder of the report, after a look at it")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="tests whose id is this or fits it; may be repeated"
    )
    parser.add_argument("--root", type=Path, default=Path(), help="pytest's root folder (default: the current folder)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")


def run(given: argparse.Namespace) -> None:
    """Accept, and print what changed."""
    from pytest_cnnaudit.baselines.file import BaselineError, update

    try:
        found, left = offered(read_report(given.report), given.root, given.only)
        lines = list(_lines(found, left))  # all files are read before the first is written
        for path, entries in found.items() if not given.dry_run else ():
            update(path, entries)
    except BaselineError as error:
        raise ReportFolderError(str(error)) from None
    terminal.write([*lines, *(["nothing was written (--dry-run)"] if given.dry_run else [])])


def command(report: str, *only: str, root: Path, here: Path) -> str:
    """What a person types in the folder `here` to accept a report of a run with this root folder.

    >>> command("cnnaudit-report", "test_a.py::test_b[1]", root=Path("/suite"), here=Path("/suite/deep"))
    "cnnaudit accept cnnaudit-report --only 'test_a.py::test_b[1]' --root .."
    """
    words = ["cnnaudit", "accept", report, *(word for each in only for word in ("--only", each))]
    return shlex.join([*words, *([] if root == here else ["--root", Path(os.path.relpath(root, here)).as_posix()])])


def offered(report: StoredReport, root: Path, only: Sequence[str] = ()) -> tuple[Offer, list[str]]:
    """What a report offers as baselines, and what of it cannot be accepted and why.

    A report may come from anywhere: it can name no file but the one that belongs to the test's module below the root
    folder.

    Args:
        report: as read.
        root: pytest's root folder.
        only: test ids, or patterns of them (`fnmatch`); none given, all.

    Raises:
        ReportFolderError: there is nothing to accept, or what there is belongs elsewhere or is broken.
    """
    comparing = {test["id"]: test for test in report.tests if test.get("baselines")}
    if not comparing:
        raise ReportFolderError(f"No test of {report.folder} compares with a baseline: there is nothing to accept.")
    chosen = {test: each for test, each in comparing.items() if not only or any(_fits(test, glob) for glob in only)}
    if not chosen:
        raise ReportFolderError(f"--only fits no test that compares with a baseline; their ids: {_listed(comparing)}.")
    offer: Offer = {}
    left = []
    for test, record in chosen.items():
        _check(report, record)
        path, entries = _baseline_file(record, root), record["baselines"]["entries"]
        whole = {each["name"] for each in record["measurements"] if each.get("complete") is not False}
        accepted = {metric: entry for metric, entry in entries.items() if entry["measurement"] in whole}
        if record["outcome"] not in _VERDICTS:
            left.append(f"{test} came to no verdict ({record['outcome']})")
            continue
        left += [f"{metric} of {test} was measured in part only" for metric in entries if metric not in accepted]
        if accepted:
            offer.setdefault(path, {})[test] = accepted
    if not offer:
        raise ReportFolderError(f"Nothing can be accepted: {'; '.join(left)}.")
    return offer, left


def _fits(test: str, pattern: str) -> bool:
    """Brackets are those of a parametrised id, or else of a pattern."""
    return test == pattern or fnmatchcase(test, pattern.replace("[", "[[]")) or fnmatchcase(test, pattern)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _check(report: StoredReport, record: Mapping[str, Any]) -> None:
    """Raise a `ReportFolderError` where a record's baselines are not what a baseline file can hold."""
    from pytest_cnnaudit.baselines.check import misfit

    broken = f"{report.folder} is broken, run the audits again: what {record['id']!r} offers as baselines"
    found = record["baselines"]
    if not isinstance(found, dict) or not isinstance(found.get("file"), str):
        raise ReportFolderError(f"{broken} names no file.")
    if not isinstance(found.get("entries"), dict):
        raise ReportFolderError(f"{broken} has no entries.")
    for metric, entry in found["entries"].items():
        if wrong := misfit(repr(metric), entry):
            raise ReportFolderError(f"{broken} is no entry: {wrong}.")


def _baseline_file(record: Mapping[str, Any], root: Path) -> Path:
    """The baseline file that a record names, if it is that of the test's own module."""
    test, name = record["id"], record["baselines"]["file"]
    path = PurePosixPath(name)
    module = path.parent.parent / f"{path.stem}.py"
    refused = f"The baseline file that {test!r} names, {name!r}, is refused:"
    if path.is_absolute() or ".." in path.parts or path.suffix != ".json" or path.parent.name != _FOLDER:
        raise ReportFolderError(f"{refused} it is no {_FOLDER}/*.json below pytest's root folder.")
    if not name.isprintable() or not test.startswith(f"{module}::"):
        raise ReportFolderError(f"{refused} it does not belong to the test's module.")
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise ReportFolderError(f"{refused} it leads out of {root}.")
    if not (root / module).is_file():
        raise ReportFolderError(
            f"{root / module}, the module of {test!r}, is not there: give --root pytest's root folder."
        )
    return root / path


def _lines(offer: Offer, left: Iterable[str]) -> Iterator[str]:
    from pytest_cnnaudit.baselines.changes import changes, tally

    found = [change for path, entries in offer.items() for change in changes(path, entries)]
    yield from (change.line for change in found)
    yield from (terminal.line(f"not accepted: {each}") for each in left)
    yield f"baselines: {tally(found)}"
