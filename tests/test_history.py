"""The history: what is appended is read back over time, by many writers, through kills, and from no other file."""

import copy
import math
import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from threading import Barrier, BrokenBarrierError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit import history
from pytest_cnnaudit.history import HistoryError, Key, append, check, series, with_history

RUN = {
    "started": "2026-01-01T00:00:00+00:00",
    "command": "pytest --cnnaudit",
    "seed": 0,
    "device": "cpu",
    "status": "finished",
    "versions": {"torch": "2.14.1"},
}
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("CI_COMMIT_SHA", raising=False)
    monkeypatch.setenv("GITHUB_SHA", COMMIT)
    return tmp_path / "history.sqlite"


def metric(value=0.5, *, name="robust accuracy", ci95=(0.4, 0.6), unit="", display=None):
    shown = display or f"{value:.2f}"
    return {"name": name, "value": value, "display": shown, "ci95": ci95 and list(ci95), "n": 8, "unit": unit}


def measurement(*metrics, name="attack", **more):
    return {"name": name, "complete": True, "metrics": list(metrics), **more}


def record(*measurements, id="test_a.py::test_it", outcome="passed", model="v1"):
    named = model and {"name": model, "module": "Net", "digest": "0"}
    return {"id": id, "outcome": outcome, "model": named, "measurements": list(measurements)}


def run(day):
    return {**RUN, "started": f"2026-01-{day:02}T00:00:00+00:00"}


def values(path, *records, **limit):
    return {key: [point["value"] for point in points] for key, points in series(path, records, **limit).items()}


def over_time(records, path):
    return with_history(records, path)[0]["measurements"][0]["metrics"][0]["history"]


# What is read back ------------------------------------------------------------------------------------------------


def test_each_run_adds_a_value_to_each_of_its_metrics(path):
    for day, (value, outcome) in enumerate([(0.5, "passed"), (0.3, "failed"), (0.4, "passed")], 1):
        tests = [record(measurement(metric(value)), outcome=outcome)]
        append(path, run(day), tests)
    before = copy.deepcopy(tests)
    first, second, _ = over_time(tests, path)
    assert tests == before
    assert first == {
        "run": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "value": 0.5,
        "display": "0.50",
        "ci95": [0.4, 0.6],
        "n": 8,
        "outcome": "passed",
        "complete": True,
        "commit": COMMIT[:12],
    }
    assert (second["run"], second["value"], second["outcome"]) == (2, 0.3, "failed")
    assert values(path, *tests) == {
        Key("test_a.py::test_it", "v1", "attack", 0, "robust accuracy", ""): [0.5, 0.3, 0.4]
    }


def test_the_last_runs_are_read_and_fewer_of_them_where_the_metrics_are_many(path, monkeypatch):
    tests = [record(measurement(metric()), id=f"test_a.py::test_{each}") for each in range(4)]
    for day in range(1, 8):
        append(path, run(day), [record(measurement(metric(day / 10)), id=test["id"]) for test in tests])
    assert [*values(path, tests[0], limit=3).values()] == [[0.5, 0.6, 0.7]]
    monkeypatch.setattr(history, "_POINTS", 20)
    assert [len(each) for each in values(path, *tests).values()] == [5, 5, 5, 5]
    monkeypatch.setattr(history, "_POINTS", 1)
    assert [len(each) for each in values(path, *tests).values()] == [2, 2, 2, 2]  # fewer were no history


def test_a_narrowed_run_leaves_no_gap_and_no_value_in_the_others(path):
    both = [record(measurement(metric(0.1)), id="a"), record(measurement(metric(0.2)), id="b")]
    append(path, run(1), both)
    append(path, run(2), both[:1])
    append(path, run(3), both)
    assert [*values(path, *both).values()] == [[0.1, 0.1, 0.1], [0.2, 0.2]]
    assert [point["run"] for point in over_time(both[1:], path)] == [1, 3]


def test_what_is_not_the_same_metric_makes_a_line_of_its_own(path):
    alike = [
        record(measurement(metric(0.1)), measurement(metric(0.2)), measurement(metric(0.3), name="saliency")),
        record(measurement(metric(0.4), metric(0.5))),
        record(measurement(metric(0.6)), model="v2"),
        record(measurement(metric(0.7)), model=None),
        record(measurement(metric(0.8)), id="test_b.py::test_it"),
        record(measurement(metric(0.9, unit="ms"))),
    ]
    append(path, run(1), [alike[0]])
    for test in alike[2:]:
        append(path, run(2), [test])
    assert [*values(path, alike[0]).values()] == [[0.1], [0.2], [0.3]]
    for test, value in zip(alike[2:], (0.6, 0.7, 0.8, 0.9), strict=True):
        assert [*values(path, test).values()] == [[value]]
    append(path, run(3), [alike[1]])  # two of one name in one measurement
    assert [*values(path, alike[1]).values()] == [[0.1, 0.4], [0.5]]
    assert [key.metric for key in values(path, alike[1])] == ["robust accuracy", "robust accuracy (2)"]


def test_what_is_no_finite_number_is_told_as_it_was_shown(path):
    infinite = metric(None, display="inf", ci95=(0.1, None))
    undefined = metric(None, display="not a number", ci95=None, name="b")
    tests = [record(measurement(infinite, undefined, complete=False))]
    append(path, RUN, tests)
    one, other = (each["history"][0] for each in with_history(tests, path)[0]["measurements"][0]["metrics"])
    assert (one["value"], one["display"], one["ci95"], one["complete"]) == (None, "inf", [0.1, None], False)
    assert (other["value"], other["display"], other["ci95"]) == (None, "not a number", None)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT low, high FROM metrics ORDER BY metric DESC").fetchall()[0] == (0.1, math.inf)


def test_records_of_earlier_versions_and_names_of_any_kind_are_taken(path):
    old = record(measurement(metric()), id="test_\ud800[\x00'\"; DROP TABLE runs]", model="\ud800")
    del old["measurements"][0]["complete"]
    skipped = {"id": "s", "outcome": "skipped", "model": None, "measurements": []}
    append(path, {**RUN, "seed": None, "command": "\udcff"}, [old, skipped])
    assert len(over_time([old], path)) == 1
    assert with_history([skipped], path) == [skipped]


def test_a_run_that_measured_nothing_leaves_no_trace(path):
    append(path, RUN, [{"id": "s", "outcome": "skipped", "model": None, "measurements": []}])
    assert not path.exists()


numbers = st.floats(allow_nan=False, allow_infinity=False)
ends = st.none() | st.tuples(st.none() | numbers, numbers) | st.tuples(numbers, st.none() | numbers)


@given(st.lists(st.tuples(st.none() | numbers, ends), min_size=1, max_size=5))
def test_numbers_come_back_exactly(tmp_path_factory, shown):
    path = tmp_path_factory.mktemp("history") / "h"
    metrics = [metric(value, ci95=ci95, display="x", name=f"{at}") for at, (value, ci95) in enumerate(shown)]
    tests = [record(measurement(*metrics))]
    append(path, RUN, tests)
    read = with_history(tests, path)[0]["measurements"][0]["metrics"]
    assert [(each["history"][0]["value"], each["history"][0]["ci95"]) for each in read] == [
        (value, ci95 and list(ci95)) for value, ci95 in shown
    ]


# Writers at once, and kills ---------------------------------------------------------------------------------------


def test_writers_at_once_wait_for_each_other(path):
    def write(number):
        for _ in range(5):
            append(path, RUN, [record(measurement(metric(number)), id=f"test_{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    tests = [record(measurement(metric()), id=f"test_{number}") for number in range(8)]
    assert [*values(path, *tests).values()] == [[number] * 5 for number in range(8)]


def test_two_that_find_no_file_make_one(path, monkeypatch):
    """Both have found it new before either begins; were both let in to look again, neither could go on to write."""
    begin, look, outside, inside = history._transaction, history._origin, Barrier(2), Barrier(2)

    def meet(barrier):
        with suppress(BrokenBarrierError):  # where the other one is kept waiting, or comes no more
            barrier.wait(0.5)

    def meet_and_begin(connection):
        meet(outside)
        return begin(connection)

    def look_and_meet(connection):
        found = look(connection)
        if connection.in_transaction:
            meet(inside)
        return found

    monkeypatch.setattr(history, "_transaction", meet_and_begin)
    monkeypatch.setattr(history, "_origin", look_and_meet)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, [path] * 2))


WRITER = """
import sys
from pathlib import Path
from pytest_cnnaudit.history import append
sys.path.insert(0, sys.argv[2])
from test_history import RUN, measurement, metric, record
tests = [record(measurement(*(metric(name=str(each)) for each in range(200))))]
print("ready", flush=True)
while True:
    append(Path(sys.argv[1]), RUN, tests)
"""


def test_kills_leave_whole_runs_and_a_file_that_works(path, request):
    delays = random.Random(0)
    runs = 0
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(path), str(request.path.parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(delays.uniform(0, 0.08))
            writer.send_signal(signal.SIGKILL)
        check(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            counts = connection.execute("SELECT count(*) FROM metrics GROUP BY run").fetchall()
            assert len(counts) == connection.execute("SELECT count(*) FROM runs").fetchone()[0]
            assert set(counts) <= {(200,)}
        assert len(counts) >= runs
        runs = len(counts)
    assert runs > 0


# Files that cannot serve ------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_or_empty_becomes_a_history(path):
    check(path.parent / "new" / "history.sqlite")
    path.touch()
    check(path)
    append(path, RUN, [record(measurement(metric()))])
    check(path)
    assert len(over_time([record(measurement(metric()))], path)) == 1


def text(path):
    path.write_text("seed,value\n0,1\n" * 100)


def foreign(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def signed(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 17")
        connection.commit()
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def newer(path):
    check(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def damaged(path):
    append(path, RUN, [record(measurement(*(metric(name=str(each)) for each in range(500))))])
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes(range(256)) * 16 + content[6096:])


BAD = [
    (text, "not a database"),
    (foreign, "another application's database"),
    (signed, "another application's database"),
    (newer, r"schema 2, and this version of pytest-cnnaudit knows up to 1: update it"),
    (damaged, "malformed"),
]


@pytest.mark.parametrize(("make", "reason"), BAD)
def test_another_file_is_refused_in_one_sentence_and_left_as_it_is(path, make, reason):
    make(path)
    before = path.read_bytes()
    tests = [record(measurement(metric()))]
    for attempt in (lambda: check(path), lambda: append(path, RUN, tests), lambda: with_history(tests, path)):
        with pytest.raises(HistoryError, match=reason) as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert "--cnnaudit-history" in str(caught.value)
        assert str(caught.value).count("\n") == 0
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "history.sqlite"):
        with pytest.raises(HistoryError, match="cannot serve as the history"):
            check(path)


def test_a_file_that_another_process_keeps_is_an_error_in_the_end(path, monkeypatch):
    check(path)
    monkeypatch.setattr(history, "_PATIENCE", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HistoryError, match="another process has held it"):
            append(path, RUN, [record(measurement(metric()))])


def test_a_file_that_may_only_be_read_is_found_out_at_the_start(path, monkeypatch):
    check(path)
    connect = sqlite3.connect
    monkeypatch.setattr(history.sqlite3, "connect", lambda at, **more: connect(f"file:{at}?mode=ro", uri=True, **more))
    with pytest.raises(HistoryError, match="readonly"):
        check(path)


def test_it_needs_neither_torch_nor_pytest():
    asked = "import pytest_cnnaudit.history, sys; assert not {'torch', 'pytest', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", asked], check=True)
