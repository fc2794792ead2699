"""What a process of a test run collected, and what it left out."""

from __future__ import annotations

from typing import Any

import pytest

WORKER_KEY = "cnnaudit_collected"


class Collected:
    """Registered where tests are collected: in the one process of a serial run, or in each worker of xdist.

    A conftest may take tests out of the list without a word, so what was made is compared with what is left.

    Attributes:
        told: lists of ids, ``tests``, ``modules`` (of which all tests were made) and ``skipped``, and ``left_out``,
            how many tests were taken out; None before the collection has finished. A worker of xdist sends it to the
            controller.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.told: dict[str, Any] | None = None
        self._made: set[str] = set()
        self._modules: list[str] = []
        self._skipped: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self._made.add(item.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.passed and report.nodeid.endswith(".py"):
            self._modules.append(report.nodeid)
        elif report.skipped:
            self._skipped.append(report.nodeid)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        tests = [item.nodeid for item in session.items]
        left_out = len(self._made.difference(tests))
        self.told = {"tests": tests, "modules": self._modules, "skipped": self._skipped, "left_out": left_out}
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[WORKER_KEY] = self.told
