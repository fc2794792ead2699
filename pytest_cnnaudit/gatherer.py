"""The plugin's other half, where the report is written: it gathers the records and tells what came of them."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cnnaudit.finished import location
from pytest_cnnaudit.options import path_setting, setting
from pytest_cnnaudit.places import cache_key, folder_key, link, picture_files
from pytest_cnnaudit.plugin import uses_audit
from pytest_cnnaudit.versions import versions

if TYPE_CHECKING:
    from pytest_cnnaudit.gallery import Report, Scribe

_CACHED = 4 * 2**30  # bytes that stay in the cache; what was not used for longest goes


class Gatherer:
    """Registered where the report is written: in the one process of a serial run, or in xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.scribe: Scribe | None = None
        self._audits: set[str] = set()
        self._deselected = 0
        self._troubles: list[str] = []
        if setting(config, "history"):
            from pytest_cnnaudit.history import HistoryError, check

            try:
                check(path_setting(config, "history"))
            except HistoryError as error:
                raise pytest.UsageError(f"--cnnaudit-history: {error}") from None

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._deselected += sum(map(uses_audit, items))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Tests are about to run: only now does a new report take the place of the last one."""
        if not (self.config.getoption("collectonly", False) or self.config.getoption("setupplan", False)):
            from pytest_cnnaudit.gallery import Report, Scribe

            self.scribe = Scribe(Report(self.config.stash[folder_key], _run_facts(self.config)))
            if narrowed := narrowed_by(self.config, self._deselected):
                self.scribe.note(f"Only a part of the suite was selected ({narrowed}).")
            if setting(self.config, "replay"):
                self.scribe.note(f"Replayed on the samples of {setting(self.config, 'replay')} only.")
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if getattr(report, "is_cnnaudit", False):
            self._audits.add(report.nodeid)
        carried = getattr(report, "cnnaudit", None)
        if carried is not None:
            record, pictures = json.loads(carried), picture_files(self.config).pending()
            report.__dict__["cnnaudit_record"] = record  # for the keeper, which comes after
            self._add(record, pictures)
            self._show_in_pytest_html(report, record, pictures)
        elif self.scribe is not None and str(report.when) == "???":  # xdist's word for a worker that died
            self.scribe.note(f"A worker crashed while running {report.nodeid}; nothing is known of this test.")
            if report.nodeid in self._audits:
                crashed = {"id": report.nodeid, "outcome": "crashed", "message": str(report.longrepr), "doc": ""}
                nothing: dict[str, Any] = {"duration": 0.0, "model": None, "samples": None, "measurements": []}
                self._add({**crashed, **nothing, "location": location(report)})

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
        device, seed = setting(self.config, "device"), setting(self.config, "seed")
        return f"cnnaudit: device {device}, seed {seed}, report {self._shown_path()}"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.scribe is None:
            return
        interrupted = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        status = "interrupted" if interrupted else "finished"
        if interrupted:
            self.scribe.note("The run was interrupted: tests that had not finished are missing.")
        elif session.shouldfail or session.shouldstop:
            self.scribe.note(f"The run was cut short: {session.shouldfail or session.shouldstop}.")
        if setting(self.config, "history") and not setting(self.config, "replay"):
            self.scribe.amend(partial(self._append_to_history, status))
        self.scribe.finish(status, int(session.exitstatus))
        self._trim_cache()
        self._write_markdown(self.scribe.report)

    def _append_to_history(
        self, status: str, run: dict[str, Any], records: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        from pytest_cnnaudit.history import HistoryError, append, with_history

        path = path_setting(self.config, "history")
        try:
            append(path, {**run, "status": status}, records, self.config.rootpath)
            return with_history(records, path)
        except HistoryError as error:
            self._troubles.append(f"--cnnaudit-history: {error}")
            return records

    def _trim_cache(self) -> None:
        folder = self.config.stash[cache_key]
        if folder is not None:
            from pytest_cnnaudit.cache.store import Store

            Store(folder).trim(_CACHED)

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
        from pytest_cnnaudit.gallery.story import headline

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
        for line in _notices(self.scribe.report.records):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"report: {self._shown_path()}")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from pytest_cnnaudit.gallery.github import failure_annotations

            root = self.config.rootpath
            workspace = Path(os.environ.get("GITHUB_WORKSPACE") or root)
            for line in failure_annotations(self.scribe.report.records, root, workspace):
                terminalreporter.write_line(line)

    def _shown_path(self) -> str:
        return link(self.config, "").removesuffix("#")


def _notices(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What came from the cache, and how to see a failure again."""
    from pytest_cnnaudit.gallery.costs import cache_words

    if words := cache_words(records):
        yield f"from the cache: {words}"
    yield from dict.fromkeys(record["trouble"] for record in records if "trouble" in record)
    for record in records:
        if record.get("repro"):
            yield f"to see {record['id']} fail again: {record['repro']['command']}"
            if record["repro"]["trouble"]:
                yield f"its bundle is missing: {record['repro']['trouble']}"


def narrowed_by(config: pytest.Config, deselected: int) -> str:
    """The options and arguments that left out tests, and how many audits were deselected; empty where nothing did."""
    given = {"-k": "keyword", "-m": "markexpr", "--lf": "lf", "--stepwise": "stepwise"}
    given |= {f"--{name.replace('_', '-')}": name for name in ("deselect", "ignore", "ignore_glob")}
    chosen = [(flag, config.getoption(name, None)) for flag, name in given.items()]
    words = [flag if value is True else f"{flag} {value}" for flag, value in chosen if value]
    words += [arg for arg in config.args if "::" in arg]
    return ", ".join([*words, *([f"{deselected} audits deselected"] if deselected else [])])


def _run_facts(config: pytest.Config) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": int(setting(config, "seed")),
        "device": setting(config, "device"),
        "command": shlex.join(["pytest", *map(str, config.invocation_params.args)]),
        "versions": {
            "python": platform.python_version(),
            **versions("pytest-cnnaudit", "pytest", "torch", "torchvision"),
        },
    }
