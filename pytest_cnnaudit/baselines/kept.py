"""The baselines of one test: what they were, and what this run measured."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_cnnaudit.baselines.check import Entry
from pytest_cnnaudit.baselines.file import BaselineError, read
from pytest_cnnaudit.errors import AuditError


class Baselines:
    """What a test measured last time, and what it measures now.

    It never writes: the run's one writer does, with `baselines.file.update`. In a notebook do that yourself,
    ``update(path, {test: baselines.measured})``.

    Args:
        path: the file of the test's module; it need not be there.
        test: the test's full id.
        updating: whether what is measured now becomes the baseline, so that nothing is held against the old one.
        accept: the command that makes what this test measured the baseline; empty where there is none.

    Attributes:
        measured: what this run measured, by the metric's name in the file.
    """

    def __init__(self, path: Path, test: str, *, updating: bool = False, accept: str = "") -> None:
        self.path, self.test, self.updating, self.accept = path, test, updating, accept
        self.measured: dict[str, Entry] = {}
        self._before: dict[str, Entry] | None = None

    def find(self, name: str) -> Entry | None:
        """The baseline of a metric, by its name in the file; None where there is none.

        Raises:
            AuditError: the file cannot be used.
        """
        if self._before is None:
            try:
                self._before = read(self.path).get(self.test, {})
            except BaselineError as error:
                raise AuditError(str(error)) from None
        return self._before.get(name)

    def take(self, name: str, entry: Entry) -> str:
        """Remember what was measured, and return its name in the file: a second metric of one name is "NAME (2)"."""
        names = [name, *(f"{name} ({number})" for number in range(2, len(self.measured) + 2))]
        kept = next(each for each in names if each not in self.measured)
        self.measured[kept] = entry
        return kept

    @property
    def where(self) -> str:
        """The file, for people: seen from the working directory where it lies below that."""
        path = os.path.relpath(self.path) if self.path.is_absolute() else str(self.path)
        return self.path.as_posix() if path.startswith("..") else Path(path).as_posix()
