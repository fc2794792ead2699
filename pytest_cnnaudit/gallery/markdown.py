"""A run as GitHub-flavoured Markdown: for the summary of a step, and for a comment on a pull request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytest_cnnaudit.amounts import rounded
from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.gallery import plain
from pytest_cnnaudit.gallery.costs import cache_words, passes
from pytest_cnnaudit.gallery.judged import (
    SIGNS,
    distance,
    headline_metrics,
    held,
    interval_of,
    is_close,
    judged_metrics,
    metrics_of,
    verdict_of,
)
from pytest_cnnaudit.gallery.outcomes import WORDS
from pytest_cnnaudit.gallery.since import change_words, gain, step
from pytest_cnnaudit.gallery.story import story

MARKER = "<!-- pytest-cnnaudit -->"
"""The first line of a pull-request report: whoever posts it finds the last one by it, to update it."""
COMMENT_LIMIT = 65_536
STEP_SUMMARY_LIMIT = 1024 * 1024

_MARKS = {"failed": "❌", "passed": "✅", "xfailed": "✅", "skipped": "⏭"}
_METRICS = 8  # of one audit
_LINES = 10  # of notes, of reasons and of models


def summary_table(
    run: Mapping[str, Any], records: Iterable[dict[str, Any]], link: str = "", *, limit: int = STEP_SUMMARY_LIMIT
) -> str:
    """The verdict, and a table with one line an audit, worst first.

    Args:
        run: facts about the run, as in ``report.json``.
        records: its tests.
        link: where the report is; audits link into it where that is a web address.
        limit: bytes; what is over it is left out from the end, and counted.
    """
    records = list(records)
    head, tail = _head(run, records), _skipped(records) + _pointer(link)
    table, _ = _table(records, link, limit - _size(head + tail))
    return head + table + tail


def pull_request_report(
    run: Mapping[str, Any], records: Iterable[dict[str, Any]], link: str = "", *, limit: int = COMMENT_LIMIT
) -> str:
    """The text of a comment: what `summary_table` has, every failure, what changed, and how it was run."""
    records = list(records)
    head = f"{MARKER}\n{_head(run, records)}"
    tail = _skipped(records) + _facts(run, records) + _pointer(link)
    room = limit - _size(head + tail)
    table, used = _table(records, link, room // 2)
    changes, also = _changes(records, link, (room - used) // 2)
    return head + table + changes + _failures(records, room - used - also) + tail


def write_pull_request_report(
    folder: Path, run: Mapping[str, Any], records: Iterable[dict[str, Any]], link: str = ""
) -> None:
    """Write ``report.md`` into a report's folder."""
    text = pull_request_report(run, records, link)
    write_atomically(folder / "report.md", text.encode("utf-8", "replace"))


def verdict(run: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """A mark and a sentence, as the page has it: a run that did not reach its end must not read as a clean one."""
    ran = [record for record in records if record["outcome"] != "skipped"]
    count = Counter(record["outcome"] for record in ran)
    audits = f"{len(ran)} audit{'s' * (len(ran) != 1)}"
    broken = count["error"] + count["crashed"]
    so_far = " so far" if run["status"] == "running" else ""
    if count["failed"]:
        also = f", {broken} could not finish" if broken else ""
        return "❌", f"{count['failed']} of {audits} fell short{also}{so_far}"
    if broken:
        return "⚠️", f"{broken} of {audits} could not finish{so_far}"
    if not any(record.get("measurements") for record in ran):
        return "⚠️", f"Nothing was measured{so_far}"
    if count["passed"] < len(ran):
        return "⚠️" if count["xpassed"] else "✅", f"{count['passed']} of {audits} passed{so_far}"
    which = " that ran" if run["status"] == "interrupted" else ""
    words = f"The only audit{which} passed" if len(ran) == 1 else f"All {audits}{which} passed"
    return "✅" if run["status"] == "finished" else "⚠️", words + so_far


def worst_first(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What fell short, the farthest from its threshold first; then what passed, the closest first."""
    order = list(WORDS)

    def severity(record: dict[str, Any]) -> tuple[int, float]:
        judged = [(metric, limit) for metric in judged_metrics(record) for limit in metric["thresholds"]]
        passed = record["outcome"] == "passed"  # then a miss was wanted, as one under pytest.raises
        distances = [(distance(each), each[1]["holds"] or passed) for each in judged if each[0]["value"] is not None]
        outcome = record["outcome"] if record["outcome"] in order else "error"
        return order.index(outcome), min((far if held else -far for far, held in distances), default=math.inf)

    return sorted(records, key=severity)


# Parts of a text, each a paragraph or empty -----------------------------------------------------------------------


def _head(run: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    mark, words = verdict(run, records)
    notes = [plain.text(note) for note in run.get("notes", ())[:_LINES]]
    clean = not any(record["outcome"] in ("failed", "error", "crashed") for record in records)
    if clean and run["status"] == "finished" and run.get("exit_status"):
        notes.append(
            f"pytest ended with exit status {run['exit_status']}, although no audit failed: see its own output."
        )
    return f"### {mark} {words}\n\n" + ("".join(f"- ⚠️ {note}\n" for note in notes) + "\n" if notes else "")


def _table(records: Iterable[dict[str, Any]], link: str, room: int) -> tuple[str, int]:
    head = "| | Audit | Measured | Model |\n|---|---|---|---|\n"
    rows = [_row(record, link) for record in worst_first(records) if record["outcome"] != "skipped"]
    return _section(head, rows, "\n", room, "audit")


def _row(record: dict[str, Any], link: str) -> str:
    metrics = headline_metrics(record)
    metrics = sorted(metrics, key=lambda metric: all(limit["holds"] for limit in metric["thresholds"]))  # missed first
    lines = [_metric(metric) for metric in metrics[:_METRICS]]
    lines += [f"and {len(metrics) - _METRICS} more"] * (len(metrics) > _METRICS)
    model = plain.code(record["model"]["name"]) if record.get("model") else ""
    measured = "<br>".join(lines) or plain.text(story(record))
    return f"| {_mark(record)} | {_named(record, link)} | {measured} | {model} |\n"


def _metric(metric: Mapping[str, Any]) -> str:
    ends = interval_of(metric)
    interval = f" ({rounded(ends[0], '')}–{rounded(ends[1], '')})" if ends else ""
    limits = "; ".join(_threshold(metric, limit) for limit in metric["thresholds"])
    return f"{plain.text(metric['name'])} <b>{plain.text(metric['display'])}</b>{interval} {limits}".rstrip()


def _threshold(metric: Any, limit: Any) -> str:
    asked = f"{plain.text(limit['on'])} {plain.text(SIGNS.get(limit['op'], limit['op']))} {limit['value']:.4g}".strip()
    if limit["holds"]:
        return asked
    if metric["value"] is None:
        return f"{asked}, <b>missed</b>"
    gap = rounded(abs(held(metric, limit) - limit["value"]), metric["unit"])
    return f"{asked}, <b>missed by {plain.text(gap)}</b>{', a close call' * is_close(metric, limit)}"


def _skipped(records: Iterable[dict[str, Any]]) -> str:
    reasons = Counter(
        record.get("message", "").removeprefix("Skipped: ") for record in records if record["outcome"] == "skipped"
    )
    if not reasons:
        return ""
    lines = [
        f"- {count} × {plain.code(reason or 'no reason given')}\n" for reason, count in reasons.most_common(_LINES)
    ]
    lines += [f"- and {len(reasons) - _LINES} more reasons\n"] * (len(reasons) > _LINES)
    return f"⏭ {reasons.total()} skipped:\n\n{''.join(lines)}\n"


def _changes(records: Iterable[dict[str, Any]], link: str, room: int) -> tuple[str, int]:
    """Metrics that have a baseline: what got worse by more than chance first."""
    found = [(record, metric) for record in records for metric in metrics_of(record) if metric.get("baseline")]
    found = [each for each in found if verdict_of(each[1]) or step(each[1]) is not None]
    changed = [each for each in found if verdict_of(each[1]) != "same" and step(each[1]) != 0]
    rows = [_change(*each, link) for each in sorted(changed, key=lambda each: gain(each[1]))]
    if not found:
        return "", 0
    head = "| Audit | Metric | Before | Now | Change |\n|---|---|---|---|---|\n" if rows else ""
    return _section(
        f"#### Against the baseline\n\n{len(changed)} of {len(found)} figures changed.\n\n{head}",
        rows,
        "\n",
        room,
        "change",
    )


def _change(record: dict[str, Any], metric: dict[str, Any], link: str) -> str:
    before = metric["baseline"]
    of = f" ({plain.text(before['of'])})" if before.get("of") else ""
    shown = f"{plain.text(metric['name'])} | {plain.text(before['display'])}{of} | {plain.text(metric['display'])}"
    return f"| {_named(record, link)} | {shown} | {plain.text(change_words(metric))} |\n"


def _failures(records: Iterable[dict[str, Any]], room: int) -> str:
    told = [record for record in worst_first(records) if record["outcome"] not in ("passed", "xfailed", "skipped")]
    return _section("", [_failure(record) for record in told], "", room, "message")[0]


def _failure(record: dict[str, Any]) -> str:
    title = f"{_mark(record)}: {plain.code(record['id'])}"
    message = plain.fenced(record["message"]) if record.get("message") else ""
    return f"<details><summary>{title}</summary>\n\n{plain.text(story(record))}\n\n{message}</details>\n\n"


def _facts(run: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    models = sorted({_model(record["model"]) for record in records if record.get("model")})
    facts = {
        "Models": ", ".join(models[:_LINES]) + f" and {len(models) - _LINES} more" * (len(models) > _LINES),
        "Device": plain.code(run["device"]) if run.get("device") else "",
        "Seed": plain.text(run.get("seed", "")),
        "Started": plain.text(run.get("started", "")),
        "Duration": f"{run['duration']:.0f} s" if run.get("duration") is not None else "",
        "Passes": f"{passes(records, 'forward'):,} forward, {passes(records, 'backward'):,} backward",
        "From the cache": cache_words(records),
        "Versions": ", ".join(
            f"{plain.text(name)} {plain.text(number)}" for name, number in run.get("versions", {}).items()
        ),
        "Command": plain.code(run["command"]) if run.get("command") else "",
    }
    lines = "".join(f"- {name}: {text}\n" for name, text in facts.items() if text)
    return f"<details><summary>How it was run</summary>\n\n{lines}\n</details>\n\n"


def _model(model: Mapping[str, Any]) -> str:
    digest = f" {plain.code(model['digest'][:12])}" if model.get("digest") else ""
    return f"{plain.code(model['name'])}{digest}"


def _pointer(link: str) -> str:
    if not link:
        return ""
    where = f"[the gallery]({plain.address(link)})" if plain.is_web(link) else plain.code(link)
    return f"The pictures are in {where}.\n"


# Records ----------------------------------------------------------------------------------------------------------


def _mark(record: Mapping[str, Any]) -> str:
    outcome = record["outcome"]
    return f"{_MARKS.get(outcome, '⚠️')} {WORDS.get(outcome, WORDS['error'])}"


def _named(record: Mapping[str, Any], link: str) -> str:
    name = plain.code(record["id"])
    return (
        f"[{name}]({plain.address(link)}#{quote(record['id'], safe='/:', errors='replace')})"
        if plain.is_web(link)
        else name
    )


# Limits -----------------------------------------------------------------------------------------------------------


def _section(head: str, pieces: Sequence[str], end: str, room: int, what: str) -> tuple[str, int]:
    """As many pieces as fit, from the first, and a word on those that do not; and the room that this took."""
    if not pieces:
        text = head if head.startswith("#") else ""
        return (text, _size(text)) if _size(text) <= room else ("", 0)
    free = room - _size(head + end) - 60  # bytes for the word
    kept = 0
    while kept < len(pieces) and (free := free - _size(pieces[kept])) >= 0:
        kept += 1
    left = len(pieces) - kept
    more = f"\nand {left:,} more {what}{'s' * (left != 1)}, in the report.\n\n" if left else ""
    text = (head + "".join(pieces[:kept]) + end if kept else "") + more
    return text, _size(text)


def _size(text: str) -> int:
    """In bytes: GitHub counts those of a step summary, and of a comment the characters, which are never more."""
    return len(text.encode("utf-8", "replace"))
