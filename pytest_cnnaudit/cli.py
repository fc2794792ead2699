"""The command ``cnnaudit``: what can be done with reports once they are written. Imports neither torch nor pytest."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_cnnaudit import accepting, terminal
from pytest_cnnaudit.amounts import signed
from pytest_cnnaudit.gallery import ReportFolderError, plain
from pytest_cnnaudit.gallery.beside import write_comparison
from pytest_cnnaudit.gallery.compare import SAME, Comparison, MetricChange, TestChange, read_both
from pytest_cnnaudit.gallery.markdown import verdict
from pytest_cnnaudit.gallery.merge import merge
from pytest_cnnaudit.gallery.outcomes import WORDS
from pytest_cnnaudit.gallery.read import StoredReport, read_report
from pytest_cnnaudit.gallery.story import headline

_WIDTH = 100
_DEFAULT = Path("cnnaudit-report")
_NO_VERDICT = ("error", "crashed")
_COLOURS = {"better": "32", "worse": "31", "passed": "32", "failed": "31", "error": "31", "crashed": "31"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 where it did its work, 2 where it was given something that it cannot work with."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # a terminal may have no letter for ‖δ‖
            reconfigure(errors="backslashreplace")
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ReportFolderError, OSError) as error:
        sys.stderr.write(f"cnnaudit {given.command}: {terminal.line(str(error))}\n")
        return 2
    return 0


# merge ------------------------------------------------------------------------------------------------------------


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="the folder of a report")
    parser.add_argument("-o", "--out", required=True, type=Path, help="the folder of the report of all")
    parser.add_argument("--mixed", action="store_true", help="merge reports of different seeds, too")


def _merge(given: argparse.Namespace) -> None:
    merge(given.reports, given.out, mixed=given.mixed)
    terminal.write(_shown(read_report(given.out), tests=False, colour=terminal.in_colour(sys.stdout)))


# compare ----------------------------------------------------------------------------------------------------------


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD", help="the folder of the report of the earlier run")
    parser.add_argument("new", type=Path, metavar="NEW", help="the folder of the report of the later run")
    parser.add_argument(
        "-o", "--out", type=Path, help="also write NEW's report with the figures and the pictures of OLD beside its own"
    )
    parser.add_argument(
        "--format", choices=("text", "markdown", "json"), default="text", help="of what is printed (default: text)"
    )


def _compare(given: argparse.Namespace) -> None:
    comparison = read_both(given.old, given.new)
    if given.out is not None:
        write_comparison(comparison, given.out)
    if given.format == "json":
        sys.stdout.write(json.dumps(_as_json(comparison), indent=2) + "\n")
        return
    terminal.write(
        _as_markdown(comparison) if given.format == "markdown" else _as_text(comparison, terminal.in_colour(sys.stdout))
    )


def _as_text(comparison: Comparison, colour: bool) -> Iterator[str]:
    for name, report in (("OLD", comparison.old), ("NEW", comparison.new)):
        yield terminal.fit(f"{name}  {report.folder}, {_facts(report.run)}", _WIDTH)
    told = [test for test in comparison.tests if test.old != test.new or any(map(_is_news, test.metrics))]
    cells = {id(change): _cells(change) for test in told for change in test.metrics if _is_news(change)}
    widths = [max((terminal.columns(row[at]) for row in cells.values()), default=0) for at in range(5)]
    widths[0] = min(widths[0], _WIDTH - 2 - sum(widths[1:]) - 2 * 4)
    for test in told:
        outcome = f"  {_word(test.old)} → {_word(test.new)}" if test.old != test.new else ""
        painted = terminal.paint(outcome, _COLOURS.get(test.new, "1"), colour)
        yield ""
        yield terminal.paint(terminal.fit(test.id, _WIDTH - len(outcome)), "1", colour) + painted
        news = [change for change in test.metrics if _is_news(change)]
        for change in news:
            name, *figures, word = cells[id(change)]
            numbers = (terminal.pad(text, width, left=True) for text, width in zip(figures, widths[1:4], strict=True))
            line = "  ".join([terminal.pad(name, widths[0]), *numbers])
            yield f"  {line}  {terminal.paint(word, _COLOURS.get(word, ''), colour)}"
        for reasons in dict.fromkeys(change.reasons for change in news if change.reasons):
            yield from textwrap.wrap(
                terminal.line("; ".join(reasons)), _WIDTH, initial_indent="    ", subsequent_indent="    "
            )
    if same := sum(not _is_news(change) for test in comparison.tests for change in test.metrics):
        yield f"\n{same} metric{' is' if same == 1 else 's are'} the same."
    for word, ids in (("OLD", comparison.only_old), ("NEW", comparison.only_new)):
        if ids:
            yield f"\nOnly in {word}:"
            yield from (f"  {terminal.fit(each, _WIDTH - 2)}" for each in ids)
    yield f"\n{comparison.summary}"


def _is_news(change: MetricChange) -> bool:
    return change.verdict != SAME


def _cells(change: MetricChange) -> tuple[str, str, str, str, str]:
    old, new = ("–" if each is None else terminal.fit(each["display"], 14) for each in (change.old, change.new))
    return terminal.line(change.name), old, new, terminal.fit(_step(change), 14), change.verdict


def _step(change: MetricChange) -> str:
    step, of = change.change, change.new
    if step is None or of is None:
        return ""
    return signed(step, of["unit"])


def _as_markdown(comparison: Comparison) -> Iterator[str]:
    yield f"**{plain.text(comparison.summary)}**"
    rows = [(test, change) for test in comparison.tests for change in test.metrics]
    notable = [row for row in rows if row[1].verdict not in ("same", "within the interval")]
    outcomes = [test for test in comparison.tests if test.old != test.new]
    if outcomes:
        yield ""
    for test in outcomes:
        yield f"- {plain.code(test.id)}: {_word(test.old)} → **{_word(test.new)}**"
    if notable:
        yield from ("", *_markdown_table(notable))
    if rest := [row for row in rows if row not in notable]:
        yield from ("", f"<details><summary>{len(rest)} the same or within the interval</summary>", "")
        yield from (*_markdown_table(rest), "", "</details>")
    for word, ids in (("OLD", comparison.only_old), ("NEW", comparison.only_new)):
        if ids:
            yield from ("", f"Only in {word}: {', '.join(map(plain.code, ids))}")


def _markdown_table(rows: Iterable[tuple[TestChange, MetricChange]]) -> Iterator[str]:
    yield from ("| Test | Metric | Old | New | Change | |", "|---|---|--:|--:|--:|---|")
    for test, change in rows:
        name, old, new, step, word = _cells(change)
        cells = [plain.code(test.id), *map(plain.text, (name, old, new, step, "; ".join((word, *change.reasons))))]
        yield f"| {' | '.join(cells)} |"


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "old": str(comparison.old.folder),
        "new": str(comparison.new.folder),
        "summary": comparison.summary,
        "tests": [
            {
                "id": test.id,
                "old": test.old,
                "new": test.new,
                "metrics": [
                    {
                        "name": change.name,
                        "old": change.old and change.old["value"],
                        "new": change.new and change.new["value"],
                        "change": change.change,
                        "unit": (change.new or change.old or {})["unit"],
                        "verdict": change.verdict,
                        "reasons": list(change.reasons),
                    }
                    for change in test.metrics
                ],
            }
            for test in comparison.tests
        ],
        "only_old": list(comparison.only_old),
        "only_new": list(comparison.only_new),
    }


# show -------------------------------------------------------------------------------------------------------------


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", nargs="?", default=_DEFAULT, type=Path, metavar="REPORT", help=f"default: {_DEFAULT}")
    parser.add_argument("--failed", action="store_true", help="only what fell short or has no verdict")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def _show(given: argparse.Namespace) -> None:
    report = read_report(given.report)
    terminal.write(_shown(report, failed=given.failed, colour=terminal.in_colour(sys.stdout)))
    if given.open:
        webbrowser.open(_page(report).absolute().as_uri())


def _shown(report: StoredReport, *, tests: bool = True, failed: bool = False, colour: bool) -> Iterator[str]:
    yield terminal.paint(verdict(report.run, report.tests)[1], "1", colour)
    yield terminal.line(_facts(report.run))
    for test in report.tests if tests else ():
        outcome = test["outcome"]
        if not failed or outcome == "failed" or outcome in _NO_VERDICT:
            told = headline(test) or test["message"].strip().partition("\n")[0]
            yield (
                terminal.paint(f"{terminal.line(outcome).upper():8}", _COLOURS.get(outcome, "33"), colour)
                + terminal.line(f"{test['id']}  {told}").rstrip()
            )
    if report.run["status"] == "running":
        yield "! The run had not finished when this was written."
    for note in report.run["notes"]:
        yield f"! {terminal.line(note)}"
    yield str(_page(report))


def _page(report: StoredReport) -> Path:
    return report.folder / "index.html"


def _facts(run: dict[str, Any]) -> str:
    seed = "not known" if run["seed"] is None else run["seed"]
    end = "" if run["status"] == "finished" else ", not finished"
    return f"{run['started']}, {run['duration']:.1f} s, device {run['device'] or 'not known'}, seed {seed}{end}"


def _word(outcome: str) -> str:
    return WORDS.get(outcome, terminal.line(outcome))


# The commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Command:
    help: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


_COMMANDS = {
    "merge": _Command(
        "put the reports of a suite's shards together into one",
        "cnnaudit merge shards/1/cnnaudit-report shards/2/cnnaudit-report -o cnnaudit-report",
        _merge_arguments,
        _merge,
    ),
    "compare": _Command(
        "say what changed from one run to another, the worst first",
        "cnnaudit compare release/cnnaudit-report cnnaudit-report -o cnnaudit-compared",
        _compare_arguments,
        _compare,
    ),
    "show": _Command(
        "print a report: the verdict, a line for each test, and where the page is",
        "cnnaudit show cnnaudit-report --failed",
        _show_arguments,
        _show,
    ),
    "accept": _Command(
        "take what a report measured as baselines, after a look at its page",
        "cnnaudit accept cnnaudit-report --only 'tests/test_audit.py::test_not_worse[v1]'",
        accepting.arguments,
        accepting.run,
    ),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cnnaudit", description="Work with the reports of pytest --cnnaudit.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        described = f"{command.help[0].upper()}{command.help[1:]}."
        added = commands.add_parser(
            name,
            help=command.help,
            description=described,
            epilog=f"example: {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # an example is to be copied: no line breaks
        )
        command.arguments(added)
        added.set_defaults(run=command.run)
    return parser
