"""A test that is over, as a record: what came of it, and what it measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cnnaudit.options import flag, setting
from pytest_cnnaudit.places import cache, folder_key, is_worker, picture_files

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit


def record_of(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, audit: Audit | None
) -> dict[str, Any]:
    """The record of a test's call, or of a setup or teardown that failed; `audit` is what it measured with."""
    documented = (getattr(getattr(item, "obj", None), "__doc__", None) or "").strip()
    record = {
        "id": item.nodeid,
        "outcome": _outcome(call, report),
        "message": _message(call, report),
        "doc": " ".join(documented.split("\n\n")[0].split()),
        "duration": round(report.duration, 3),
        "location": location(report),
    }
    if report.when == "teardown":
        return record
    if audit is None:
        return {**record, "model": None, "samples": None, "measurements": []}
    from pytest_cnnaudit.records import audit_record

    files = picture_files(item.config)
    record |= audit_record(audit, files.save)
    if audit.baselines is not None and audit.baselines.measured:
        file = Path(os.path.relpath(audit.baselines.path, item.config.rootpath)).as_posix()
        record["baselines"] = {"file": file, "entries": audit.baselines.measured}
    if (kept := cache(item.config)) is not None and kept.store.trouble:
        record["trouble"] = kept.store.trouble
    if record["outcome"] == "failed" and flag(item.config, "repro"):
        record["repro"] = _reproduction(item, audit)
    if not is_worker(item.config):
        return record  # its pictures are waited for where it is written
    from pytest_cnnaudit.gallery import with_pictures

    return with_pictures(record, files.pending())


def _reproduction(item: pytest.Item, audit: Audit) -> dict[str, str] | None:
    """A bundle for the failure, and the command that shows it again; None where nothing was measured."""
    from pytest_cnnaudit.repro import write_bundle

    config, folder = item.config, item.config.stash[folder_key]
    here = config.invocation_params.dir
    test = f"{Path(os.path.relpath(item.path, here)).as_posix()}{item.nodeid[len(item.nodeid.split('::')[0]) :]}"
    command = ["pytest", test, "--cnnaudit", "--cnnaudit-seed", setting(config, "seed")]
    for name in ("device", "precision"):  # so that it rounds as it did
        if config.getoption(f"cnnaudit_{name}"):
            command += [f"--cnnaudit-{name}", setting(config, name)]
    return write_bundle(folder / "repro", audit, test=item.nodeid, command=command, relative_to=here)


def location(report: pytest.TestReport) -> dict[str, Any]:
    """The file, relative to pytest's root folder, and the line counted from 1, where it is known."""
    file, line, _ = report.location
    return {"file": Path(file).as_posix(), "line": None if line is None else line + 1}


def _outcome(call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    """``failed`` means that the model fell short; whatever kept the audit from its verdict is an ``error``."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.outcome == "skipped" else "xpassed"
    fell_short = call.excinfo is None or isinstance(call.excinfo.value, AssertionError | pytest.fail.Exception)
    return "error" if report.outcome == "failed" and not (report.when == "call" and fell_short) else report.outcome


def _message(call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return ""
    if report.outcome == "skipped":
        if hasattr(report, "wasxfail"):
            return str(report.wasxfail)
        return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if call.excinfo is None:
        return str(report.longrepr)
    told = call.excinfo.exconly(tryshort=True).removeprefix("pytest_cnnaudit.errors.AuditError: ")
    return told.removeprefix("AssertionError: ") if told.startswith("AssertionError: assert ") else told
