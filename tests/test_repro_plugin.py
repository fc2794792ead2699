"""--cnnaudit-repro and --cnnaudit-replay from outside: a planted fault, its bundle, and the failure shown again."""

import json
import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.gallery
import pytest_cnnaudit.repro  # noqa: F401

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
TESTS = """
    import pytest

    @pytest.mark.parametrize("eps", [0.03, 0.12])
    def test_holds(audit, eps):  # four of eight fall at 0.12
        audit.assert_robust(eps=eps, attack="pgd", steps=5, min_accuracy=0.9)

    def test_far(audit):
        audit.assert_min_perturbation(norm="linf", median=0.5)

    def test_smooth(audit):
        audit.assert_filters_smooth(max_roughness=-1)

    def test_broken(audit):
        raise ValueError("not the model's fault")

    def test_other():
        assert False
"""


@pytest.fixture
def run(pytester):
    """Runs the tiny suite with --cnnaudit."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_audit=textwrap.dedent(TESTS))
    return lambda *args: pytester.runpytest_inprocess("--cnnaudit", "--cnnaudit-no-cache", "-Werror", *args)


@pytest.fixture
def records(pytester):
    def read(folder="cnnaudit-report"):
        report = json.loads((pytester.path / folder / "report.json").read_text())
        return {record["id"].partition("::")[2]: record for record in report["tests"]}

    return read


def test_every_audit_that_fails_leaves_a_bundle(run, pytester, records):
    result = run("--cnnaudit-repro")
    result.assert_outcomes(passed=1, failed=5)
    found = records()
    kept = {name: record["repro"] for name, record in found.items() if record.get("repro")}
    assert sorted(kept) == ["test_far", "test_holds[0.12]", "test_smooth"]
    assert sorted(path.name for path in (pytester.path / "cnnaudit-report" / "repro").iterdir()) == sorted(
        Path(each["bundle"]).name for each in kept.values()
    )
    for each in kept.values():
        assert (pytester.path / each["bundle"] / "bundle.json").is_file()
        result.stdout.fnmatch_lines([f"*{each['command'].replace('[', '[[]')}*"])


def test_without_the_option_nothing_is_left(run, pytester, records):
    run()
    assert not (pytester.path / "cnnaudit-report" / "repro").exists()
    assert not any(record.get("repro") for record in records().values())


@pytest.mark.parametrize(
    ("test", "few", "message"),
    [
        ("test_holds[0.12]", 4, "robust accuracy 0"),
        ("test_far", 8, "median perturbation"),
        ("test_smooth", 8, "roughn"),
    ],
)
def test_the_command_shows_the_failure_again_on_the_worst_samples_alone(test, few, message, run, pytester, records):
    run("--cnnaudit-repro")
    before = records()[test]
    words = shlex.split(before["repro"]["command"])
    assert words[0] == "pytest"
    result = pytester.runpytest_inprocess(*words[1:])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*assert {message}*"])
    assert records() == {**records(), test: before}  # the report that holds the bundle is as it was
    (again,) = records("cnnaudit-replay").values()
    assert again["id"] == before["id"] and again["outcome"] == "failed"
    assert again["samples"]["n"] <= few
    pictures = [
        picture["src"]
        for exhibit in again["measurements"][-1]["exhibits"]
        for row in exhibit.get("rows", ())
        for picture in row.get("pictures", ())
    ]
    assert pictures and all((pytester.path / "cnnaudit-replay" / name).is_file() for name in pictures)


def test_a_test_that_is_content_now_passes_on_the_same_samples(run, pytester, records):
    run("--cnnaudit-repro")
    words = shlex.split(records()["test_holds[0.12]"]["repro"]["command"])
    tests = pytester.path / "test_audit.py"
    tests.write_text(tests.read_text().replace("min_accuracy=0.9", "min_accuracy=0"))
    pytester.runpytest_inprocess(*words[1:]).assert_outcomes(passed=1)
    assert records("cnnaudit-replay")["test_holds[0.12]"]["samples"]["n"] < 8


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["test_audit.py::test_far"], "is of test_audit.py::test_holds*0.12*, not of test_audit.py::test_far"),
        (["test_audit.py::test_holds[0.12]", "--cnnaudit-seed", "1"], "use --cnnaudit-seed 0"),
    ],
)
def test_another_test_or_seed_is_one_clear_sentence(args, message, run, pytester, records):
    run("--cnnaudit-repro")
    bundle = records()["test_holds[0.12]"]["repro"]["bundle"]
    result = run("--cnnaudit-replay", bundle, *args)
    assert result.ret != 0
    result.stdout.fnmatch_lines([f"*{message}*"])


def test_a_folder_that_is_no_bundle_is_one_clear_sentence(run):
    result = run("--cnnaudit-replay", "nowhere", "test_audit.py::test_far")
    assert result.ret != 0
    assert re.search(r"There is no bundle in .*nowhere", result.stdout.str() + result.stderr.str())


def test_a_bundle_that_cannot_be_written_costs_the_run_nothing(run, records, monkeypatch):
    from pytest_cnnaudit.repro import write

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_atomically", full)
    run("--cnnaudit-repro").assert_outcomes(passed=1, failed=5)
    told = records()["test_smooth"]["repro"]
    assert "No space left on device" in told["trouble"]
    assert told["command"] == "pytest test_audit.py::test_smooth --cnnaudit --cnnaudit-seed 0"  # shows it as well


def test_what_is_measured_among_all_samples_runs_on_all_of_them_again(run, pytester, records):
    (pytester.path / "test_audit.py").write_text(
        "def test_alike(audit):\n    assert audit.neighbours().feature_agreement >= 2\n"
    )
    run("--cnnaudit-repro").assert_outcomes(failed=1)
    words = shlex.split(records()["test_alike"]["repro"]["command"])
    pytester.runpytest_inprocess(*words[1:]).assert_outcomes(failed=1)
    again = records("cnnaudit-replay")["test_alike"]
    assert (again["outcome"], again["samples"]["n"]) == ("failed", 8)


def test_a_new_run_takes_old_bundles_away(run, pytester):
    run("--cnnaudit-repro")
    run("--cnnaudit-repro", "-k", "test_smooth")
    assert [path.name[:11] for path in (pytester.path / "cnnaudit-report" / "repro").iterdir()] == ["test_smooth"]


def test_under_xdist_bundles_are_left_as_well(run, pytester, records):
    pytest.importorskip("xdist")
    pytester.runpytest_subprocess(
        "--cnnaudit", "--cnnaudit-no-cache", "--cnnaudit-repro", "-n2", "-p", "no:cacheprovider"
    ).assert_outcomes(passed=1, failed=5)
    kept = [record["repro"] for record in records().values() if record.get("repro")]
    assert len(kept) == 3 and all((pytester.path / each["bundle"] / "bundle.json").is_file() for each in kept)


def test_a_merged_report_takes_the_bundles_along_and_its_command_names_them_there(run, pytester, records):
    run("--cnnaudit-repro")
    (pytester.path / "cnnaudit-report").rename(pytester.path / "shard 1")  # downloaded from somewhere else
    run("-k", "other or 0.03", "--cnnaudit-dir", "shard 2")
    result = pytester.run(sys.executable, "-m", "pytest_cnnaudit", "merge", "shard 1", "shard 2", "-o", "all of it")
    assert result.ret == 0
    merged = records("all of it")["test_holds[0.12]"]["repro"]
    assert Path(merged["bundle"]).parent == Path("all of it", "repro")
    assert sorted(each.name for each in (pytester.path / "all of it" / "repro").iterdir()) == sorted(
        each.name for each in (pytester.path / "shard 1" / "repro").iterdir()
    )
    words = shlex.split(merged["command"])
    assert words[-1] == merged["bundle"]
    pytester.runpytest_inprocess(*words[1:], "--cnnaudit-no-cache").assert_outcomes(failed=1)


@pytest.mark.parametrize("bundle", ["../repro/..", "..", "elsewhere", "", None, 3])
def test_a_report_cannot_name_what_is_not_a_bundle_of_its_own(run, pytester, records, bundle):
    run("--cnnaudit-repro", "-k", "smooth")
    path = pytester.path / "cnnaudit-report" / "report.json"
    (pytester.path / "secret").mkdir()
    (pytester.path / "secret" / "bundle.json").write_text("secret")
    (pytester.path / "cnnaudit-report" / "bundle.json").write_text("secret")
    (pytester.path / "cnnaudit-report" / "repro" / "elsewhere").symlink_to(pytester.path / "secret")
    report = json.loads(path.read_text())
    report["tests"][0]["repro"]["bundle"] = bundle
    path.write_text(json.dumps(report))
    result = pytester.run(sys.executable, "-m", "pytest_cnnaudit", "merge", "cnnaudit-report", "-o", "merged")
    assert result.ret == 0
    assert not [file for file in (pytester.path / "merged").rglob("*") if file.name == "bundle.json"]
