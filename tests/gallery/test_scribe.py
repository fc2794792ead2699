"""The thread that writes the report: in order, with its pictures, and never silent about trouble."""

import json
import threading

import pytest

from pytest_cnnaudit.gallery import Report, Scribe, with_pictures


def record(name):
    return {"id": f"test_a.py::{name}", "outcome": "passed", "message": "", "doc": "", "duration": 0.1, "model": None,
            "samples": None, "device": "cpu", "measurements": []}  # fmt: skip


def written(folder):
    return [test["id"].split("::")[1] for test in json.loads((folder / "report.json").read_text())["tests"]]


def test_a_record_is_written_after_its_pictures_and_in_its_place(tmp_path):
    drawn = threading.Event()
    scribe = Scribe(Report(tmp_path, {}))
    scribe.add(record("test_one"), lambda: drawn.wait(10))
    scribe.add(record("test_two"))
    assert written(tmp_path) == []
    drawn.set()
    scribe.finish("finished", 0)
    assert written(tmp_path) == ["test_one", "test_two"]
    run = json.loads((tmp_path / "report.json").read_text())["run"]
    assert (run["status"], run["device"]) == ("finished", "cpu")


def test_a_record_whose_pictures_can_not_be_written_is_an_error_and_the_others_are_not(tmp_path):
    def full():
        raise OSError("no space left")

    scribe = Scribe(Report(tmp_path, {}))
    scribe.add(record("test_one"), full)
    scribe.add(record("test_two"))
    scribe.finish("finished", 0)
    one, two = json.loads((tmp_path / "report.json").read_text())["tests"]
    assert (one["outcome"], one["message"]) == ("error", "The pictures could not be written: no space left.\n")
    assert two["outcome"] == "passed"
    assert scribe.trouble == ""


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("not JSON")])
def test_what_goes_wrong_on_the_thread_is_told(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    scribe = Scribe(Report(tmp_path, {}))
    monkeypatch.setattr(scribe.report, "add", fail)
    scribe.add(record("test_one"))
    scribe.note("and it goes on")
    scribe.finish("finished", 0)
    assert scribe.trouble == f"the report could not be written: {error}"
    assert "and it goes on" in (tmp_path / "report.json").read_text()


def test_a_record_without_pictures_is_itself():
    assert with_pictures(record("test_one"), lambda: None) == record("test_one")
