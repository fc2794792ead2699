"""The file of baselines: what is written is read, others' entries stay, and damage is told and never overwritten."""

import json
import os
import re
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pytest_cnnaudit.baselines import file as file_module
from pytest_cnnaudit.baselines.file import BaselineError, baseline_path, read, remove, update


def entry(**changed):
    return {
        "value": 0.75,
        "display": "0.75",
        "ci95": [0.3, 0.95],
        "n": 4,
        "count": 3,
        "unit": "",
        "higher_is_better": True,
        "statistic": "share",
        "values": "e0",
        "measurement": "attack",
        "settings": {"eps": "4/255", "seed": "0"},
        "samples": {"n": 4, "ids": "0" * 16, "content": "1" * 16, "source": "tensors (4 images)"},
        "model": {"name": "v1", "digest": "2" * 16},
        "seed": 0,
        "device": "cpu",
        "precision": "float32",
        "versions": {"pytest-cnnaudit": "0.1.0", "torch": "2.14.1"},
        "measured": "2026-11-20",
        **changed,
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "__cnnaudit__" / "test_audit.json"


def test_what_is_written_is_read_sorted_and_readable(path):
    assert read(path) == {}
    entries = {
        "t.py::b": {"robust accuracy": entry()},
        "t.py::a[µ]": {"z": entry(), "a": entry(values=None, statistic=None)},
    }
    changed = update(path, entries)
    assert changed == [("t.py::a[µ]", "a"), ("t.py::a[µ]", "z"), ("t.py::b", "robust accuracy")]
    assert read(path) == entries
    text = path.read_text("utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert "t.py::a[µ]" in text
    assert [each.name for each in path.parent.iterdir()] == ["test_audit.json"]


names = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["inf", "-inf", "nan"])
tables = st.dictionaries(
    names, st.dictionaries(names, st.builds(entry, value=numbers), min_size=1, max_size=3), max_size=4
)


@given(tables, tables)
def test_an_update_keeps_every_other_entry_and_removing_it_all_leaves_no_file(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("baselines") / "t.json"
    update(path, first)
    update(path, second)
    expected = {test: {**first.get(test, {}), **second.get(test, {})} for test in {**first, **second}}
    assert read(path) == expected
    gone = remove(path, [(test, metric) for test in second for metric in second[test]])
    assert len(gone) == sum(map(len, second.values()))
    left = {
        test: kept
        for test in first
        if (kept := {metric: each for metric, each in first[test].items() if metric not in second.get(test, {})})
    }
    assert read(path) == left
    assert path.exists() == bool(left)


def test_half_a_surrogate_in_a_test_id_comes_back(path):
    entries = {"t.py::caf\udce9": {"a": entry()}}
    update(path, entries)
    assert read(path) == entries


def test_what_measures_the_same_stays_byte_for_byte(path):
    update(path, {"t": {"a": entry(), "b": entry()}})
    before = path.stat(), path.read_bytes()
    again = entry(
        measured="2027-01-01",
        versions={"torch": "3"},
        model={"name": "v2", "digest": "3" * 16},
        device="cuda",
        samples={**entry()["samples"], "source": "elsewhere"},
    )
    assert update(path, {"t": {"a": again}}) == []
    assert (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) == (
        before[0].st_mtime_ns,
        before[0].st_ino,
        before[1],
    )
    assert update(path, {"t": {"a": again, "b": {**again, "values": "d0"}}}) == [("t", "b")]
    assert read(path)["t"]["a"] == entry()


@pytest.mark.parametrize(
    "changed",
    [
        {"value": 0.5},
        {"values": "70"},
        {"settings": {"eps": "8/255"}},
        {"statistic": None, "values": None},
        {"samples": {**entry()["samples"], "content": "9" * 16}},
        {"samples": {**entry()["samples"], "ids": "9" * 16}},
    ],
)
def test_what_measures_something_else_is_written(path, changed):
    update(path, {"t": {"a": entry()}})
    assert update(path, {"t": {"a": entry(**changed)}}) == [("t", "a")]
    assert read(path)["t"]["a"] == entry(**changed)


def text(**changed):
    return json.dumps({"schema": 1, "tests": {"t.py::a": {"acc": entry(**changed)}}}, indent=1, sort_keys=True)


DAMAGED = {
    "empty": ("", r"line 1.*cut short"),
    "truncated": (text()[:300], r"damaged: line \d+, column \d+"),
    "cut after a value": (text().rstrip()[:-4], "cut short"),
    "not utf-8": (b"\xff\xfe{}", "byte 1 is not UTF-8"),
    "conflict": (
        text().replace(' "schema": 1,', '<<<<<<< HEAD\n "schema": 1,\n=======\n>>>>>>> b'),
        r"merge conflict markers \(line 2\)",
    ),
    "twice": (text().replace('"device": "cpu",', '"device": "cpu", "device": "cuda",'), "'device' is there twice"),
    "NaN": (text().replace('"value": 0.75', '"value": NaN'), "NaN is no JSON number"),
    "other schema": (text().replace('"schema": 1', '"schema": 2'), "schema 2.*reads schema 1"),
    "schema true": (text().replace('"schema": 1', '"schema": true'), "schema True"),
    "list": ("[]", "'schema' and 'tests'"),
    "no tests": ('{"schema": 1}', "'schema' and 'tests'"),
    "tests a list": ('{"schema": 1, "tests": []}', "'tests' is no object"),
    "test a number": ('{"schema": 1, "tests": {"t": 3}}', "what it says of t is no object"),
    "entry a number": ('{"schema": 1, "tests": {"t": {"acc": 3}}}', "'acc' of t is no object"),
    "value beyond all floats": (text(value=10**400), "'acc' of t.py::a is no number: 1000"),
    "value a word": (text(value="high"), "'acc' of t.py::a is no number: 'high'"),
    "value true": (text(value=True), "'value' of 'acc' of t.py::a is true"),
    "n a text": (text(n="4"), "'n' of 'acc' of t.py::a is \"4\""),
    "n negative": (text(n=-4, count=None), "'n' and 'count' of 'acc' of t.py::a are -4 and None"),
    "more than all": (text(count=5), "are 4 and 5"),
    "three ends": (text(ci95=[0, 1, 2]), r"\[0, 1, 2\]"),
    "deep": ("[" * 100_000, "damaged"),
    "no such statistic": (text(statistic="mode"), "'statistic' of 'acc' of t.py::a is 'mode'"),
    "statistic without values": (text(values=None), "does not go with its values"),
    "other length": (text(values="e0e0"), "4 hex digits, where 4 samples have 2"),
    "a bit too many": (text(values="e8"), "bits beyond those of its 4 samples"),
    "no hex": (text(values="zz"), "no hex digit"),
    "no number": (text(statistic="mean", values="1 2 x 3"), "no number"),
    "too few": (text(statistic="mean", values="1 2 nan 3"), "3 numbers for 4 samples"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_clear_sentence_and_is_never_overwritten(path, name):
    content, what = DAMAGED[name]
    path.parent.mkdir()
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(raw)
    with pytest.raises(BaselineError, match=what) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert re.search("--cnnaudit-update-baselines|version control", message)
    for act in (lambda: update(path, {"t": {"a": entry()}}), lambda: remove(path, [("t.py::a", "acc")])):
        with pytest.raises(BaselineError):
            act()
    assert path.read_bytes() == raw


@pytest.mark.parametrize("key", entry())
def test_a_key_that_is_missing_is_named(path, key):
    path.parent.mkdir()
    broken = {name: value for name, value in entry().items() if name != key}
    path.write_text(json.dumps({"schema": 1, "tests": {"t": {"a": broken}}}))
    with pytest.raises(BaselineError, match=f"'a' of t has no '{key}'"):
        read(path)


@given(st.data())
def test_a_file_cut_anywhere_is_an_error_or_no_file_at_all(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("baselines") / "t.json"
    update(path, {"t": {"a": entry(), "b": entry()}})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))])
    with pytest.raises(BaselineError):
        read(path)


def test_an_entry_that_is_none_is_refused_before_anything_is_written(path):
    update(path, {"t": {"a": entry()}})
    with pytest.raises(BaselineError, match="'b' of t has no 'value'"):
        update(path, {"t": {"a": entry(value=0.5), "b": {}}})
    assert read(path) == {"t": {"a": entry()}}


def test_a_crash_while_writing_leaves_the_old_file(path, monkeypatch):
    update(path, {"t": {"a": entry()}})

    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(BaselineError, match=r"test_audit.json cannot be written: No space left on device\."):
        update(path, {"t": {"a": entry(value=0.5)}})
    monkeypatch.undo()
    assert read(path) == {"t": {"a": entry()}}
    assert [each.name for each in path.parent.iterdir()] == ["test_audit.json"]


def test_a_folder_in_its_place_is_told(path):
    path.mkdir(parents=True)
    with pytest.raises(BaselineError, match="cannot be read: Is a directory"):
        read(path)


def test_removing_what_is_not_there_changes_nothing(path):
    assert remove(path, [("t", "a")]) == []
    update(path, {"t": {"a": entry()}})
    before = path.stat().st_mtime_ns
    assert remove(path, [("t", "b"), ("u", "a")]) == []
    assert path.stat().st_mtime_ns == before
    assert remove(path, [("t", "a"), ("t", "a")]) == [("t", "a")]
    assert not path.exists()


def test_the_file_lies_beside_the_tests(tmp_path):
    assert baseline_path(tmp_path / "test_audit.py") == tmp_path / "__cnnaudit__" / "test_audit.json"


def test_the_modules_of_the_writer_load_neither_torch_nor_pytest():
    modules = ("baselines", "baselines.file", "baselines.entry", "baselines.compare", "baselines.told")
    lines = [f"import pytest_cnnaudit.{name}" for name in modules]
    check = "import sys; assert not {'torch', 'pytest'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", "; ".join([*lines, check])], check=True, timeout=60)
    assert file_module.SCHEMA == 1
