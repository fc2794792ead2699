"""What is given on the command line and in the ini file: refused where it cannot be, in one clear sentence."""

import re
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.cache.cache
import pytest_cnnaudit.gallery.github
import pytest_cnnaudit.keeper
import pytest_cnnaudit.records  # noqa: F401

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()


@pytest.fixture
def run(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_audit="def test_filters(audit):\n    audit.filters()\n")
    return lambda *args: pytester.runpytest_inprocess("-Werror", *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--cnnaudit-update-baselines"], "--cnnaudit-update-baselines was given without --cnnaudit: no audit would *"),
        (["--cnnaudit-prune-baselines"], "--cnnaudit-prune-baselines was given without --cnnaudit: *"),
        (["--cnnaudit-repro"], "--cnnaudit-repro was given without --cnnaudit: *"),
        (["--cnnaudit-replay", "x"], "--cnnaudit-replay was given without --cnnaudit: *"),
        (["--cnnaudit", "--cnnaudit-cache", "x", "--cnnaudit-no-cache"], "--cnnaudit-cache and --cnnaudit-no-cache *"),
        (["--cnnaudit", "--cnnaudit-replay", "x", "--cnnaudit-update-baselines"], "--cnnaudit-replay runs on a few *"),
        (["--cnnaudit", "--cnnaudit-replay", "x/y", "--cnnaudit-dir", "x"], "--cnnaudit-dir: *x holds the bundle *"),
        (["--cnnaudit", "--cnnaudit-history", "test_audit.py"], "--cnnaudit-history: *test_audit.py*"),
        (["--cnnaudit", "--cnnaudit-history", "test_audit.py/h"], "--cnnaudit-history: *"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(run, pytester, args, message):
    before = (pytester.path / "test_audit.py").read_text()
    result = run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert not (pytester.path / "cnnaudit-report").exists()
    assert (pytester.path / "test_audit.py").read_text() == before


def test_a_bundle_that_is_none_is_told_in_one_sentence(run):
    result = run("--cnnaudit", "--cnnaudit-replay", "nowhere")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*--cnnaudit-replay: There is no bundle in *nowhere *"])
    assert "repro/bundle.py" not in result.stdout.str()


def test_a_replay_does_not_write_into_the_folder_of_the_ini_file_that_has_the_bundle(run, pytester):
    pytester.makeini("[pytest]\ncnnaudit_dir = kept\ncnnaudit_repro = true\n")
    pytester.makepyfile(
        test_audit="def test_it(audit):\n    audit.assert_robust(eps=0.2, attack='fgsm', min_accuracy=1)\n"
    )
    run("--cnnaudit").assert_outcomes(failed=1)
    (bundle,) = (pytester.path / "kept" / "repro").iterdir()
    result = run("--cnnaudit", "--cnnaudit-replay", str(bundle), "test_audit.py::test_it")
    result.assert_outcomes(failed=1)
    assert (pytester.path / "cnnaudit-replay" / "index.html").exists()
    assert bundle.exists()


def test_the_history_of_the_ini_file_is_beside_it(run, pytester, monkeypatch):
    pytester.makeini("[pytest]\ncnnaudit_history = kept/h.sqlite\n")
    (pytester.path / "below").mkdir()
    monkeypatch.chdir(pytester.path / "below")
    run("--cnnaudit", "..").assert_outcomes(passed=1)
    assert (pytester.path / "kept" / "h.sqlite").exists()


def test_an_ini_file_may_turn_the_cache_off_and_bundles_on(run, pytester):
    pytester.makeini("[pytest]\ncnnaudit = true\ncnnaudit_no_cache = true\ncnnaudit_repro = true\n")
    pytester.makepyfile(
        test_audit="def test_it(audit):\n    audit.assert_robust(eps=0.2, attack='fgsm', min_accuracy=1)\n"
    )
    result = run()
    result.assert_outcomes(failed=1)
    assert not (pytester.path / ".pytest_cache" / "d" / "cnnaudit").exists()
    result.stdout.fnmatch_lines(
        ["to see test_audit.py::test_it fail again: pytest test_audit.py::test_it --cnnaudit *"]
    )


def test_every_option_is_in_the_help_and_in_the_readme(run):
    told = run("--help").stdout.str()
    flags = set(re.findall(r"^  (--cnnaudit[a-z-]*)", told, re.MULTILINE))
    assert len(flags) == 12
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert {flag for flag in flags if flag not in readme} == set()
    inis = set(re.findall(r"^  (cnnaudit\w*) \(", told, re.MULTILINE))
    assert inis == {flag.strip("-").replace("-", "_") for flag in flags} - {
        "cnnaudit_update_baselines", "cnnaudit_prune_baselines", "cnnaudit_replay",
    }  # fmt: skip
