"""The options of the command line and of the ini file: what there is, what was given, and whether it can be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest


class _Value(NamedTuple):
    metavar: str
    help: str
    default: str = ""


_VALUES = {
    "dir": _Value("DIR", "where the report goes (default: cnnaudit-report)", "cnnaudit-report"),
    "device": _Value("DEVICE", "auto, cpu, cuda, cuda:N or mps (default: auto, a GPU if there is one)", "auto"),
    "seed": _Value("N", "every random draw follows from it and from the test's id (default: 0)", "0"),
    "precision": _Value(
        "P",
        "of the passes that attacks make: float32 or bfloat16 (default: float32); what they find is confirmed in the "
        "model's own",
        "float32",
    ),
    "cache": _Value("DIR", "where results are kept, so that nothing is measured twice (default: in pytest's cache)"),
    "history": _Value("FILE", "append the metrics of this run to a SQLite file; the report draws each over time"),
    "replay": _Value("BUNDLE", "run a test on the worst samples of a bundle that --cnnaudit-repro has left"),
}
_FLAGS = {
    "update_baselines": "write baselines for what this run measures; never deletes one",
    "prune_baselines": "remove baselines that no test owns; refuses on a narrowed or broken run",
    "no_cache": "measure everything anew, and keep nothing",
    "repro": "leave a bundle for each audit that fails: its worst samples, and the command that shows it again",
}
_ONLY_GIVEN = ("replay", "update_baselines", "prune_baselines")  # for one run: no ini option


def add_options(parser: pytest.Parser) -> None:
    """Add all options to pytest's."""
    group = parser.getgroup("cnnaudit", "audits of trained vision models")
    group.addoption(
        "--cnnaudit",
        action="store_true",
        default=None,
        help="run the tests that use the audit fixture, and write the gallery; without it they are skipped",
    )
    parser.addini("cnnaudit", "run audits, as with --cnnaudit", type="bool", default=False)
    for name, value in _VALUES.items():
        group.addoption(_flag(name), metavar=value.metavar, help=value.help)
        if name not in _ONLY_GIVEN:
            parser.addini(f"cnnaudit_{name}", f"as with {_flag(name)}")
    for name, text in _FLAGS.items():
        group.addoption(_flag(name), action="store_true", default=None, help=text)
        if name not in _ONLY_GIVEN:
            parser.addini(f"cnnaudit_{name}", f"as with {_flag(name)}", type="bool", default=False)


def _flag(name: str) -> str:
    return f"--cnnaudit-{name.replace('_', '-')}"


def enabled(config: pytest.Config) -> bool:
    """Whether audits run."""
    return bool(config.getoption("cnnaudit") or config.getini("cnnaudit"))


def flag(config: pytest.Config, name: str) -> bool:
    """Whether an option without a value is on."""
    return bool(config.getoption(f"cnnaudit_{name}") or (name not in _ONLY_GIVEN and config.getini(f"cnnaudit_{name}")))


def setting(config: pytest.Config, name: str) -> str:
    """The value of an option: as given, else of the ini file, else the default; empty where there is none."""
    given = config.getoption(f"cnnaudit_{name}") or (name not in _ONLY_GIVEN and config.getini(f"cnnaudit_{name}"))
    return str(given or _VALUES[name].default)


def path_setting(config: pytest.Config, name: str) -> Path:
    """A path of the command line is relative to where pytest was called, one of the ini file to that file."""
    given = config.getoption(f"cnnaudit_{name}")
    in_ini = not given and name not in _ONLY_GIVEN and config.getini(f"cnnaudit_{name}")
    if in_ini and config.inipath is not None:
        return config.inipath.parent / str(in_ini)
    return config.invocation_params.dir / str(given or in_ini or _VALUES[name].default)


def check_options(config: pytest.Config) -> None:
    """Raise a `pytest.UsageError` for values that cannot be."""
    seed, precision, device = (setting(config, name) for name in ("seed", "precision", "device"))
    if not re.fullmatch(r"\d+", seed):
        raise pytest.UsageError(f"--cnnaudit-seed is {seed!r}; give a whole number from 0.")
    if precision not in ("float32", "bfloat16"):
        raise pytest.UsageError(f"--cnnaudit-precision is {precision!r}; use float32 or bfloat16.")
    if flag(config, "no_cache") and config.getoption("cnnaudit_cache"):
        raise pytest.UsageError("--cnnaudit-cache and --cnnaudit-no-cache exclude each other; give one.")
    if setting(config, "replay") and any(flag(config, name) for name in ("update_baselines", "prune_baselines")):
        raise pytest.UsageError("--cnnaudit-replay runs on a few samples only; it cannot write or prune baselines.")
    _check_device(device)


def check_unused(config: pytest.Config) -> None:
    """Raise a `pytest.UsageError` for what was asked of audits although none will run."""
    for name in (*_ONLY_GIVEN, "repro"):
        if config.getoption(f"cnnaudit_{name}"):
            raise pytest.UsageError(f"{_flag(name)} was given without --cnnaudit: no audit would run; add --cnnaudit.")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise pytest.UsageError(f"--cnnaudit-device is {device!r}; give auto, cpu, cuda, cuda:N or mps.")
    if device not in ("auto", "cpu"):
        from pytest_cnnaudit.engine import resolve_device
        from pytest_cnnaudit.errors import AuditError

        try:
            resolve_device(device)
        except AuditError as error:
            raise pytest.UsageError(f"--cnnaudit-device: {error}") from None
