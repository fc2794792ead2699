"""The pytest plugin: options, fixtures and hooks, and nothing else. It imports no torch until an audit runs."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit
    from pytest_cnnaudit.gallery import PictureFiles, Report, Scribe
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


def _setting(config: pytest.Config, name: str) -> str:
    return str(config.getoption(f"cnnaudit_{name}") or config.getini(f"cnnaudit_{name}") or _DEFAULTS[name])


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cnnaudit: uses the audit fixture (added to such tests by itself)")
    if not _enabled(config):
        return
    if not re.fullmatch(r"\d+", _setting(config, "seed")):
        raise pytest.UsageError(f"--cnnaudit-seed is {_setting(config, 'seed')!r}; give a whole number from 0.")
    if _setting(config, "precision") not in ("float32", "bfloat16"):
        raise pytest.UsageError(f"--cnnaudit-precision is {_setting(config, 'precision')!r}; use float32 or bfloat16.")
    _check_device(_setting(config, "device"))
    if _is_worker(config):
        config.stash[folder_key] = Path(config.workerinput["cnnaudit_dir"])  # type: ignore[attr-defined]
        return
    config.stash[folder_key] = folder = _report_folder(config)
    from pytest_cnnaudit.gallery import ReportFolderError, check_folder

    try:
        check_folder(folder)
    except (ReportFolderError, OSError) as error:
        raise pytest.UsageError(f"--cnnaudit-dir: {error}; give another folder.") from None
    config.pluginmanager.register(Gatherer(config), "cnnaudit-gatherer")


def _report_folder(config: pytest.Config) -> Path:
    """A path of the command line is relative to where pytest was called, one of the ini file to that file."""
    if not config.getoption("cnnaudit_dir") and config.getini("cnnaudit_dir") and config.inipath is not None:
        return config.inipath.parent / _setting(config, "dir")
    return config.invocation_params.dir / _setting(config, "dir")


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


def _run_facts(config: pytest.Config) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": int(_setting(config, "seed")),
        "device": _setting(config, "device"),
        "command": shlex.join(["pytest", *map(str, config.invocation_params.args)]),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("pytest-cnnaudit", "pytest", "torch", "torchvision"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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
        device=_setting(config, "device"),
        seed=int(_setting(config, "seed")),
        scope=item.nodeid,
        precision="bfloat16" if _setting(config, "precision") == "bfloat16" else "float32",
        link=_link(config, item.nodeid),
    )
    item.stash[audit_key] = made
    return made


def _link(config: pytest.Config, nodeid: str) -> str:
    folder = config.stash[folder_key]
    if folder.is_relative_to(config.invocation_params.dir):
        folder = folder.relative_to(config.invocation_params.dir)
    return f"{(folder / 'index.html').as_posix()}#{nodeid}"


def _uses_audit(item: pytest.Item) -> bool:
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
    if _uses_audit(item):
        item.add_marker("cnnaudit")
        if not _enabled(item.config):
            item.add_marker(pytest.mark.skip(reason=_SKIPPED))


# A test is over: its record travels on its report ----------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if not (_enabled(item.config) and _uses_audit(item)):
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
        "location": _location(report),
    }
    if report.when == "teardown":
        return record
    made = item.stash.get(audit_key, None)
    if made is None:
        return {**record, "model": None, "samples": None, "measurements": []}
    from pytest_cnnaudit.records import audit_record

    files = _picture_files(item.config)
    record |= audit_record(made, files.save)
    if not _is_worker(item.config):
        return record  # its pictures are waited for where it is written
    from pytest_cnnaudit.gallery import with_pictures

    return with_pictures(record, files.pending())


def _location(report: pytest.TestReport) -> dict[str, Any]:
    """The file, relative to pytest's root folder, and the line counted from 1, where it is known."""
    file, line, _ = report.location
    return {"file": Path(file).as_posix(), "line": None if line is None else line + 1}


def _picture_files(config: pytest.Config) -> PictureFiles:
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


# The controller gathers the records --------------------------------------------------------------------------------


class Gatherer:
    """Registered where the report is written: in the one process of a serial run, or in xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.scribe: Scribe | None = None
        self._audits: set[str] = set()
        self._deselected = 0
        self._troubles: list[str] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._deselected += sum(map(_uses_audit, items))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Tests are about to run: only now does a new report take the place of the last one."""
        if not (self.config.getoption("collectonly", False) or self.config.getoption("setupplan", False)):
            from pytest_cnnaudit.gallery import Report, Scribe

            self.scribe = Scribe(Report(self.config.stash[folder_key], _run_facts(self.config)))
            if narrowed := _narrowed_by(self.config, self._deselected):
                self.scribe.note(f"Only a part of the suite was selected ({narrowed}).")
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if getattr(report, "is_cnnaudit", False):
            self._audits.add(report.nodeid)
        carried = getattr(report, "cnnaudit", None)
        if carried is not None:
            record, pictures = json.loads(carried), _picture_files(self.config).pending()
            self._add(record, pictures)
            self._show_in_pytest_html(report, record, pictures)
        elif self.scribe is not None and str(report.when) == "???":  # xdist's word for a worker that died
            self.scribe.note(f"A worker crashed while running {report.nodeid}; nothing is known of this test.")
            if report.nodeid in self._audits:
                crashed = {"id": report.nodeid, "outcome": "crashed", "message": str(report.longrepr), "doc": ""}
                nothing: dict[str, Any] = {"duration": 0.0, "model": None, "samples": None, "measurements": []}
                self._add({**crashed, **nothing, "location": _location(report)})

    def _add(self, record: dict[str, Any], pictures: Callable[[], None] = lambda: None) -> None:
        if self.scribe is not None:
            self.scribe.add(record, pictures)

    def _show_in_pytest_html(
        self, report: pytest.TestReport, record: dict[str, Any], pictures: Callable[[], None]
    ) -> None:
        option = self.config.pluginmanager.hasplugin("html") and self.config.getoption("htmlpath", None)
        if not option or report.when == "teardown":
            return
        from pytest_cnnaudit.alongside import html_extras, html_page

        if self_contained := bool(self.config.getoption("self_contained_html", default=False)):
            with suppress(OSError):  # the record will say so
                pictures()
        page = html_page(option, self.config.invocation_params.dir)
        extras = html_extras(record, self.config.stash[folder_key], page, self_contained=self_contained)
        report.__dict__["extras"] = [*getattr(report, "extras", []), *extras]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[Any]) -> None:
        """Pytest-html writes ids as they are, as if they were HTML; those of audits may hold the names of classes."""
        if getattr(report, "is_cnnaudit", False):
            cells[:] = [str(cell).replace(report.nodeid, escape(report.nodeid)) for cell in cells]

    def pytest_report_header(self) -> str:
        device, seed = _setting(self.config, "device"), _setting(self.config, "seed")
        return f"cnnaudit: device {device}, seed {seed}, report {self._shown_path()}"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.scribe is None:
            return
        interrupted = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        if interrupted:
            self.scribe.note("The run was interrupted: tests that had not finished are missing.")
        elif session.shouldfail or session.shouldstop:
            self.scribe.note(f"The run was cut short: {session.shouldfail or session.shouldstop}.")
        self.scribe.finish("interrupted" if interrupted else "finished", int(exitstatus))
        self._write_markdown(self.scribe.report)

    def _write_markdown(self, report: Report) -> None:
        from pytest_cnnaudit.gallery.github import append_step_summary
        from pytest_cnnaudit.gallery.markdown import write_pull_request_report

        try:
            write_pull_request_report(report.folder, report.run, report.records, self._shown_path())
        except OSError as error:
            self._troubles.append(f"report.md could not be written: {error}")
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                append_step_summary(Path(summary), report.run, report.records, self._shown_path())
            except OSError as error:
                self._troubles.append(f"the summary of the step could not be written: {error}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.scribe is None:
            return
        from pytest_cnnaudit.records import headline

        terminalreporter.section("cnnaudit")
        for record in self.scribe.report.records:
            if record["outcome"] != "skipped":
                style = {"passed": "green", "xfailed": "yellow"}.get(record["outcome"], "red")
                terminalreporter.write(f"{record['outcome'].upper():8}", **{style: True})
                terminalreporter.write(f"{record['id']}  {headline(record)}\n")
        skipped = sum(record["outcome"] == "skipped" for record in self.scribe.report.records)
        if skipped:
            terminalreporter.write_line(f"{skipped} skipped, with their reasons in the report")
        for trouble in filter(None, [self.scribe.trouble, *self._troubles]):
            terminalreporter.write_line(trouble, red=True)
        terminalreporter.write_line(f"report: {self._shown_path()}")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from pytest_cnnaudit.gallery.github import failure_annotations

            root = self.config.rootpath
            workspace = Path(os.environ.get("GITHUB_WORKSPACE") or root)
            for line in failure_annotations(self.scribe.report.records, root, workspace):
                terminalreporter.write_line(line)

    def _shown_path(self) -> str:
        return _link(self.config, "").removesuffix("#")


def _narrowed_by(config: pytest.Config, deselected: int) -> str:
    """The options and arguments that left out tests, and how many audits were deselected; empty where nothing did."""
    given = {"-k": "keyword", "-m": "markexpr", "--lf": "lf", "--stepwise": "stepwise"}
    given |= {f"--{name.replace('_', '-')}": name for name in ("deselect", "ignore", "ignore_glob")}
    chosen = [(flag, config.getoption(name, None)) for flag, name in given.items()]
    words = [flag if value is True else f"{flag} {value}" for flag, value in chosen if value]
    words += [arg for arg in config.args if "::" in arg]
    return ", ".join([*words, *([f"{deselected} audits deselected"] if deselected else [])])
