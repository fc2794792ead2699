"""Reading a report: whole, of a killed run, and one that is none."""

import json
import re

import pytest

from pytest_cnnaudit.gallery import Report, ReportFolderError
from pytest_cnnaudit.gallery.read import read_report, short_names

METRIC = {"name": "robust accuracy", "value": 0.5, "display": "0.50", "unit": "", "ci95": [0.4, 0.6],
          "higher_is_better": True, "thresholds": []}  # fmt: skip
MEASUREMENT = {"name": "attack", "settings": {}, "notes": [], "metrics": [METRIC], "exhibits": []}
RUN = {"started": "2026-01-01T10:00:00+00:00", "seed": 3, "device": "cpu", "command": "pytest", "versions": {}}


def record(name, **more):
    return {"id": f"test_a.py::{name}", "outcome": "passed", "message": "", "doc": "", "duration": 0.5, "model": None,
            "samples": None, "device": "cpu", "measurements": [MEASUREMENT], **more}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    report = Report(tmp_path / "report", RUN)
    report.add(record("test_one"))
    report.add(record("test_two", outcome="failed", message="assert 0.5 >= 0.6"))
    report.finish("finished", 1)
    return tmp_path / "report"


def edit(folder, change):
    path = folder / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def ids(report):
    return [test["id"].partition("::")[2] for test in report.tests]


def test_a_report_is_read_as_it_was_written(folder):
    report = read_report(folder)
    written = json.loads((folder / "report.json").read_text())
    assert (report.run, report.tests) == (written["run"], written["tests"])


def test_a_real_report_is_read(report_folder):
    written = json.loads((report_folder / "report.json").read_text())
    assert read_report(report_folder).tests == written["tests"]


@pytest.mark.parametrize("content", [None, "", "{", '{"schema": NaN}', "\udcff"])
def test_a_killed_run_is_read_from_its_records(folder, content):
    (folder / "report.json").unlink()
    if content is not None:
        (folder / "report.json").write_bytes(content.encode(errors="surrogateescape"))
    report = read_report(folder)
    assert ids(report) == ["test_one", "test_two"]
    assert [test["outcome"] for test in report.tests] == ["passed", "failed"]
    assert report.run["status"] == "interrupted"
    assert report.run["exit_status"] is None
    assert report.run["duration"] == 1.0
    assert "report.json" in report.run["notes"][0]
    assert "records.jsonl" in report.run["notes"][0]


def test_a_last_record_that_was_cut_off_is_left_out_and_noted(folder):
    (folder / "report.json").unlink()
    path = folder / "records.jsonl"
    path.write_text(path.read_text()[:-40])
    report = read_report(folder)
    assert ids(report) == ["test_one"]
    assert "cut off" in report.run["notes"][1]


def test_a_later_word_in_the_records_adds_to_the_earlier(folder):
    (folder / "report.json").unlink()
    with (folder / "records.jsonl").open("a") as file:
        late = {"id": "test_a.py::test_one", "outcome": "error", "message": "teardown", "doc": "", "duration": 0.1}
        file.write(json.dumps(late) + "\n")
    one, _ = read_report(folder).tests
    assert (one["outcome"], one["message"], len(one["measurements"])) == ("error", "teardown", 1)


def test_records_that_came_after_the_last_writing_of_a_killed_run_count(folder):
    edit(folder, lambda report: (report["tests"].pop(), report["run"].update(status="running")))
    assert ids(read_report(folder)) == ["test_one", "test_two"]
    edit(folder, lambda report: report["run"].update(status="finished"))
    assert ids(read_report(folder)) == ["test_one"]


def set_metric(**values):
    return lambda report: report["tests"][1]["measurements"][0]["metrics"][0].update(values)


def set_exhibit(**values):
    exhibit = {"kind": "rows", "title": "t", "columns": [], "rows": [], **values}
    return lambda report: report["tests"][0]["measurements"][0].update(exhibits=[exhibit])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda report: report.update(schema=2), "has schema 2, and this version reads up to 1: update"),
        (lambda report: report.update(generator="other"), "is not a report of pytest-cnnaudit"),
        (lambda report: report.pop("run"), "it has no 'run'"),
        (lambda report: report["run"].update(seed="0, 1"), "run.seed is '0, 1'"),
        (lambda report: report["run"].update(seed=True), "run.seed is True"),
        (lambda report: report["run"].update(versions={"torch": 2}), "run.versions.torch is 2"),
        (lambda report: report.update(tests={}), "tests is {}"),
        (lambda report: report["tests"].append("x"), "tests[2] is 'x'"),
        (lambda report: report["tests"][1].pop("outcome"), "tests[1] has no 'outcome'"),
        (set_metric(value="0.5"), "tests[1].measurements[0].metrics[0].value is '0.5'"),
        (set_metric(ci95=[0.1]), "tests[1].measurements[0].metrics[0].ci95 is [0.1]"),
        (set_metric(ci95=[0.1, "x"]), "metrics[0].ci95[1] is 'x'"),
        (set_exhibit(columns=None), "columns is None"),
        (set_exhibit(rows=[{"title": "a", "status": "", "figures": {}, "pictures": [{}]}]), "has no 'src'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(folder, change, told):
    edit(folder, change)
    with pytest.raises(ReportFolderError, match=re.escape(told)) as caught:
        read_report(folder)
    assert str(folder / "report.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: path.mkdir(), "holds no report"),
        (lambda path: (path.mkdir(), (path / "report.json").write_text("{")), "is not whole"),
        (lambda path: (path.mkdir(), (path / "report.json").write_text('{"schema": 1e999}')), "1e999 is no number"),
        (lambda path: (path.mkdir(), (path / "report.json").write_text("[" * 100_000)), "is not whole"),
        (lambda path: (path.mkdir(), (path / "report.json").write_text("[]")), "is not a report"),
        (lambda path: (path.mkdir(), (path / "records.jsonl").write_text("3\n{}\n")), "line 1: it is 3"),
        (lambda path: (path.mkdir(), (path / "records.jsonl").write_text("{\n{}\n")), "broken in line 1"),
    ],
)
def test_what_is_no_report_is_refused_by_name(tmp_path, make, told):
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(ReportFolderError, match=re.escape(told)) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_folders_are_told_apart_by_the_ends_of_their_paths(tmp_path):
    assert short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    shards = [tmp_path / "1" / "report", tmp_path / "2" / "report"]
    assert short_names(shards) == ["1/report", "2/report"]
    assert short_names([tmp_path, tmp_path]) == [str(tmp_path)] * 2
