"""What came of a comparison, in words and in tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_cnnaudit.amounts import rounded, signed
from pytest_cnnaudit.baselines.check import Entry
from pytest_cnnaudit.baselines.compare import Change, remarks
from pytest_cnnaudit.baselines.kept import Baselines
from pytest_cnnaudit.results import Exhibit, Measurement, Metric, Table, TableRow

_SHOWN = 16
_NAMED = 4
_STATUS = {"worse": "failed", "better": "passed", "same": "passed"}


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric beside its baseline.

    Attributes:
        metric: as measured now.
        ids: of the samples.
        name: of the metric in the file.
        before: the baseline; None where there is none.
        now: what was measured, as an entry.
        tolerance: by how much the figure may be worse.
        change: how it differs; None where the two cannot be compared.
        differences: why they cannot, in words.
    """

    metric: Metric
    ids: tuple[str, ...]
    name: str
    before: Entry | None
    now: Entry
    tolerance: float
    change: Change | None
    differences: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any] | None:
        """What the report says of the metric's baseline; None where it was not compared."""
        if self.before is None or self.change is None:
            return None
        value = float(self.before["value"])
        interval = self.before["ci95"]
        return {
            "value": _finite(value),
            "display": self.before["display"],
            "ci95": None if interval is None else [_finite(float(end)) for end in interval],
            "of": f"the baseline of {self.before['measured']}",
            "verdict": self.change.verdict,
            "test": self.change.test,
            "tolerance": self.tolerance,
            "lost": len(self.change.lost),
            "gained": len(self.change.gained),
        }


def missing(found: Compared, baselines: Baselines) -> str:
    """That there is no baseline, or none that this can be compared with, and what to do."""
    look = f" ({found.metric.link})" if found.metric.link else ""
    if found.before is None:
        return (
            f"there is no baseline for {found.metric!r} in {baselines.where}: look at it in the gallery{look}, then "
            f"accept it{_how(baselines)}"
        )
    return (
        f"{found.metric!r} cannot be compared with its baseline of {found.before['measured']} in {baselines.where}, "
        f"which is of something else: {'; '.join(found.differences)}. Measure as then, or look at it in the "
        f"gallery{look} and accept it{_how(baselines)}"
    )


def regression(found: Compared, before: Entry, change: Change, baselines: Baselines) -> str:
    """That a figure is worse, in the manner of a plain assert."""
    metric = found.metric
    lines = [
        f"assert {metric!r} is not worse than the baseline of {before['measured']}, {_figure(before)}",
        f"worse by {_amount(change.drop, metric)}, tolerance {_amount(found.tolerance, metric)}; {change.test}",
    ]
    if found.ids and (change.lost or change.gained):
        names = [found.ids[place] for place in change.lost[:_NAMED]]
        more = ", …" if len(change.lost) > _NAMED else ""
        lines.append(f"lost: {_samples(change.lost)} ({', '.join(names)}{more}); gained: {len(change.gained)}")
    if change.unpaired:
        lines.append(f"{change.unpaired} more have a value in one of both runs only")
    if others := remarks(before, found.now):
        lines.append(f"since then: {', '.join(others)}")
    lines += [line for line in (*metric.story, metric.link) if line]
    return "\n  ".join([*lines, f"if this is as it should be, accept it{_how(baselines)}"])


def note_of(found: Compared, baselines: Baselines) -> str:
    """One sentence for the report."""
    name, before, change = found.metric.name, found.before, found.change
    kept = " What was measured now takes its place." if baselines.updating else ""
    if before is None:
        return f"There was no baseline for {name} yet.{kept}"
    if change is None:
        return (
            f"{name[0].upper()}{name[1:]} was not compared with the baseline of {before['measured']}, which is of "
            f"something else: {'; '.join(found.differences)}.{kept}"
        )
    others = remarks(before, found.now)
    since = f" Since then: {', '.join(others)}." if others else ""
    return (
        f"{name[0].upper()}{name[1:]} against the baseline of {before['measured']}: {change.verdict} "
        f"({_figure(before)} then; {change.test}).{since}{kept if change.verdict != 'same' else ''}"
    )


def exhibits_of(measurement: Measurement, compared: Sequence[Compared]) -> tuple[Exhibit | Table, ...]:
    """A table of the figures then and now, and the samples that were lost."""
    pairs = [(each, each.before, each.change) for each in compared if each.before and each.change]
    if not pairs:
        return ()
    rows = tuple(
        TableRow(
            (
                each.metric.name,
                _figure(before),
                f"{each.metric.display}{each.metric.uncertainty}",
                _signed(before, each.now),
                f"{change.test}{f'; tolerance {_amount(each.tolerance, each.metric)}' if each.tolerance else ''}",
                change.verdict,
            ),
            _STATUS.get(change.verdict, "note"),
        )
        for each, before, change in pairs
    )
    columns = ("metric", "then", "now", "change", "chance", "verdict")
    text = "Each figure beside the one that was accepted last, compared sample by sample where their values are known."
    lost = [
        _lost(measurement, each, change, of=f": {each.metric.name}" if len(pairs) > 1 else "")
        for each, _, change in pairs
        if change.lost and each.ids
    ]
    return (Table("Since the baseline", text, columns, rows), *lost)


def _lost(measurement: Measurement, found: Compared, change: Change, *, of: str) -> Exhibit | Table:
    ids = [found.ids[place] for place in change.lost[:_SHOWN]]
    cut = f" The first {_SHOWN} of {len(change.lost)}." if len(change.lost) > _SHOWN else ""
    title = f"Lost since the baseline{of}"
    text = f"Samples whose value is worse than then, the largest loss first.{cut}"
    shown = [each for each in measurement.exhibits if isinstance(each, Exhibit) and each.kind == "samples"]
    tiles = {row.title: row for each in shown for row in each.rows}
    if not all(name in tiles for name in ids):
        return Table(title, text, ("sample",), tuple(TableRow((name,)) for name in ids))
    return Exhibit(title, text, tuple(tiles[name] for name in ids), kind="grid")


def _how(baselines: Baselines) -> str:
    return (
        f": {baselines.accept}, or run with --cnnaudit-update-baselines"
        if baselines.accept
        else (", with baselines.file.update or by a run with --cnnaudit-update-baselines")
    )


def _figure(entry: Entry) -> str:
    counted = f"{entry['count']} of {entry['n']}" if entry["count"] is not None else f"n {entry['n']}"
    return f"{entry['display']} ({counted})"


def _amount(size: float, metric: Metric) -> str:
    return rounded(size, metric.unit) if math.isfinite(size) else "more than any number"


def _signed(before: Entry, entry: Entry) -> str:
    """The change of the figure itself, whatever its better direction."""
    then, now = float(before["value"]), float(entry["value"])
    if then == now:
        return "0"
    change = now - then
    if not math.isfinite(change):
        return "none" if math.isnan(change) else "+∞" if change > 0 else "−∞"
    return signed(change, entry["unit"])


def _samples(places: Sequence[int]) -> str:
    return f"{len(places)} sample{'' if len(places) == 1 else 's'}"


def _finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else None
