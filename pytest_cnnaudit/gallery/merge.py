"""Puts the reports of a suite's shards together into one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_cnnaudit.gallery.read import StoredReport, check_out, read_report, short_names
from pytest_cnnaudit.gallery.report import ReportFolderError, write_report


def merge(folders: Sequence[Path], out: Path, *, mixed: bool = False) -> None:
    """Write the report of several into `out`.

    Raises:
        ReportFolderError: one of them cannot be read, `out` would overwrite something, or the seeds differ and `mixed`
            does not allow it.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ReportFolderError("A report is given twice: name each folder once.")
    reports = [read_report(folder) for folder in folders]
    check_out(out, reports)
    run = merged_run(reports, mixed=mixed)
    tests, bundles = [], []
    for test, folder in _chosen(reports).values():
        bundle = _bundle(test, folder)
        tests.append(test if bundle is None else _repeated_with(test, out / "repro" / bundle.name))
        bundles += [] if bundle is None else [bundle]
    write_report(out, run, tests, folders, bundles)


# Tests ------------------------------------------------------------------------------------------------------------


def merged_tests(reports: Iterable[StoredReport]) -> list[dict[str, Any]]:
    """Every test once: where it ran rather than where it was skipped, and of those where it ran last.

    Each carries when its run started, so that merging what is merged already comes to the same.
    """
    return [test for test, _ in _chosen(reports).values()]


def _chosen(reports: Iterable[StoredReport]) -> dict[str, tuple[dict[str, Any], Path]]:
    """By id: the test, and the folder of its report."""
    chosen: dict[str, tuple[dict[str, Any], Path]] = {}
    for report in reports:
        for each in report.tests:
            test = {"started": report.run["started"], **each}
            before = chosen.get(test["id"])
            if before is None or _standing(test) >= _standing(before[0]):
                chosen[test["id"]] = test, report.folder
    return chosen


def _standing(test: dict[str, Any]) -> tuple[bool, datetime]:
    return test["outcome"] != "skipped", _time(test["started"])


def _time(text: Any) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)  # what cannot be dated counts as old
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _bundle(test: dict[str, Any], folder: Path) -> Path | None:
    """What a failed test has left to show the failure again, in its report's folder: wherever that is now."""
    bundles = (folder / "repro").resolve()
    found = bundles / Path(str((test.get("repro") or {}).get("bundle") or "")).name
    there = found.resolve().parent == bundles and (found / "bundle.json").is_file()  # a report may name anything
    return found if there else None


def _repeated_with(test: dict[str, Any], bundle: Path) -> dict[str, Any]:
    """The test, whose command names the bundle where it will be."""
    repro = test["repro"]
    command = str(repro.get("command")).replace(shlex.quote(str(repro["bundle"])), shlex.quote(str(bundle)))
    return {**test, "repro": {**repro, "command": command, "bundle": str(bundle)}}


# The run ----------------------------------------------------------------------------------------------------------


def merged_run(reports: Sequence[StoredReport], *, mixed: bool = False) -> dict[str, Any]:
    """The facts about the runs together, with notes of where they differ.

    Raises:
        ReportFolderError: the seeds differ and `mixed` does not allow it.
    """
    names = short_names([report.folder for report in reports])
    runs = [report.run for report in reports]
    shards = list(zip(names, runs, strict=True))
    counts = ", ".join(f"{name} ({len(report.tests)})" for name, report in zip(names, reports, strict=True))
    unfinished = [name for name, run in shards if run["status"] == "running"]
    own = [f"{name}: {note}" for name, run in shards for note in run["notes"]]
    notes = [
        f"Merged from {len(reports)} reports (tests): {counts}.",
        *(f"{name} had not finished: what it had not done is missing here." for name in unfinished),
        *_seed_notes(shards, mixed=mixed),
        *_difference_notes(shards),
        *own,
    ]
    seeds = [run["seed"] for run in runs if run["seed"] is not None]
    return {
        **runs[0],
        "status": "finished" if all(run["status"] == "finished" for run in runs) else "interrupted",
        "notes": list(dict.fromkeys(notes)),
        "started": min((run["started"] for run in runs), key=_time),
        "duration": round(sum(run["duration"] for run in runs), 3),
        "seed": seeds[0] if seeds else None,
        "device": _joined(run["device"] for run in runs),
        "command": "; ".join(dict.fromkeys(run["command"] for run in runs if run["command"])),
        "versions": {name: _joined(run["versions"].get(name, "") for run in runs) for name in _packages(runs)},
        "exit_status": max((run["exit_status"] for run in runs), key=_badness),
    }


def _badness(exit_status: int | None) -> float:
    """No tests in a shard (5) is less than success, an end not known more than it."""
    if exit_status is None:
        return 0.5
    return -1 if exit_status == 5 else exit_status


def _seed_notes(shards: Sequence[tuple[str, dict[str, Any]]], *, mixed: bool) -> list[str]:
    seeds = {name: run["seed"] for name, run in shards if run["seed"] is not None}
    if len(set(seeds.values())) < 2:
        return []
    told = ", ".join(f"{seed} ({name})" for name, seed in seeds.items())
    if not mixed:
        raise ReportFolderError(f"The seeds differ: {told}. Run the shards with one, or merge with --mixed.")
    return [f"The seeds differ: {told}."]


def _difference_notes(shards: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    facts = {"Device": {name: run["device"] for name, run in shards if run["device"]}}
    for package in _packages([run for _, run in shards]):
        facts[package] = {name: run["versions"][package] for name, run in shards if package in run["versions"]}
    return [
        f"{fact} differs: {', '.join(f'{value} ({name})' for name, value in found.items())}."
        for fact, found in facts.items()
        if len(set(found.values())) > 1
    ]


def _packages(runs: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(package for run in runs for package in run["versions"]))


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(part for value in values for part in str(value).split(", ") if part))
