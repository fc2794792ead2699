"""Writes a report on a thread of its own, beside the computation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_cnnaudit.gallery.report import Report

Wait = Callable[[], None]
"""Returns when the pictures of a record are on disk; raises an `OSError` where one could not be written."""

Amend = Callable[[dict[str, Any], list[dict[str, Any]]], list[dict[str, Any]]]
"""Makes of the facts of a run and its records the same records, each richer by what is known beside the run."""


class Scribe:
    """Takes in records in the order in which they come, each once its pictures are there.

    So no report names a picture that is not there, whenever it is opened and wherever the run is killed.

    Attributes:
        trouble: why the report could not be written; empty where it could.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.trouble = ""
        self._devices: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cnnaudit-report")

    def add(self, record: dict[str, Any], pictures: Wait = lambda: None) -> None:
        """Have a record written."""
        self._thread.submit(self._add, record, pictures)

    def note(self, text: str) -> None:
        """Have something written that a reader of the report must know about the run."""
        self._thread.submit(self.report.note, text)

    def amend(self, amended: Amend) -> None:
        """Have all records that were taken in so far replaced by what is made of them."""
        self._thread.submit(self._write, lambda: self.report.amend(amended))

    def finish(self, status: str, exit_status: int) -> None:
        """The run is over; when this returns, everything is written."""
        self._thread.submit(self._write, lambda: self.report.finish(status, exit_status))
        self._thread.shutdown(wait=True)

    def _add(self, record: dict[str, Any], pictures: Wait) -> None:
        record = with_pictures(record, pictures)
        if "device" in record:
            self._devices.add(record["device"])
            self.report.run["device"] = ", ".join(sorted(self._devices))
        self._write(lambda: self.report.add(record))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on and somebody must be told
            self.trouble = f"the report could not be written: {error}"


def with_pictures(record: dict[str, Any], pictures: Wait) -> dict[str, Any]:
    """The record once its pictures are on disk; one of an error, where they cannot be: a full disk ends no run."""
    try:
        pictures()
    except OSError as error:
        message = f"The pictures could not be written: {error}.\n{record['message']}"
        return {**record, "outcome": "error", "message": message, "model": None, "samples": None, "measurements": []}
    return record
