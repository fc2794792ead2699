"""What each run measured, kept in one SQLite file, so that a metric can be read over time."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pytest_cnnaudit.commit import commit
from pytest_cnnaudit.gallery.compare import keyed, name_of

SCHEMA = 1
LIMIT = 50
"""As many runs of a metric are read back, the latest."""
_POINTS = 50_000  # of all metrics in one report, some 7 MB of it: a suite of thousands reads back fewer runs of each
_APPLICATION = 0x434E4E41  # "CNNA": tells our files from those of other applications
_PATIENCE = 30.0  # seconds that a process waits for another one to finish its run
_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,
    command TEXT NOT NULL,
    seed INTEGER,
    device TEXT NOT NULL,
    status TEXT NOT NULL,
    commit_ TEXT,
    versions TEXT NOT NULL
);
CREATE TABLE metrics (
    run INTEGER NOT NULL REFERENCES runs,
    test TEXT NOT NULL,
    model TEXT NOT NULL,
    measurement TEXT NOT NULL,
    nth INTEGER NOT NULL,
    metric TEXT NOT NULL,
    unit TEXT NOT NULL,
    value REAL,
    display TEXT NOT NULL,
    low REAL,
    high REAL,
    n INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    complete INTEGER NOT NULL
);
CREATE INDEX metrics_over_time ON metrics (test, model, measurement, nth, metric, unit, run);
"""
_INSERT = "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SERIES = """
SELECT run, started, value, display, low, high, n, outcome, complete, commit_
FROM metrics JOIN runs ON runs.id = run
WHERE test = ? AND model = ? AND measurement = ? AND nth = ? AND metric = ? AND unit = ?
ORDER BY run DESC LIMIT ?
"""
Record = dict[str, Any]


class HistoryError(Exception):
    """The file cannot serve as a history: one sentence says why, and what to do."""


class Key(NamedTuple):
    """Which metric: values of one key are values of the same thing, and make one line over time.

    Attributes:
        test: pytest's node id.
        model: the model's name; empty where there is none.
        measurement: the name of the audit method.
        nth: its place among those of that name in the test, from 0.
        metric: the metric's name; the second of a name in one measurement is ``"NAME (2)"``.
        unit: the metric's unit: where it changes, another line begins.
    """

    test: str
    model: str
    measurement: str
    nth: int
    metric: str
    unit: str


# Writing ----------------------------------------------------------------------------------------------------------


def check(path: Path) -> None:
    """Find out at the start of a run whether its metrics can be appended at its end; makes the file where it is not.

    Raises:
        HistoryError: the file is no history or cannot be written.
    """
    with _opened(path) as connection, _transaction(connection):
        connection.execute(f"PRAGMA user_version = {SCHEMA}")  # a real write, of what is there already


def append(path: Path, run: Mapping[str, Any], tests: Sequence[Record], root: Path | None = None) -> None:
    """Add a run and the metrics that its tests measured; a run that measured nothing leaves no trace.

    It is one transaction: the file has all of the run or nothing of it, also after a kill. Processes that append at
    once wait for each other, up to 30 s.

    Args:
        path: the SQLite file; made where it is not.
        run: facts about the run, as in ``report.json``.
        tests: its records.
        root: a folder of the git working tree whose commit is noted, where a CI system does not name it.

    Raises:
        HistoryError: the file is no history or cannot be written.
    """
    rows = [
        (*key, metric["value"], _storable(metric["display"]), *_stored(metric["ci95"]), metric["n"], outcome, complete)
        for key, metric, outcome, complete in _metrics(tests)
    ]
    if not rows:
        return
    facts = (
        run["started"],
        _storable(run["command"]),
        run["seed"],
        run["device"],
        run["status"],
        commit(root),
        json.dumps(run["versions"]),
    )
    with _opened(path) as connection, _transaction(connection):
        added = connection.execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", facts).lastrowid
        connection.executemany(_INSERT, [(added, *row) for row in rows])


# Reading ----------------------------------------------------------------------------------------------------------


def series(path: Path, tests: Sequence[Record], limit: int = LIMIT) -> dict[Key, list[Record]]:
    """Each metric of these tests in the last runs that measured it, oldest first.

    Args:
        path: the SQLite file.
        tests: records; what they measured themselves is in it where it has been appended.
        limit: of so many runs at most; of fewer where the metrics are very many, to keep a report small.

    Returns:
        By key, a value for each run: ``run`` (its number), ``started`` (ISO 8601), ``value`` (None where it is not a
        finite number), ``display`` (how it is written, ``"inf"`` too), ``ci95`` (an open end is None), ``n``,
        ``outcome`` (the test's), ``complete`` (False: a bound) and ``commit`` (its first 12 digits, or None).

    Raises:
        HistoryError: the file is no history or cannot be read.
    """
    keys = [key for key, *_ in _metrics(tests)]
    limit = min(limit, max(_POINTS // max(len(keys), 1), 2))
    with _opened(path) as connection:
        return {key: [*map(_point, connection.execute(_SERIES, (*key, limit)))][::-1] for key in keys}


def with_history(records: Sequence[Record], path: Path, limit: int = LIMIT) -> list[Record]:
    """The records with a ``history`` in each metric, as `series` gives it; the records given are left as they are.

    Raises:
        HistoryError: the file is no history or cannot be read.
    """
    known = series(path, records, limit)
    return [{**record, "measurements": list(_measurements_with(known, record))} for record in records]


def _measurements_with(known: Mapping[Key, list[Record]], record: Record) -> Iterator[Record]:
    for measurement, keys in _keyed(record):
        metrics = zip(measurement["metrics"], keys, strict=True)
        yield {**measurement, "metrics": [{**metric, "history": known[key]} for metric, key in metrics]}


def _point(row: tuple[Any, ...]) -> Record:
    run, started, value, display, low, high, n, outcome, complete, commit_ = row
    return {
        "run": run,
        "started": started,
        "value": value,
        "display": display,
        "ci95": None if low is None else [end if math.isfinite(end) else None for end in (low, high)],
        "n": n,
        "outcome": outcome,
        "complete": bool(complete),
        "commit": commit_ and commit_[:12],
    }


def _stored(interval: Sequence[float | None] | None) -> tuple[float | None, float | None]:
    """The ends of an interval: open ones, which a record has as None, are infinite here."""
    if interval is None:
        return None, None
    low, high = interval
    return -math.inf if low is None else low, math.inf if high is None else high


# Records ----------------------------------------------------------------------------------------------------------


def _metrics(tests: Iterable[Record]) -> Iterator[tuple[Key, Record, str, bool]]:
    for record in tests:
        for measurement, keys in _keyed(record):
            for key, metric in zip(keys, measurement["metrics"], strict=True):
                yield key, metric, record["outcome"], measurement.get("complete", True)


def _keyed(record: Record) -> Iterator[tuple[Record, list[Key]]]:
    """The measurements of a test, and the key of each of their metrics."""
    model = _storable(record["model"]["name"]) if record.get("model") else ""
    for (kind, nth), measurement in keyed(record.get("measurements", ()), name_of).items():
        keys = []
        for (name, before), metric in keyed(measurement["metrics"], name_of).items():
            named = _storable(f"{name} ({before + 1})" if before else name)
            keys.append(Key(_storable(record["id"]), model, _storable(kind), nth, named, _storable(metric["unit"])))
        yield measurement, keys


def _storable(text: str) -> str:
    """Half a character, which a name may have and UTF-8 does not, is written as its number."""
    return text.encode("utf-8", "backslashreplace").decode()


# The file ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a history, whose tables are made where the file is new or empty."""
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path.absolute(), timeout=_PATIENCE, isolation_level=None)
        _claim(connection, path)
        yield connection
    except (sqlite3.Error, OSError) as error:
        reason = "another process has held it for 30 s" if "locked" in str(error) else str(error)
        raise HistoryError(
            f"{path} cannot serve as the history: {reason}; give --cnnaudit-history the path of a new file, or of one "
            "that an earlier run wrote."
        ) from None
    finally:
        if connection is not None:
            connection.close()


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    if _origin(connection) == (0, 0, 0):
        with _transaction(connection):
            if _origin(connection) == (0, 0, 0):  # still: another process may have been faster
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
    application, version, _ = _origin(connection)
    if application != _APPLICATION:
        raise HistoryError(f"{path} is another application's database: give --cnnaudit-history the path of a new file.")
    if version > SCHEMA:
        raise HistoryError(
            f"{path} has schema {version}, and this version of pytest-cnnaudit knows up to {SCHEMA}: update it, or "
            "give --cnnaudit-history the path of a new file."
        )


def _origin(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Whose the file is, of which schema, and how many tables and indices it has."""
    asked = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    application, version, count = (int(connection.execute(each).fetchone()[0]) for each in asked)
    return application, version, count


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")  # waits here, rather than at the end
    with connection:
        yield
