"""The pytest plugin: options, fixtures and hooks, and nothing else. It imports no torch until an audit runs.

What the one process that writes does is in `gatherer` (the report) and `keeper` (the baselines).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cnnaudit.finished import record_of
from pytest_cnnaudit.options import add_options, check_options, check_unused, enabled, setting
from pytest_cnnaudit.places import (
    baselines,
    bundle,
    cache,
    cache_folder,
    cache_key,
    folder_key,
    is_worker,
    link,
    report_folder,
)

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit
    from pytest_cnnaudit.model import AuditModel
    from pytest_cnnaudit.samples import Samples

_PACKAGE = Path(__file__).parent
_SKIPPED = "an audit: run with --cnnaudit"

audit_key = pytest.StashKey["Audit"]()


# Options and configuration ---------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cnnaudit: uses the audit fixture (added to such tests by itself)")
    if not enabled(config):
        check_unused(config)
        return
    check_options(config)
    if is_worker(config):
        given = config.workerinput["cnnaudit"]  # type: ignore[attr-defined]
        config.stash[folder_key] = Path(given["folder"])
        config.stash[cache_key] = Path(given["cache"]) if given["cache"] else None
        from pytest_cnnaudit.collected import Collected

        config.pluginmanager.register(Collected(config), "cnnaudit-collected")
    else:
        from pytest_cnnaudit.gatherer import Gatherer
        from pytest_cnnaudit.keeper import Keeper

        config.stash[folder_key] = report_folder(config)
        config.stash[cache_key] = cache_folder(config)
        config.pluginmanager.register(Gatherer(config), "cnnaudit-gatherer")
        config.pluginmanager.register(Keeper(config), "cnnaudit-keeper")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of xdist starts: it writes its pictures into the controller's folder, and shares its cache."""
    stash = node.config.stash
    if folder_key in stash:
        kept = stash[cache_key]
        node.workerinput["cnnaudit"] = {"folder": str(stash[folder_key]), "cache": "" if kept is None else str(kept)}


# Fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def audit_model(pytestconfig: pytest.Config) -> AuditModel:
    """The model under audit, an `AuditModel`; a suite defines its own in conftest.py."""
    from pytest_cnnaudit.errors import AuditError

    if not enabled(pytestconfig):
        pytest.skip(_SKIPPED)
    raise AuditError(
        "There is no model to audit: define the fixture audit_model in conftest.py and return an AuditModel from it."
    )


@pytest.fixture(scope="session")
def audit_samples() -> Samples | None:
    """The images it is measured on, `Samples`; a suite defines its own in conftest.py. Filters need none."""
    return None


@pytest.fixture
def audit(request: pytest.FixtureRequest, audit_model: AuditModel, audit_samples: Samples | None) -> Audit:
    """Measures, asserts and shows; what it does lands in the gallery under this test. See `pytest_cnnaudit.Audit`."""
    if not enabled(request.config):  # a test that asked for it by request.getfixturevalue
        pytest.skip(_SKIPPED)
    from pytest_cnnaudit.audit import Audit

    config, item = request.config, request.node
    replayed = bundle(config, item.nodeid)
    made = Audit(
        audit_model,
        audit_samples if replayed is None or replayed.samples is None else replayed.samples,
        device=setting(config, "device"),
        seed=int(setting(config, "seed")),
        scope=item.nodeid,
        precision="bfloat16" if setting(config, "precision") == "bfloat16" else "float32",
        link=link(config, item.nodeid),
        cache=cache(config),
        baselines=baselines(config, item, replayed),
    )
    item.stash[audit_key] = made
    return made


def uses_audit(item: pytest.Item) -> bool:
    """Whether the test, or a fixture of it, asks for our fixture; a project's own `audit` is none of our business."""
    if audit_key in item.stash:
        return True  # asked for while it ran: request.getfixturevalue("audit")
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.get("audit", ()) if info is not None else ()
    for definition in reversed(definitions):  # the last one overrides the others, unless it asks for them
        if getattr(definition.func, "__module__", "") == __name__:
            return True
        if "audit" not in definition.argnames:
            return False
    return False


def pytest_itemcollected(item: pytest.Item) -> None:
    if uses_audit(item):
        item.add_marker("cnnaudit")
        if not enabled(item.config):
            item.add_marker(pytest.mark.skip(reason=_SKIPPED))


# A test is over: its record travels on its report ----------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if not (enabled(item.config) and uses_audit(item)):
        return (yield)
    if call.excinfo is not None:
        _hide_our_frames(call.excinfo)
    report = yield
    report.__dict__["is_cnnaudit"] = True
    if report.when == "call" or report.outcome != "passed":
        record = record_of(item, call, report, item.stash.get(audit_key, None))
        report.__dict__["cnnaudit"] = json.dumps(record, allow_nan=False)
        if "measurements" in record:
            from pytest_cnnaudit.alongside import with_properties

            item.user_properties[:] = report.user_properties = with_properties(item.user_properties, record)
    if report.when == "teardown" and audit_key in item.stash:
        del item.stash[audit_key]  # its pictures are on disk; pytest keeps the item to the end of the session
    return report


def _hide_our_frames(failure: pytest.ExceptionInfo[BaseException]) -> None:
    """A traceback through this package hides in pytest's output what is no use to a user; `--full-trace` shows it."""
    for entry in failure.traceback:
        if Path(entry.path).is_relative_to(_PACKAGE):
            entry.frame.f_globals["__tracebackhide__"] = _hides


def _hides(failure: pytest.ExceptionInfo[BaseException]) -> bool:
    """Failures and bad input are the user's own; any other exception is a bug, and keeps every frame."""
    from pytest_cnnaudit.errors import AuditError

    return isinstance(failure.value, AuditError | AssertionError)


# A plain assert on a metric tells its story -----------------------------------------------------------------------


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    results = sys.modules.get("pytest_cnnaudit.results")
    if results is None:  # then nobody has made a metric
        return None
    if isinstance(left, results.Metric):
        return _story(results.shortfall(left, op, right)) if isinstance(right, int | float) else None
    if isinstance(right, results.Metric) and isinstance(left, int | float):
        mirrored = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}.get(op, op)
        return _story(results.shortfall(right, mirrored, left))
    return None


def _story(lines: list[str]) -> list[str]:
    """Pytest indents all lines but the first by itself."""
    return [line.removeprefix("  ") for line in lines]
