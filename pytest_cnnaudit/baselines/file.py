"""The baselines of one test module: a JSON file beside it, made to be committed, reviewed and merged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.baselines.check import Entry, measures_the_same, misfit

SCHEMA = 1
FOLDER = "__cnnaudit__"

Entries = dict[str, dict[str, Entry]]
"""Test id → metric → entry."""


class BaselineError(Exception):
    """A baseline file that cannot be used: one sentence that says what is wrong where, and what to do."""


def baseline_path(test_file: Path) -> Path:
    """Where the baselines of a test module are.

    >>> baseline_path(Path("tests/test_audit.py")).as_posix()
    'tests/__cnnaudit__/test_audit.json'
    """
    return test_file.parent / FOLDER / f"{test_file.stem}.json"


def read(path: Path) -> Entries:
    """All baselines of a file; none where there is no file.

    Raises:
        BaselineError: it cannot be read, or is not what `update` writes: cut short, merged by halves, edited wrongly.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BaselineError(f"The baseline file {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise _broken(path, f"byte {error.start + 1} is not UTF-8") from None
    marker = re.search(r"^(<{7}|={7}|>{7}|\|{7})( |$)", text, re.MULTILINE)
    if marker is not None:
        line = text.count("\n", 0, marker.start()) + 1
        raise BaselineError(
            f"The baseline file {path} has merge conflict markers (line {line}): take one side of each conflict, "
            f"or measure again with --cnnaudit-update-baselines after taking one side of the whole file."
        )
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        end = " (it ends there: was it cut short?)" if error.pos >= len(text.rstrip()) else ""
        raise _broken(path, f"line {error.lineno}, column {error.colno}: {error.msg}{end}") from None
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    return _checked(path, content)


def update(path: Path, entries: Mapping[str, Mapping[str, Entry]]) -> list[tuple[str, str]]:
    """Put entries into a file, and leave all others there.

    An entry that measures the same as the one that is there leaves it as it is, with its date and versions. The file
    is written only if something changed, and never half.

    Returns:
        Test id and metric of what changed, sorted.

    Raises:
        BaselineError: what is there cannot be read, or what is given is no entry; nothing is written then.
    """
    kept = read(path)
    given = [(test, metric, entry) for test, metrics in entries.items() for metric, entry in metrics.items()]
    for test, metric, entry in given:
        if wrong := misfit(f"{metric!r} of {test}", entry):
            raise BaselineError(f"Nothing was written into {path}: {wrong}.")
    changed = []
    for test, metric, entry in given:
        before = kept.setdefault(test, {}).get(metric)
        if before is None or not measures_the_same(before, entry):
            kept[test][metric] = entry
            changed.append((test, metric))
    if changed:
        _write(path, kept)
    return sorted(changed)


def remove(path: Path, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Take entries, by test id and metric, out of a file; without any left, the file goes, too.

    Returns:
        Those that were there, sorted.

    Raises:
        BaselineError: what is there cannot be read; it is left alone then.
    """
    kept = read(path)
    gone = sorted({(test, metric) for test, metric in names if metric in kept.get(test, {})})
    for test, metric in gone:
        del kept[test][metric]
    if gone and any(kept.values()):
        _write(path, kept)
    elif gone:
        path.unlink()
    return gone


def _write(path: Path, entries: Entries) -> None:
    content = {"schema": SCHEMA, "tests": {test: metrics for test, metrics in entries.items() if metrics}}
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))  # half a surrogate pair: \udc80, as in JSON
    except OSError as error:
        raise BaselineError(f"The baseline file {path} cannot be written: {error.strerror or error}.") from None


def _checked(path: Path, content: object) -> Entries:
    if not isinstance(content, dict) or not {"schema", "tests"} <= set(content):
        raise _broken(path, "it does not hold the keys 'schema' and 'tests'")
    if content["schema"] != SCHEMA or isinstance(content["schema"], bool):
        raise BaselineError(
            f"The baseline file {path} has schema {content['schema']!r}, and this pytest-cnnaudit reads schema "
            f"{SCHEMA}: install the version that wrote it, or delete the file and measure again with "
            f"--cnnaudit-update-baselines."
        )
    tests = content["tests"]
    if not isinstance(tests, dict):
        raise _broken(path, "'tests' is no object")
    for test, metrics in tests.items():
        if not isinstance(metrics, dict):
            raise _broken(path, f"what it says of {test} is no object")
        for metric, entry in metrics.items():
            if wrong := misfit(f"{metric!r} of {test}", entry):
                raise _broken(path, wrong)
    return tests


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _broken(path: Path, what: str) -> BaselineError:
    return BaselineError(
        f"The baseline file {path} is damaged: {what}. Take it back from version control, or delete it and measure "
        f"again with --cnnaudit-update-baselines."
    )
