"""The pytest plugin: options, fixtures and hooks, and nothing else. It imports no torch until an audit runs.

What the one process that writes the report does is in `gatherer`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit
    from pytest_cnnaudit.gallery import PictureFiles
    from pytest_cnnaudit.model import AuditModel
    from pytest_cnnaudit.samples import Samples

_PACKAGE = Path(__file__).parent
_SKIPPED = "an audit: run with --cnnaudit"
_DEFAULTS = {"dir": "cnnaudit-report", "device": "auto", "seed": "0", "precision": "float32"}

audit_key = pytest.StashKey["Audit"]()
folder_key = pytest.StashKey[Path]()
files_key = pytest.StashKey["PictureFiles"]()


# Options and configuration ---------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cnnaudit", "audits of trained vision models")
    group.addoption(
        "--cnnaudit",
        action="store_true",
        default=None,
        help="run the tests that use the audit fixture, and write the gallery; without it they are skipped",
    )
    group.addoption("--cnnaudit-dir", metavar="DIR", help="where the report goes (default: cnnaudit-report)")
    group.addoption(
        "--cnnaudit-device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps (default: auto, a GPU if there is one)",
    )
    group.addoption(
        "--cnnaudit-seed", metavar="N", help="every random draw follows from it and from the test's id (default: 0)"
    )
    group.addoption(
        "--cnnaudit-precision",
        metavar="P",
        help="of the passes that attacks make: float32 or bfloat16 (default: float32); what they find is confirmed in "
        "the model's own",
    )
    parser.addini("cnnaudit", "run audits, as with --cnnaudit", type="bool", default=False)
    parser.addini("cnnaudit_dir", "where the report goes, as with --cnnaudit-dir")
    parser.addini("cnnaudit_device", "the device, as with --cnnaudit-device")
    parser.addini("cnnaudit_seed", "the seed, as with --cnnaudit-seed")
    parser.addini("cnnaudit_precision", "float32 or bfloat16, as with --cnnaudit-precision")


def _enabled(config: pytest.Config) -> bool:
    return bool(config.getoption("cnnaudit") or config.getini("cnnaudit"))


def setting(config: pytest.Config, name: str) -> str:
    return str(config.getoption(f"cnnaudit_{name}") or config.getini(f"cnnaudit_{name}") or _DEFAULTS[name])


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cnnaudit: uses the audit fixture (added to such tests by itself)")
    if not _enabled(config):
        return
    if not re.fullmatch(r"\d+", setting(config, "seed")):
        raise pytest.UsageError(f"--cnnaudit-seed is {setting(config, 'seed')!r}; give a whole number from 0.")
    if setting(config, "precision") not in ("float32", "bfloat16"):
        raise pytest.UsageError(f"--cnnaudit-precision is {setting(config, 'precision')!r}; use float32 or bfloat16.")
    _check_device(setting(config, "device"))
    if _is_worker(config):
        config.stash[folder_key] = Path(config.workerinput["cnnaudit_dir"])  # type: ignore[attr-defined]
        return
    config.stash[folder_key] = folder = _report_folder(config)
    from pytest_cnnaudit.gallery import ReportFolderError, check_folder

    try:
        check_folder(folder)
    except (ReportFolderError, OSError) as error:
        raise pytest.UsageError(f"--cnnaudit-dir: {error}; give another folder.") from None
    from pytest_cnnaudit.gatherer import Gatherer

    config.pluginmanager.register(Gatherer(config), "cnnaudit-gatherer")


def _report_folder(config: pytest.Config) -> Path:
    """A path of the command line is relative to where pytest was called, one of the ini file to that file."""
    if not config.getoption("cnnaudit_dir") and config.getini("cnnaudit_dir") and config.inipath is not None:
        return config.inipath.parent / setting(config, "dir")
    return config.invocation_params.dir / setting(config, "dir")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise pytest.UsageError(f"--cnnaudit-device is {device!r}; give auto, cpu, cuda, cuda:N or mps.")
    if device not in ("auto", "cpu"):
        from pytest_cnnaudit.engine import resolve_device
        from pytest_cnnaudit.errors import AuditError

        try:
            resolve_device(device)
        except AuditError as error:
            raise pytest.UsageError(f"--cnnaudit-device: {error}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of xdist starts: it writes its pictures into the controller's folder."""
    if folder_key in node.config.stash:
        node.workerinput["cnnaudit_dir"] = str(node.config.stash[folder_key])


# Fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def audit_model(pytestconfig: pytest.Config) -> AuditModel:
    """The model under audit, an `AuditModel`; a suite defines its own in conftest.py."""
    from pytest_cnnaudit.errors import AuditError

    if not _enabled(pytestconfig):
        pytest.skip(_SKIPPED)
    raise AuditError(
        "There is no model to audit: define the fixture audit_model in conftest.py and return an AuditModel from it."
    )


@pytest.fixture(scope="session")
def audit_samples() -> Samples | None:
    """The images it is measured on, `Samples`; a suite defines its own in conftest.py. Filters need none."""
    return None


@pytest.fixture
def audit(request: pytest.FixtureRequest, audit_model: AuditModel, audit_samples: Samples | None) -> Audit:
    """Measures, asserts and shows; what it does lands in the gallery under this test. See `pytest_cnnaudit.Audit`."""
    if not _enabled(request.config):  # a test that asked for it by request.getfixturevalue
        pytest.skip(_SKIPPED)
    from pytest_cnnaudit.audit import Audit

    config, item = request.config, request.node
    made = Audit(
        audit_model,
        audit_samples,
        device=setting(config, "device"),
        seed=int(setting(config, "seed")),
        scope=item.nodeid,
        precision="bfloat16" if setting(config, "precision") == "bfloat16" else "float32",
        link=link(config, item.nodeid),
    )
    item.stash[audit_key] = made
    return made


def link(config: pytest.Config, nodeid: str) -> str:
    folder = config.stash[folder_key]
    if folder.is_relative_to(config.invocation_params.dir):
        folder = folder.relative_to(config.invocation_params.dir)
    return f"{(folder / 'index.html').as_posix()}#{nodeid}"


def uses_audit(item: pytest.Item) -> bool:
    """Whether the test, or a fixture of it, asks for our fixture; a project's own `audit` is none of our business."""
    if audit_key in item.stash:
        return True  # asked for while it ran: request.getfixturevalue("audit")
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.get("audit", ()) if info is not None else ()
    for definition in reversed(definitions):  # the last one overrides the others, unless it asks for them
        if getattr(definition.func, "__module__", "") == __name__:
            return True
        if "audit" not in definition.argnames:
            return False
    return False


def pytest_itemcollected(item: pytest.Item) -> None:
    if uses_audit(item):
        item.add_marker("cnnaudit")
        if not _enabled(item.config):
            item.add_marker(pytest.mark.skip(reason=_SKIPPED))


# A test is over: its record travels on its report ----------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if not (_enabled(item.config) and uses_audit(item)):
        return (yield)
    if call.excinfo is not None:
        _hide_our_frames(call.excinfo)
    report = yield
    report.__dict__["is_cnnaudit"] = True
    if report.when == "call" or report.outcome != "passed":
        record = _record(item, call, report)
        report.__dict__["cnnaudit"] = json.dumps(record, allow_nan=False)
        if "measurements" in record:
            from pytest_cnnaudit.alongside import with_properties

            item.user_properties[:] = report.user_properties = with_properties(item.user_properties, record)
    if report.when == "teardown" and audit_key in item.stash:
        del item.stash[audit_key]  # its pictures are on disk; pytest keeps the item to the end of the session
    return report


def _hide_our_frames(failure: pytest.ExceptionInfo[BaseException]) -> None:
    """A traceback through this package hides in pytest's output what is no use to a user; `--full-trace` shows it."""
    for entry in failure.traceback:
        if Path(entry.path).is_relative_to(_PACKAGE):
            entry.frame.f_globals["__tracebackhide__"] = _hides


def _hides(failure: pytest.ExceptionInfo[BaseException]) -> bool:
    """Failures and bad input are the user's own; any other exception is a bug, and keeps every frame."""
    from pytest_cnnaudit.errors import AuditError

    return isinstance(failure.value, AuditError | AssertionError)


def _record(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> dict[str, Any]:
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
    made = item.stash.get(audit_key, None)
    if made is None:
        return {**record, "model": None, "samples": None, "measurements": []}
    from pytest_cnnaudit.records import audit_record

    files = picture_files(item.config)
    record |= audit_record(made, files.save)
    if not _is_worker(item.config):
        return record  # its pictures are waited for where it is written
    from pytest_cnnaudit.gallery import with_pictures

    return with_pictures(record, files.pending())


def location(report: pytest.TestReport) -> dict[str, Any]:
    """The file, relative to pytest's root folder, and the line counted from 1, where it is known."""
    file, line, _ = report.location
    return {"file": Path(file).as_posix(), "line": None if line is None else line + 1}


def picture_files(config: pytest.Config) -> PictureFiles:
    from pytest_cnnaudit.gallery import PictureFiles

    return config.stash.setdefault(files_key, PictureFiles(config.stash[folder_key]))


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
    return call.excinfo.exconly(tryshort=True).removeprefix("pytest_cnnaudit.errors.AuditError: ")


# A plain assert on a metric tells its story -----------------------------------------------------------------------


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    results = sys.modules.get("pytest_cnnaudit.results")
    if results is None:  # then nobody has made a metric
        return None
    if isinstance(left, results.Metric):
        return _story(results.shortfall(left, op, right)) if isinstance(right, int | float) else None
    if isinstance(right, results.Metric) and isinstance(left, int | float):
        mirrored = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}.get(op, op)
        return _story(results.shortfall(right, mirrored, left))
    return None


def _story(lines: list[str]) -> list[str]:
    """Pytest indents all lines but the first by itself."""
    return [line.removeprefix("  ") for line in lines]
