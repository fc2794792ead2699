"""What GitHub Actions shows of a run: a summary of the step, and annotations at the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_cnnaudit.gallery.markdown import STEP_SUMMARY_LIMIT, summary_table, worst_first
from pytest_cnnaudit.gallery.outcomes import WORDS
from pytest_cnnaudit.gallery.story import story

_LIMIT = 10  # annotations of a kind that GitHub takes from one step
_LEVELS = {"failed": "error", "error": "error", "crashed": "error", "xpassed": "warning"}
_TITLES = {**WORDS, "error": "no verdict"}


def append_step_summary(file: Path, run: Mapping[str, Any], records: Sequence[dict[str, Any]], link: str) -> None:
    """Add the table to a step's summary, the file that ``GITHUB_STEP_SUMMARY`` names.

    Raises:
        OSError: it cannot be written, or is full: GitHub drops a summary of more than 1 MiB altogether.
    """
    room = STEP_SUMMARY_LIMIT - (file.stat().st_size if file.exists() else 0)
    text = f"\n{summary_table(run, records, link, limit=room - 2)}\n"
    if len(encoded := text.encode("utf-8", "replace")) > room:
        raise OSError(f"{file} is full")
    with file.open("ab") as summary:
        summary.write(encoded)


def failure_annotations(records: Sequence[dict[str, Any]], root: Path, workspace: Path) -> list[str]:
    """Workflow commands that put each failure at its test, the worst first.

    Args:
        records: the run's tests; their ``location`` has a ``file`` under `root` and a ``line``.
        root: pytest's root folder.
        workspace: the folder that GitHub's paths are relative to.
    """
    lines = []
    for level in ("error", "warning"):
        chosen = [record for record in worst_first(records) if _LEVELS.get(record["outcome"]) == level]
        lines += [_annotation(level, record, root, workspace) for record in chosen[:_LIMIT]]
        if (more := len(chosen) - _LIMIT) > 0:
            text = f"{more} more than GitHub shows of a step: see the report."
            lines.append(f"::notice title={_property(f'cnnaudit {level}s')}::{_data(text)}")
    return lines


def _annotation(level: str, record: dict[str, Any], root: Path, workspace: Path) -> str:
    location = record.get("location") or {}
    properties = {
        "file": _relative(root / location["file"], workspace) if location.get("file") else "",
        "line": str(location.get("line") or ""),
        "title": f"{_TITLES[record['outcome']]}: {record['id']}",
    }
    shown = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{level} {shown}::{_data(story(record))}"


def _relative(file: Path, workspace: Path) -> str:
    file, workspace = file.resolve(), workspace.resolve()
    return (file.relative_to(workspace) if file.is_relative_to(workspace) else file).as_posix()


def _data(text: str) -> str:
    plain = "".join(each if each.isprintable() or each in "\r\n" else "�" for each in text)
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
