"""A report of two runs: the new one's, with the old figures as baselines, and the same samples' pictures of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pytest_cnnaudit.gallery.compare import (
    INCOMPARABLE,
    Comparison,
    Record,
    by_measurement,
    differences,
    judged,
    keyed,
    name_of,
)
from pytest_cnnaudit.gallery.read import check_out, short_names
from pytest_cnnaudit.gallery.report import write_report


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write the new run's report with the old one's figures as baselines, and the same samples' pictures of both.

    Raises:
        ReportFolderError: `out` would overwrite something.
    """
    old, new = comparison.old, comparison.new
    check_out(out, [old, new])
    name, own_name = short_names([old.folder, new.folder])
    before = {test["id"]: test for test in old.tests}
    tests = [_beside(before[test["id"]], test, name) if test["id"] in before else test for test in new.tests]
    compared = comparison.summary.replace("OLD", name).replace("NEW", own_name)
    notes = [f"{own_name} compared with {name}. {compared}"]
    notes += [
        f"Only in {where}: {_listed(ids)}."
        for where, ids in ((name, comparison.only_old), (own_name, comparison.only_new))
        if ids
    ]
    run = {**new.run, "notes": [*notes, *new.run["notes"]]}
    write_report(out, run, tests, [new.folder, old.folder])


def _beside(old: Record, new: Record, name: str) -> Record:
    befores = by_measurement(old)
    measurements = [
        _measurement_beside(old, new, befores[key], measurement, name) if key in befores else measurement
        for key, measurement in by_measurement(new).items()
    ]
    return {**new, "measurements": measurements}


def _measurement_beside(old_test: Record, new_test: Record, old: Record, new: Record, name: str) -> Record:
    befores = keyed(old["metrics"], name_of)
    reasons = tuple(differences(old_test, new_test, old, new))
    metrics = []
    for key, metric in keyed(new["metrics"], name_of).items():
        before = befores.get(key)
        if before is not None and judged("", before, metric, reasons).verdict != INCOMPARABLE:
            baseline = {"value": before["value"], "display": before["display"], "ci95": before["ci95"], "of": name}
            metric = {**metric, "baseline": baseline}  # noqa: PLW2901 - the same metric, one fact richer
        metrics.append(metric)
    notes = [*new["notes"], *([f"Measured otherwise in {name}: {'; '.join(reasons)}."] if reasons else [])]
    exhibits = list(_exhibits_beside(old["exhibits"], new["exhibits"]))
    return {**new, "metrics": metrics, "notes": notes, "exhibits": exhibits}


def _exhibits_beside(old: Iterable[Record], new: Iterable[Record]) -> Iterator[Record]:
    befores = keyed((each for each in old if each["kind"] == "rows"), _title)
    afters = keyed((each for each in new if each["kind"] == "rows"), _title)
    twins = {id(exhibit): befores[key] for key, exhibit in afters.items() if key in befores}
    for exhibit in new:
        twin = twins.get(id(exhibit))
        yield from (exhibit,) if twin is None else _rows_beside(twin, exhibit)


def _rows_beside(old: Record, new: Record) -> Iterator[Record]:
    """The rows that are in both; after them, as exhibits of their own, those in one, whose columns are other ones."""
    befores, afters = keyed(old["rows"], _title), keyed(new["rows"], _title)
    both = [key for key in afters if key in befores and _is_even(old, befores[key]) and _is_even(new, afters[key])]
    pairs = [(befores[key], afters[key]) for key in both]
    if pairs:
        once = all(before["pictures"][0]["src"] == after["pictures"][0]["src"] for before, after in pairs)
        yield {
            **new,
            "columns": _columns_beside(old, new, pairs, once=once),
            "rows": [_row_beside(before, after, once=once) for before, after in pairs],
        }
    for exhibit, rows, word in ((new, afters, "only in the new run"), (old, befores, "only in the old run")):
        others = [row for key, row in rows.items() if key not in both]
        if others:
            yield {**exhibit, "title": f"{exhibit['title']}, {word}", "rows": others}


def _is_even(exhibit: Record, row: Record) -> bool:
    """Pictures are under the columns they belong to only where none is lacking."""
    return len(row["pictures"]) == (len(exhibit["columns"]) or len(exhibit["rows"][0]["pictures"])) > 0


def _columns_beside(old: Record, new: Record, pairs: Sequence[tuple[Record, Record]], *, once: bool) -> list[str]:
    before = [f"{name} (old)" for name in old["columns"]] or ["old"] * len(pairs[0][0]["pictures"])
    after = list(new["columns"]) or ["new"] * len(pairs[0][1]["pictures"])
    return [after[0] if new["columns"] else "both", *before[1:], *after[1:]] if once else [*before, *after]


def _row_beside(old: Record, new: Record, *, once: bool) -> Record:
    pictures = [*new["pictures"][:1], *old["pictures"][1:], *new["pictures"][1:]] if once else None
    figures: dict[str, str] = {}
    for name in {**new["figures"], **old["figures"]}:
        before, after = old["figures"].get(name), new["figures"].get(name)
        figures |= {} if after is None else {name: after}
        figures |= {} if before in (None, after) else {f"{name} before": before}
    if old["status"] != new["status"]:
        figures["before"] = old["status"] or "no status"
    return {**new, "figures": figures, "pictures": pictures or [*old["pictures"], *new["pictures"]]}


def _title(record: Record) -> str:
    return str(record["title"])


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
