"""A report in the place of an old one: pictures that are shown again are moved, and nothing else of it stays."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from pytest_cnnaudit.gallery import PictureFiles, Report
from pytest_cnnaudit.gallery import images as module
from pytest_cnnaudit.results import Picture

RUN = {
    "started": "2026-01-01T00:00:00+00:00",
    "seed": 0,
    "device": "cpu",
    "command": "",
    "versions": {"pytest-cnnaudit": "0.1.0"},
}
NOTHING = {"message": "", "doc": "", "duration": 0.0, "model": None, "samples": None, "measurements": []}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


A, B, LARGE = (
    Picture(noise(*shape, seed=seed), form="numbers") for seed, shape in enumerate([(9, 9), (8, 8), (520, 5)])
)


def report(folder, *pictures, finish=True, run=RUN):
    made, files = Report(folder, run), PictureFiles(folder)
    paths = [files.save(picture) for picture in pictures]
    files.wait()
    made.add({"id": "test", "outcome": "passed", **NOTHING})
    if finish:
        made.finish("finished", 0)
    return paths


def files_of(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "assets" not in path.parts
    }


@pytest.fixture
def encoded(monkeypatch):
    """What is encoded, picture by picture."""
    seen, write = [], module._write
    monkeypatch.setattr(module, "_write", lambda pixels, *rest: (seen.append(pixels.shape), write(pixels, *rest)))
    return seen


def test_a_picture_that_is_shown_again_is_not_encoded_again(tmp_path, encoded):
    before = report(tmp_path / "report", A, LARGE)
    names = files_of(tmp_path / "report")
    del encoded[:]
    assert report(tmp_path / "report", A, LARGE) == before
    assert encoded == []
    assert files_of(tmp_path / "report") == names
    assert np.array_equal(np.asarray(Image.open(tmp_path / "report" / before[0]["src"])), A.pixels)


def test_a_picture_that_is_not_shown_again_is_gone_and_a_new_one_is_there(tmp_path, encoded):
    report(tmp_path / "report", A)
    report(tmp_path / "report", B)
    fresh = tmp_path / "fresh"
    report(fresh, B)
    assert files_of(tmp_path / "report") == files_of(fresh)
    assert encoded == [A.pixels.shape, B.pixels.shape, B.pixels.shape]


def test_after_a_run_that_was_killed_the_pictures_of_both_are_known(tmp_path, encoded):
    report(tmp_path / "report", A, B)
    report(tmp_path / "report", A, finish=False)
    del encoded[:]
    report(tmp_path / "report", A, B)
    assert encoded == []
    assert not (tmp_path / "report" / ".last").exists()


def test_the_pictures_of_another_version_are_not_taken_over(tmp_path, encoded):
    report(tmp_path / "report", A)
    report(tmp_path / "report", A, run={**RUN, "versions": {"pytest-cnnaudit": "0.0.9"}})
    assert len(encoded) == 2


def test_of_two_processes_that_show_the_same_picture_neither_fails(tmp_path):
    report(tmp_path / "report", A)
    Report(tmp_path / "report", RUN)
    one, other = PictureFiles(tmp_path / "report"), PictureFiles(tmp_path / "report")
    assert one.save(A) == other.save(A)
    one.wait()
    other.wait()
    assert (tmp_path / "report" / one.save(A)["src"]).exists()


@pytest.mark.parametrize("leftover", [".report.json.x1.tmp", ".index.html.zz.tmp"])
def test_a_folder_in_which_a_first_run_was_killed_is_taken(tmp_path, leftover):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / leftover).write_text("half of i")
    report(tmp_path / "report", A)
    assert leftover not in files_of(tmp_path / "report")


KILLED_AT_EVERY_STEP = """
    import os, shutil, sys
    from pathlib import Path

    from pytest_cnnaudit.gallery.read import read_report
    from pytest_cnnaudit.gallery.report import Report, _files_of

    folder, run = Path(sys.argv[1]), eval(sys.argv[2])
    STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"}

    def replace(at):
        steps = 0

        def step(event, arguments):
            nonlocal steps
            if event in STEPS and not (event == "open" and arguments[1] in ("r", "rb")):
                steps += 1
                if steps == at:
                    os._exit(9)

        sys.addaudithook(step)
        Report(folder, run)
        os._exit(0)

    shutil.copytree(folder, folder.with_name("before"))
    at, seen = 0, set()
    while True:
        at += 1
        child = os.fork()
        if child == 0:
            replace(at)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        tests = read_report(folder).tests
        for test in tests:
            for name in _files_of(test):
                assert (folder / name).stat().st_size, (at, name)
        seen.add(len(tests))
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("before"), folder)
    print(at, seen)
"""


@pytest.mark.parametrize("finish", [True, False])
def test_killed_at_any_step_of_taking_an_old_report_s_place_it_names_no_picture_that_is_not_there(tmp_path, finish):
    folder = tmp_path / "report"
    made, files = Report(folder, RUN), PictureFiles(folder)
    row = {"title": "", "status": "", "figures": {}, "pictures": [files.save(A), files.save(LARGE)]}
    exhibit = {"kind": "rows", "title": "", "columns": [], "rows": [row]}
    shown = {"name": "", "settings": {}, "notes": [], "metrics": [], "exhibits": [exhibit]}
    files.wait()
    made.add({"id": "test", "outcome": "passed", **NOTHING, "measurements": [shown]})
    if finish:
        made.finish("finished", 0)
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_AT_EVERY_STEP), str(folder), repr(RUN)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    steps, seen = told.stdout.split(maxsplit=1)
    assert int(steps) > 50  # the files of the page alone are more
    assert seen == "{0, 1}\n"  # the old report, then the new one
