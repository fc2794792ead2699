"""What an update of a baseline file would change, for people to read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_cnnaudit import terminal
from pytest_cnnaudit.amounts import signed
from pytest_cnnaudit.baselines.check import Entry, measures_the_same, misfit
from pytest_cnnaudit.baselines.file import BaselineError, read


@dataclass(frozen=True, slots=True)
class Change:
    """A baseline, and what was measured now.

    Attributes:
        test: its id.
        metric: its name.
        old: the baseline; None where there is none.
        new: as measured.
        is_news: whether an update puts `new` in the place of `old`.
    """

    test: str
    metric: str
    old: Entry | None
    new: Entry
    is_news: bool

    @property
    def line(self) -> str:
        """Test, metric, both values and the difference on one line."""
        if self.old is None:
            told = f"{self.new['display']} (new)"
        elif not self.is_news:
            told = f"{self.old['display']} (unchanged)"
        else:
            reasons = "; ".join((_difference(self.old, self.new), *_otherwise(self.old, self.new)))
            told = f"{self.old['display']} → {self.new['display']} ({reasons})"
        return terminal.line(f"{self.test}  {self.metric} {told}")


def changes(path: Path, entries: Mapping[str, Mapping[str, Entry]]) -> list[Change]:
    """What `update` would do with these entries, in their order. Nothing is written.

    Args:
        path: the baseline file.
        entries: test id → metric → entry.

    Raises:
        BaselineError: what is there cannot be read, or what is given is no entry.
    """
    kept = read(path)
    found = []
    for test, metrics in entries.items():
        for metric, entry in metrics.items():
            if wrong := misfit(f"{metric!r} of {test}", entry):
                raise BaselineError(f"Nothing is written into {path}: {wrong}.")
            old = kept.get(test, {}).get(metric)
            found.append(Change(test, metric, old, entry, old is None or not measures_the_same(old, entry)))
    return found


def tally(found: Iterable[Change]) -> str:
    """How many are new, updated and unchanged."""
    words = Counter("new" if each.old is None else "updated" if each.is_news else "unchanged" for each in found)
    return ", ".join(f"{words[word]} {word}" for word in ("new", "updated", "unchanged") if words[word])


def _difference(old: Entry, new: Entry) -> str:
    before, after = float(old["value"]), float(new["value"])
    if before == after:
        return "the same value"
    if not math.isfinite(after - before):
        return "no difference to speak of" if math.isnan(after - before) else "beyond all bounds"
    return signed(after - before, new["unit"])


def _otherwise(old: Entry, new: Entry) -> Iterator[str]:
    """What was measured differently: then the two values do not answer the same question."""
    for name in {**old["settings"], **new["settings"]}:
        before, after = (each["settings"].get(name, "not set") for each in (old, new))
        if before != after:
            yield f"{name} {before} → {after}"
    if any((old["samples"] or {}).get(key) != (new["samples"] or {}).get(key) for key in ("n", "ids", "content")):
        yield "other samples"
