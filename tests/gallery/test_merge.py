"""Reports of shards become one, whichever are merged first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cnnaudit.gallery import PictureFiles, Report, ReportFolderError
from pytest_cnnaudit.gallery.markdown import verdict
from pytest_cnnaudit.gallery.merge import merge, merged_run, merged_tests
from pytest_cnnaudit.gallery.read import StoredReport, read_report
from pytest_cnnaudit.results import Picture

SUITE = """
import os, pytest

def test_one(audit):
    audit.assert_filters_smooth()

def test_two(audit):
    assert audit.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.75

@pytest.mark.skipif(os.environ["SHARD"] == "1", reason="not on this machine")
def test_both(audit):
    assert audit.attack(eps=0.04, attack="fgsm").robust_accuracy >= 0.5
"""


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """What two machines of a CI leave: each ran a part of the suite."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "conftest.py").write_text((Path(__file__).parents[1] / "audits" / "tiny_suite.py").read_text())
    (folder / "test_audit.py").write_text(SUITE)
    running = []
    for number, chosen in (("1", "one or both"), ("2", "two or both")):
        command = [sys.executable, "-m", "pytest", "--cnnaudit", "-q", "-p", "no:cacheprovider", "-k", chosen,
                   "--cnnaudit-dir", f"{number}/cnnaudit-report"]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SHARD": number}
        running.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [each.communicate(timeout=120)[0] for each in running]
    assert [each.returncode for each in running] == [0, 1], outputs
    return [folder / "1" / "cnnaudit-report", folder / "2" / "cnnaudit-report"]


def written(folder):
    return json.loads((folder / "report.json").read_text())


def files_of(folder):
    pictures = [
        picture
        for test in written(folder)["tests"]
        for measurement in test["measurements"]
        for exhibit in measurement["exhibits"]
        for row in exhibit["rows"]
        for picture in row.get("pictures", ())
    ]
    return {picture[name] for picture in pictures for name in ("src", "thumb", "numbers") if picture.get(name)}


def small_report(folder, tests, *, status="finished", exit_status=0, notes=(), **run):
    facts = {"started": "2026-01-01T10:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest",
             "versions": {"torch": "2.14.1"}, **run}  # fmt: skip
    report = Report(folder, facts)
    for name, outcome in tests.items():
        report.add({"id": name, "outcome": outcome, "message": "", "doc": "", "duration": 0.1, "model": None,
                    "samples": None, "measurements": []})  # fmt: skip
    for note in notes:
        report.note(note)
    report.finish(status, exit_status)
    return folder


# Real shards -------------------------------------------------------------------------------------------------------


def test_shards_become_one_report_with_all_their_pictures(shards, tmp_path):
    out = tmp_path / "whole"
    merge(shards, out)
    tests = {test["id"].partition("::")[2]: test for test in written(out)["tests"]}
    assert list(tests) == ["test_one", "test_both", "test_two"]
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_one": "passed",
        "test_both": "passed",  # skipped in the first
        "test_two": "failed",
    }
    names = files_of(out)
    assert names == {name for shard in shards for name in files_of(shard)}
    assert any(name.startswith("data/pixels/") for name in names)
    for name in names:
        [source] = {(shard / name).read_bytes() for shard in shards if (shard / name).exists()}
        assert (out / name).read_bytes() == source
    run, runs = written(out)["run"], [written(shard)["run"] for shard in shards]
    assert (run["status"], run["exit_status"], run["seed"]) == ("finished", 1, 0)
    assert run["started"] == min(each["started"] for each in runs)
    assert run["duration"] == pytest.approx(sum(each["duration"] for each in runs))
    assert run["versions"] == runs[0]["versions"]
    assert run["notes"][0] == "Merged from 2 reports (tests): 1/cnnaudit-report (2), 2/cnnaudit-report (2)."
    assert run["notes"][1].startswith("1/cnnaudit-report: Only a part of the suite was selected (-k one or both")
    assert read_report(out).tests == written(out)["tests"]
    assert len((out / "records.jsonl").read_text().splitlines()) == 3


def test_a_merged_report_opens_like_any_other(shards, tmp_path, open_page, broken_images):
    out = tmp_path / "whole"
    merge(shards, out)
    page = open_page((out / "index.html").as_uri())
    assert page.locator("h1").inner_text().strip() == "1 of 3 audits fell short"
    assert page.locator(".test-link").count() == 3
    assert broken_images(page) == [True, []]
    page.goto(f"{(out / 'index.html').as_uri()}#test_audit.py::test_both")
    page.locator(".test-page").wait_for()
    assert broken_images(page) == [True, []]


def test_a_merged_report_merges_again_to_the_same(shards, tmp_path):
    merge(shards, tmp_path / "whole")
    merge([tmp_path / "whole", *shards], tmp_path / "again")
    assert written(tmp_path / "again")["tests"] == written(tmp_path / "whole")["tests"]


# Which record of a test counts -------------------------------------------------------------------------------------

OUTCOMES = ("passed", "failed", "skipped", "error")


@st.composite
def reports(draw):
    made = []
    for number in range(draw(st.integers(3, 5))):
        outcomes = draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(OUTCOMES), max_size=4))
        hour = draw(st.integers(0, 3))  # few, so that some runs start together
        run = {
            "status": draw(st.sampled_from(["finished", "finished", "interrupted", "running"])),
            "notes": [],
            "started": f"2026-01-01T0{hour + 1}:00:00+0{draw(st.integers(0, 1))}:00",
            "duration": float(draw(st.integers(0, 9))),
            "seed": draw(st.sampled_from([0, None])),
            "device": draw(st.sampled_from(["cpu", "cuda:0"])),
            "command": "pytest",
            "versions": draw(st.dictionaries(st.sampled_from(["torch", "python"]), st.sampled_from(["1", "2"]))),
            "exit_status": draw(st.sampled_from([0, 1, 2, 5, None])),
        }
        tests = [
            {"id": name, "outcome": outcome, "message": f"of {number}", "measurements": [1]}
            for name, outcome in outcomes.items()
        ]
        made.append(StoredReport(Path(f"shard{number}"), run, tests))
    return made


def together(*parts):
    return StoredReport(Path("+".join(part.folder.name for part in parts)), merged_run(parts), merged_tests(parts))


@given(reports(), st.data())
@settings(max_examples=100, deadline=None)
def test_any_grouping_gives_the_same(parts, data):
    cut = data.draw(st.integers(1, len(parts) - 2))
    flat = together(*parts)
    left = together(together(*parts[: cut + 1]), *parts[cut + 1 :])
    right = together(*parts[:cut], together(*parts[cut:]))
    for grouped in (left, right):
        assert grouped.tests == flat.tests
        assert verdict(grouped.run, grouped.tests) == verdict(flat.run, flat.tests)
        for fact in ("status", "duration", "seed", "device", "versions", "exit_status"):
            assert grouped.run[fact] == flat.run[fact]
        assert grouped.run["started"][:13] == flat.run["started"][:13]


def test_a_verdict_comes_before_skipped_and_then_the_later_run(tmp_path):
    early = small_report(tmp_path / "early", {"a": "passed", "b": "skipped", "c": "failed"})
    late = small_report(
        tmp_path / "late", {"a": "failed", "b": "passed", "c": "skipped"}, started="2026-01-01T10:30:00+00:00"
    )
    for number, order in enumerate([(early, late), (late, early)]):
        merge(order, tmp_path / f"out{number}")
        outcomes = {test["id"]: test["outcome"] for test in written(tmp_path / f"out{number}")["tests"]}
        assert outcomes == {"a": "failed", "b": "passed", "c": "failed"}


def test_of_runs_that_started_together_the_one_named_last_counts(tmp_path):
    one, two = small_report(tmp_path / "one", {"a": "passed"}), small_report(tmp_path / "two", {"a": "failed"})
    for number, order in enumerate([(one, two), (two, one)]):
        merge(order, tmp_path / f"out{number}")
    assert [written(tmp_path / f"out{at}")["tests"][0]["outcome"] for at in (0, 1)] == ["failed", "passed"]


def test_the_later_run_is_told_by_the_time_and_not_by_its_letters(tmp_path):
    early = small_report(tmp_path / "early", {"a": "passed"}, started="2026-01-01T11:00:00+02:00")
    late = small_report(tmp_path / "late", {"a": "failed"}, started="2026-01-01T10:00:00+00:00")
    merge([late, early], tmp_path / "out")
    assert written(tmp_path / "out")["tests"][0]["outcome"] == "failed"
    assert written(tmp_path / "out")["run"]["started"] == "2026-01-01T11:00:00+02:00"


# Facts about the runs ----------------------------------------------------------------------------------------------


def merged_facts(tmp_path, *runs, mixed=False):
    folders = [small_report(tmp_path / f"s{at}", {f"t{at}": "passed"}, **run) for at, run in enumerate(runs)]
    merge(folders, tmp_path / "out", mixed=mixed)
    return written(tmp_path / "out")["run"]


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [((0, 5), 0), ((5, 5), 5), ((5, 1), 1), ((0, None), None), ((1, None), 1), ((1, 2), 2), ((0, 0), 0)],
)
def test_the_worst_exit_status_counts(tmp_path, statuses, worst):
    assert merged_facts(tmp_path, *({"exit_status": each} for each in statuses))["exit_status"] == worst


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_what_was_interrupted_stays_so_and_a_run_not_finished_is_named(tmp_path, status):
    run = merged_facts(tmp_path, {}, {"status": status})
    assert run["status"] == "interrupted"
    assert any("s1 had not finished" in note for note in run["notes"]) == (status == "running")


def test_other_versions_and_devices_are_joined_and_noted(tmp_path):
    run = merged_facts(tmp_path, {}, {"versions": {"torch": "2.15.0"}, "device": "cuda:0"}, {})
    assert run["versions"] == {"torch": "2.14.1, 2.15.0"}
    assert run["device"] == "cpu, cuda:0"
    assert "torch differs: 2.14.1 (s0), 2.15.0 (s1), 2.14.1 (s2)." in run["notes"]
    assert "Device differs: cpu (s0), cuda:0 (s1), cpu (s2)." in run["notes"]


def test_notes_keep_whose_they_are(tmp_path):
    run = merged_facts(tmp_path, {"notes": ["part"]}, {"notes": ["part"]})
    assert run["notes"][1:] == ["s0: part", "s1: part"]


def test_other_seeds_are_refused_unless_they_are_wanted(tmp_path):
    with pytest.raises(ReportFolderError, match=r"The seeds differ: 0 \(s0\), 7 \(s1\).*--mixed"):
        merged_facts(tmp_path, {}, {"seed": 7})
    assert not (tmp_path / "out").exists()
    run = merged_facts(tmp_path, {}, {"seed": 7}, mixed=True)
    assert run["seed"] == 0
    assert "The seeds differ: 0 (s0), 7 (s1)." in run["notes"]


# Folders and files -------------------------------------------------------------------------------------------------


def test_what_the_report_would_overwrite_is_refused(tmp_path):
    one, two = small_report(tmp_path / "one", {"a": "passed"}), small_report(tmp_path / "two", {"b": "passed"})
    before = (two / "report.json").read_text()
    (tmp_path / "link").symlink_to(two)
    for out in (two, tmp_path / "link", one / ".." / "two"):
        with pytest.raises(ReportFolderError, match="one of the reports that are read"):
            merge([one, two], out)
    assert (two / "report.json").read_text() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ReportFolderError, match=r"something else than a report.*give -o a new folder"):
        merge([one, two], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(ReportFolderError, match="given twice"):
        merge([one, tmp_path / "two" / ".." / "one"], tmp_path / "out")


def test_an_earlier_report_in_its_place_is_replaced(tmp_path):
    one, out = small_report(tmp_path / "one", {"a": "passed"}), small_report(tmp_path / "out", {"old": "failed"})
    (out / "images" / "old.png").write_bytes(b"old")
    merge([one], out)
    assert [test["id"] for test in written(out)["tests"]] == ["a"]
    assert not (out / "images" / "old.png").exists()


def test_missing_pictures_are_counted_and_no_reason_to_stop(shards, tmp_path):
    for number, shard in enumerate(shards):
        subprocess.run(["cp", "-r", shard, tmp_path / str(number)], check=True)
    name = max(files_of(tmp_path / "1"))
    (tmp_path / "1" / name).unlink()
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert (
        f"1 of {len(files_of(tmp_path / 'out'))} picture files were missing."
        in written(tmp_path / "out")["run"]["notes"]
    )


def report_with_picture(folder, **paths):
    small_report(folder, {"a": "passed"})
    exhibit = {"kind": "rows", "title": "t", "columns": [], "rows": [
        {"title": "s", "status": "", "figures": {}, "pictures": [{"caption": "", "alt": "", **paths}]}]}  # fmt: skip
    measurement = {"name": "m", "settings": {}, "notes": [], "metrics": [], "exhibits": [exhibit]}
    report = written(folder)
    report["tests"][0]["measurements"] = [measurement]
    (folder / "report.json").write_text(json.dumps(report))


def test_all_the_files_of_a_picture_are_copied(tmp_path):
    elsewhere = PictureFiles(tmp_path / "elsewhere")  # a report makes its folder before any picture is in it
    paths = elsewhere.save(Picture(np.zeros((600, 600, 3), np.uint8), form="numbers"))
    elsewhere.wait()
    report_with_picture(tmp_path / "one", **paths)
    files = PictureFiles(tmp_path / "one")
    files.save(Picture(np.zeros((600, 600, 3), np.uint8), form="numbers"))
    files.wait()
    merge([tmp_path / "one"], tmp_path / "out")
    assert all(paths.values())
    for name in paths.values():
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize("name", ["../secret.png", "images/../../secret.png", "{folder}/secret.png",
                                  "{folder}/one/images/own.png", "images/link.png"])  # fmt: skip
def test_a_picture_outside_the_report_is_not_fetched(tmp_path, name):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "secret.png").write_bytes(b"secret")
    one, out = tmp_path / "deep" / "one", tmp_path / "elsewhere" / "out"
    report_with_picture(one, src=name.format(folder=tmp_path / "deep"))
    (one / "images" / "own.png").write_bytes(b"own, but not by its path in the report")
    (one / "images" / "link.png").symlink_to(tmp_path / "deep" / "secret.png")
    merge([one], out)
    assert [path for path in tmp_path.rglob("*.png") if not path.is_relative_to(tmp_path / "deep")] == []
    assert written(out)["run"]["notes"][-1] == "1 of 1 picture files were missing."
