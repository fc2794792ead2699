"""Under pytest-xdist: the controller writes the one report, from records that come with each test's report."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.gallery  # noqa: F401

pytest.importorskip("xdist", reason="needs pytest-xdist")

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs test_audit.py of the tiny suite with --cnnaudit; the controller is this process, unless `apart`."""
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(tests, *args, apart=False):
        pytester.makepyfile(test_audit=textwrap.dedent(tests))
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start("--cnnaudit", "-p", "no:cacheprovider", *args)

    return run


def read(folder):
    report = json.loads((folder / "report.json").read_text())
    script = (folder / "data" / "report.js").read_text()
    shown = json.loads(script.removeprefix("window.CNNAUDIT_REPORT = ").removesuffix(";\n"))
    assert shown == report or report["run"]["status"] == "running"  # killed between the two files
    return report


def outcomes(report):
    return {test["id"].split("::", 1)[1]: test["outcome"] for test in report["tests"]}


def test_two_workers_give_the_records_of_a_serial_run(run, pytester):
    tests = """
        import pytest

        @pytest.mark.parametrize("eps", [0.07, 0.12])
        def test_attack(audit, eps): audit.attack(eps=eps)
        def test_filters(audit): assert audit.filters().roughness > 1
        def test_saliency(audit): audit.assert_saliency_localized(min_score=0.5)
        @pytest.mark.skip(reason="no")
        def test_skipped(audit): pass
    """
    reports = {}
    for name, args in {"serial": (), "parallel": ("-n", "2")}.items():
        run(tests, *args, f"--cnnaudit-dir={name}")
        reports[name] = read(pytester.path / name)
        assert len((pytester.path / name / "records.jsonl").read_text().splitlines()) == 5

    def comparable(report):
        tests = [{key: value for key, value in test.items() if key != "duration"} for test in report["tests"]]
        return json.loads(
            json.dumps(sorted(tests, key=lambda test: test["id"])).replace("serial/", "").replace("parallel/", "")
        )

    assert comparable(reports["serial"]) == comparable(reports["parallel"])
    pictures = [sorted(path.name for path in (pytester.path / name / "images").iterdir()) for name in reports]
    assert pictures[0] == pictures[1]
    assert pictures[0]
    assert reports["parallel"]["run"]["status"] == "finished"
    assert reports["parallel"]["run"]["notes"] == []


def test_a_worker_that_dies_leaves_the_other_tests_and_a_word_about_its_own(run, pytester):
    result = run(
        """
        import os, pytest

        @pytest.mark.parametrize("number", range(3))
        def test_filters(audit, number): audit.filters()
        def test_dies(audit):
            audit.filters()
            os._exit(3)
        """,
        "-n",
        "1",
    )
    report = read(pytester.path / "cnnaudit-report")
    assert outcomes(report) == {"test_dies": "crashed", **{f"test_filters[{number}]": "passed" for number in range(3)}}
    assert any("crashed while running test_audit.py::test_dies" in note for note in report["run"]["notes"])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["CRASHED *test_dies*"])


def test_stopping_at_the_first_failure_is_noted(run, pytester):
    run(
        "import pytest\n@pytest.mark.parametrize('number', range(8))\ndef test_it(audit, number): assert number < 0\n",
        "-n",
        "1",
        "-x",
    )
    report = read(pytester.path / "cnnaudit-report")
    assert 1 <= len(report["tests"]) < 8
    assert any("cut short" in note or "interrupted" in note for note in report["run"]["notes"])


def test_a_bad_folder_stops_the_run_before_workers_start(run, pytester):
    (pytester.mkdir("mine") / "thesis.txt").write_text("years")
    result = run("def test_it(audit): pass\n", "-n", "1", "--cnnaudit-dir=mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mine holds something else*"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_stopping_the_controller_leaves_what_was_done(run, interruptible, pytester, signal):
    run(
        f"""
        import os, signal, time
        from pathlib import Path

        def test_one(audit): audit.filters()
        def test_two(audit):
            for _ in range(200):  # until the controller has written of the first test
                if "test_one" in Path("cnnaudit-report/report.json").read_text():
                    break
                time.sleep(0.05)
            os.kill(os.getppid(), signal.{signal})
            time.sleep(2)
        """,
        "-n",
        "1",
        apart=True,
    )
    report = read(pytester.path / "cnnaudit-report")
    assert outcomes(report)["test_one"] == "passed"
    assert report["run"]["status"] == {"SIGINT": "interrupted", "SIGKILL": "running"}[signal]
