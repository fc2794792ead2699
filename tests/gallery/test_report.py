"""The report folder, whole at every moment; and pictures stored once, by content."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.gallery import PictureFiles, Report, ReportFolderError
from pytest_cnnaudit.gallery import report as report_module
from pytest_cnnaudit.gallery.report import write_report
from pytest_cnnaudit.results import Picture

MEASUREMENT = {"metrics": []}


def record(name, **more):
    return {"id": f"test_a.py::{name}", "outcome": "passed", "message": "", "doc": "", "duration": 0.1, "model": None,
            "samples": None, "measurements": [], **more}  # fmt: skip


def read(folder):
    return json.loads((folder / "report.json").read_text())


def shown(folder):
    script = (folder / "data" / "report.js").read_text()
    return json.loads(script.removeprefix("window.CNNAUDIT_REPORT = ").removesuffix(";\n"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "report"


def test_a_report_is_whole_before_its_first_record(folder):
    Report(folder, {"seed": 3})
    assert sorted(path.name for path in folder.iterdir()) == [
        "assets",
        "data",
        "images",
        "index.html",
        "records.jsonl",
        "report.json",
    ]
    assert read(folder)["run"]["status"] == "running"
    assert read(folder)["run"]["seed"] == 3
    assert read(folder) == shown(folder)
    static = Path(report_module.__file__).parent / "static"
    page = (folder / "index.html").read_text()
    for path in static.iterdir():
        if path.name != "index.html":
            assert (folder / "assets" / path.name).read_bytes() == path.read_bytes()
            assert f'"assets/{path.name}"' in page


def test_a_later_word_on_a_test_adds_to_the_earlier_and_keeps_its_place(folder):
    report = Report(folder, {})
    report.add(record("test_one", measurements=[MEASUREMENT]))
    report.add(record("test_two"))
    report.add({"id": "test_a.py::test_one", "outcome": "error", "message": "teardown"})
    report.finish("finished", 1)
    one, two = read(folder)["tests"]
    assert (one["outcome"], one["message"], one["measurements"]) == ("error", "teardown", [MEASUREMENT])
    assert two["id"].endswith("test_two")
    assert len((folder / "records.jsonl").read_text().splitlines()) == 3
    assert read(folder) == shown(folder)


def test_a_note_is_taken_once(folder):
    report = Report(folder, {})
    report.note("part")
    report.note("part")
    report.finish("finished", 0)
    assert read(folder)["run"]["notes"] == ["part"]


def test_records_are_on_disk_at_once_and_rewriting_takes_a_small_share_of_the_time(folder, monkeypatch):
    """By a clock on which a record takes a millisecond to come and one to be written: no machine is fast or busy."""
    now = [0.0]
    monkeypatch.setattr(report_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    report = Report(folder, {})
    written = []
    serialise = report_module._json

    def written_in_time(value):
        if "tests" in value:
            written.append(1)
            now[0] += 0.001 * len(value["tests"])
        return serialise(value)

    monkeypatch.setattr(report_module, "_json", written_in_time)
    padding = ["x" * 100] * 300
    for number in range(300):
        now[0] += 0.001
        report.add(record(f"test_{number}", padding=padding))
        assert number > 3 or len((folder / "records.jsonl").read_text().splitlines()) == number + 1
    assert len(written) < 100  # anew for each record would be quadratic
    report.finish("finished", 0)
    assert len(read(folder)["tests"]) == 300


def test_slow_records_are_each_in_the_report_when_they_come(folder):
    report = Report(folder, {})
    for number in range(3):
        time.sleep(0.2)
        report.add(record(f"test_{number}"))
        assert len(read(folder)["tests"]) == number + 1


def test_no_number_that_is_not_json_gets_in(folder):
    report = Report(folder, {})
    with pytest.raises(ValueError, match="JSON"):
        report.add(record("test_one", duration=float("nan")))
    report.add(record("test_two"))
    report.finish("finished", 0)
    assert [test["id"] for test in read(folder)["tests"]] == ["test_a.py::test_two"]
    for line in (folder / "records.jsonl").read_text().splitlines():
        json.loads(line)


def test_an_earlier_report_is_replaced_whole(folder):
    old = Report(folder, {})
    old.add(record("test_old"))
    files = PictureFiles(folder)
    files.save(Picture(np.zeros((2, 2, 3), np.uint8), form="numbers"))
    files.wait()
    Report(folder, {})
    assert read(folder)["tests"] == []
    assert (folder / "records.jsonl").read_text() == ""
    assert list((folder / "images").iterdir()) == []
    assert not (folder / "data" / "pixels").exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"generator": 3}', '{"generator": "other"}'])
def test_a_folder_of_something_else_is_refused_and_left_alone(folder, content):
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years")
    if content is not None:
        (folder / "report.json").write_text(content)
    before = {path: path.read_text() for path in folder.iterdir()}
    with pytest.raises(ReportFolderError, match="holds something else"):
        Report(folder, {})
    assert {path: path.read_text() for path in folder.iterdir()} == before


def test_what_else_lies_in_a_report_s_folder_stays(folder):
    Report(folder, {})
    (folder / "notes.txt").write_text("mine")
    Report(folder, {})
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_linked_images_folder_is_unlinked_and_never_emptied(folder, tmp_path):
    Report(folder, {})
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.png").write_bytes(b"x")
    (folder / "images").rmdir()
    (folder / "images").symlink_to(precious, target_is_directory=True)
    Report(folder, {})
    assert (precious / "photo.png").exists()
    assert not (folder / "images").is_symlink()


def test_an_empty_folder_is_taken(folder):
    folder.mkdir(parents=True)
    Report(folder, {})
    assert read(folder)["tests"] == []


def test_the_page_s_data_is_ascii_and_cannot_end_its_script(folder):
    report = Report(folder, {})
    report.add(record("test_</script>\u2028é"))
    text = (folder / "data" / "report.js").read_text()
    assert text.isascii()
    assert shown(folder) == read(folder)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_of_reports_has_its_markdown(folder):
    run = {"status": "finished", "notes": [], "exit_status": 0}
    write_report(folder, run, [record("test_one", measurements=[])], [])
    assert "test_one" in (folder / "report.md").read_text()
