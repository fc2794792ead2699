"""Keeps the baselines, in the one process that writes: updates them, says which are unused, and prunes these if asked.

Updating never deletes. Pruning asks for proof that the run was whole: whatever was left out might own what it removes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cnnaudit import terminal
from pytest_cnnaudit.amounts import signed
from pytest_cnnaudit.collected import WORKER_KEY, Collected
from pytest_cnnaudit.gatherer import narrowed_by
from pytest_cnnaudit.options import flag
from pytest_cnnaudit.places import shown_report

if TYPE_CHECKING:
    from pytest_cnnaudit.baselines.file import Entries
    from pytest_cnnaudit.baselines.unused import WholeRun


class Keeper:
    """Registered beside the `Gatherer`: in the one process of a serial run, or in xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._here = Collected(config)
        config.pluginmanager.register(self._here, "cnnaudit-collected")
        self._audits: dict[str, dict[str, Any]] = {}
        self._ends: dict[str, str] = {}
        self._workers = 0
        self._from_workers: list[dict[str, Any]] = []
        self._breaks: Counter[str] = Counter()
        self._is_through = False
        self._told: list[tuple[str, str]] = []

    # What happens in the run --------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        result = yield
        self._is_through = True  # not reached by -x, an interruption, an internal error
        return result

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._breaks["{} collection error{s}"] += report.failed

    def pytest_internalerror(self) -> None:
        self._breaks["{} internal error{s}"] += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        self._workers += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        told = getattr(node, "workeroutput", {}).get(WORKER_KEY)
        if error is not None:
            self._breaks["{} worker{s} crashed"] += 1
        elif told is not None:
            self._from_workers.append(told)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test, crashed = report.nodeid, str(report.when) == "???"
        if not report.passed or hasattr(report, "wasxfail") or crashed:
            self._ends[test] = "other"
        elif report.when == "setup":
            self._ends[test] = "started"
        elif report.when == "call" and self._ends.get(test) == "started":  # else a subtest has failed already
            self._ends[test] = "passed"
        if (record := getattr(report, "cnnaudit_record", None)) is not None:
            self._take_in(record)
        elif crashed and test in self._audits:
            self._audits[test]["outcome"] = "crashed"

    def _take_in(self, record: dict[str, Any]) -> None:
        """Keep of a record what concerns baselines; the teardown's adds nothing but its outcome."""
        kept = self._audits.setdefault(record["id"], {"baselines": None, "better": []})
        if not (record["outcome"] == "passed" and kept.get("outcome") in ("failed", "error")):  # of a subtest
            kept["outcome"] = record["outcome"]
        if "measurements" in record:
            kept["baselines"] = record.get("baselines")
            kept["better"] = [
                metric
                for measurement in record["measurements"]
                for metric in measurement["metrics"]
                if (metric["baseline"] or {}).get("verdict") == "better"
            ]

    # What comes of it ---------------------------------------------------------------------------------------------

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if flag(self.config, "update_baselines"):
            done = self._update()
        else:
            done = True
            self._told.extend(self._improvements())
        done &= self._prune()
        if not done and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._told:
            terminalreporter.section("cnnaudit baselines")
        for line, colour in dict.fromkeys(self._told):
            terminalreporter.write_line(terminal.line(line), **{colour: True for colour in (colour,) if colour})

    def _say(self, line: str, colour: str = "") -> None:
        self._told.append((line, colour))

    def _improvements(self) -> Iterator[tuple[str, str]]:
        for test, kept in self._audits.items():
            for metric in kept["better"]:
                before = metric["baseline"]
                known = None not in (metric["value"], before["value"])
                step = f" ({signed(metric['value'] - before['value'], metric['unit'])})" if known else ""
                told = f"{before['display']} → {metric['display']}{step}"
                yield f"better: {test}  {metric['name']} {told}", "green"
        if any(kept["better"] for kept in self._audits.values()):
            from pytest_cnnaudit.accepting import command

            report, here = shown_report(self.config), self.config.invocation_params.dir
            yield f"accept what is better as the baseline: {command(report, root=self.config.rootpath, here=here)}", ""

    def _update(self) -> bool:
        """Write what was measured; whether that went well."""
        from pytest_cnnaudit.baselines.changes import changes, tally
        from pytest_cnnaudit.baselines.file import BaselineError, update

        done, told = True, []
        for path, entries in sorted(self._measured().items()):
            try:
                found = changes(path, entries)
                update(path, entries)
            except (BaselineError, OSError) as error:
                self._say(str(error), "red")
                done = False
                continue
            told += found
        for change in told:
            if change.is_news:
                self._say(change.line)
        self._say(f"baselines: {tally(told) or 'none'} of what this run measured")
        if left := [test for test, kept in self._audits.items() if kept["baselines"] and not _has_verdict(kept)]:
            self._say(f"not updated, for they came to no verdict: {', '.join(left)}", "yellow")
        return done

    def _measured(self) -> dict[Path, Entries]:
        found: dict[Path, Entries] = {}
        for test, kept in sorted(self._audits.items()):
            if kept["baselines"] and _has_verdict(kept):
                path = self.config.rootpath / kept["baselines"]["file"]
                found.setdefault(path, {})[test] = kept["baselines"]["entries"]
        return found

    def _prune(self) -> bool:
        """Say which baselines are unused, and remove them if asked; whether that went well."""
        asked = flag(self.config, "prune_baselines")
        if reasons := list(self._not_whole()):
            if asked:
                self._say(f"no baseline was removed: the run was not whole ({', '.join(reasons)})", "red")
            return True
        from pytest_cnnaudit.baselines.file import BaselineError, remove
        from pytest_cnnaudit.baselines.unused import baseline_files, unused

        run, count, done = self._whole_run(), 0, True
        for path in baseline_files(self._places(), self.config.getini("norecursedirs")):
            try:
                names = unused(path, run)
                if asked:
                    names = remove(path, names)
            except (BaselineError, OSError) as error:
                self._say(str(error), "red")
                done = not asked
                continue
            count += len(names)
            for test, metric in names:
                self._say(f"{'removed' if asked else 'unused'}: {test}  {metric}")
        if asked:
            self._say(f"baselines removed: {count or 'none is unused'}")
        elif count:
            self._say(f"baselines that no test uses: {count}; --cnnaudit-prune-baselines removes them", "yellow")
        return done

    # Was it the whole suite? --------------------------------------------------------------------------------------

    def _collections(self) -> list[dict[str, Any]]:
        return self._from_workers if self._here.told is None else [self._here.told]

    def _whole_run(self) -> WholeRun:
        from pytest_cnnaudit.baselines.unused import WholeRun

        tests, modules, skipped = (
            {each for told in self._collections() for each in told[key]} for key in ("tests", "modules", "skipped")
        )
        compared = {test: (kept["baselines"] or {}).get("entries", {}) for test, kept in self._audits.items()}
        asked = {test: set(compared.get(test, ())) for test, end in self._ends.items() if end == "passed"}
        return WholeRun(self.config.rootpath, modules, skipped, tests, asked)

    def _places(self) -> Iterator[Path]:
        return (self.config.invocation_params.dir / argument for argument in self.config.args)

    def _not_whole(self) -> Iterator[str]:
        """Why tests may have been left out, or left without their verdict."""
        if narrowed := narrowed_by(self.config, 0):
            yield narrowed
        if self.config.getoption("collectonly", False):
            yield "--collect-only"
        collections, counts = self._collections(), self._breaks.copy()
        counts["{} test{s} deselected"] = max((told["left_out"] for told in collections), default=0)
        silent = self._workers - len(self._from_workers) - counts["{} worker{s} crashed"]
        counts["{} worker{s} did not say what they collected"] = silent
        counts["{} audit{s} had an error"] = sum(kept["outcome"] == "error" for kept in self._audits.values())
        tests = {test for told in collections for test in told["tests"]}
        counts["{} test{s} did not run"] = sum(self._ends.get(test, "started") == "started" for test in tests)
        for text, number in counts.items():
            if number > 0:
                yield text.format(number, s="" if number == 1 else "s")
        if not self._is_through or not collections:
            yield "it was cut short"


def _has_verdict(kept: dict[str, Any]) -> bool:
    return kept["outcome"] in ("passed", "failed", "xfailed", "xpassed")
