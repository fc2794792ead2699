"""The plugin from outside: options, selection, failures, records and the report folder. Suites run in this process."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_cnnaudit.alongside
import pytest_cnnaudit.audit
import pytest_cnnaudit.cache.cache
import pytest_cnnaudit.gallery.github
import pytest_cnnaudit.keeper
import pytest_cnnaudit.records  # noqa: F401

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
HEAVY = ("torch", "torchvision", "scipy", "PIL", "hypothesis", "numpy", "tqdm")
FILTERS = "def test_filters(audit):\n    audit.filters()\n"
ATTACK = "def test_attack(audit):\n    audit.attack(eps=0.12, attack='fgsm')\n"  # 4 of 8 hold


@pytest.fixture
def run(pytester):
    """Runs test_audit.py (dedented) of the tiny suite with --cnnaudit, measuring anew; warnings are errors, too."""
    pytester.makeconftest(CONFTEST)

    def run(tests, *args, audit=True):
        pytester.makepyfile(test_audit=textwrap.dedent(tests))
        flags = ["--cnnaudit", "--cnnaudit-no-cache"] if audit else []
        return pytester.runpytest_inprocess(*flags, "-Werror", *args, no_reraise_ctrlc=True)

    return run


@pytest.fixture
def bare(pytester):
    """Runs a suite without a conftest.py."""

    def run(tests, *args):
        pytester.makepyfile(test_audit=textwrap.dedent(tests))
        return pytester.runpytest_inprocess("-Werror", *args)

    return run


@pytest.fixture
def reported(pytester):
    def read(folder="cnnaudit-report"):
        def refuse(word):
            raise AssertionError(f"{word} is no JSON")

        return json.loads((pytester.path / folder / "report.json").read_text(), parse_constant=refuse)

    return read


@pytest.fixture
def outcomes(reported):
    return lambda: {test["id"].split("::", 1)[1]: test["outcome"] for test in reported()["tests"]}


# Without --cnnaudit ----------------------------------------------------------------------------------------------

ASKING = """
    import pytest
    import unittest

    @pytest.fixture
    def measured(audit):
        return audit.filters()

    @pytest.mark.parametrize("number", [1, 2])
    def test_direct(audit, number): audit.filters()
    def test_through_a_fixture(measured): pass
    class TestClass:
        def test_method(self, audit): audit.filters()
    class TestCase(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def give(self, audit): self.audit = audit
        def test_case(self): self.audit.filters()
    def test_other(): pass
"""


def test_without_the_flag_audits_are_skipped_with_a_reason_and_other_tests_run(bare, pytester):
    result = bare(ASKING, "-rs")
    result.assert_outcomes(passed=1, skipped=5)
    result.stdout.fnmatch_lines(["*run with --cnnaudit*"])
    assert not (pytester.path / "cnnaudit-report").exists()


def test_without_the_flag_an_audit_asked_for_while_running_is_skipped_too(bare):
    bare("def test_late(request): request.getfixturevalue('audit')").assert_outcomes(skipped=1)


def test_an_audit_asked_for_while_running_is_in_the_report(run, outcomes):
    run("def test_late(request): request.getfixturevalue('audit').filters()").assert_outcomes(passed=1)
    assert outcomes() == {"test_late": "passed"}


def test_the_plugin_imports_nothing_heavy_until_an_audit_runs(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins may import what they like
    pytester.makeconftest(f"""
        import sys
        def pytest_unconfigure():
            print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
    """)
    pytester.makepyfile(textwrap.dedent(ASKING) + "def test_fails(): assert 1 == 2\n")
    result = pytester.runpytest_subprocess("-p", "pytest_cnnaudit.plugin")
    result.assert_outcomes(passed=1, skipped=5, failed=1)
    result.stdout.fnmatch_lines(["heavy: []"])


def test_loading_the_plugin_imports_only_the_standard_library():
    code = """
import sys, pytest
before = set(sys.modules)
import pytest_cnnaudit.plugin
top = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(top - set(sys.stdlib_module_names)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "['pytest_cnnaudit']"


def test_a_project_s_own_fixture_called_audit_is_left_alone(bare):
    tests = """
        import pytest

        @pytest.fixture
        def audit():
            return "ours"

        def test_ours(audit, request):
            assert audit == "ours"
            assert request.node.get_closest_marker("cnnaudit") is None
    """
    bare(tests).assert_outcomes(passed=1)
    bare(tests, "--cnnaudit").assert_outcomes(passed=1)


def test_a_fixture_that_wraps_ours_is_still_ours(run, outcomes):
    tests = """
        import pytest

        @pytest.fixture
        def audit(audit):
            return audit

        def test_wrapped(audit):
            audit.filters()
    """
    run(tests, audit=False).assert_outcomes(skipped=1)
    run(tests).assert_outcomes(passed=1)
    assert outcomes() == {"test_wrapped": "passed"}


# Options ---------------------------------------------------------------------------------------------------------


def test_help_lists_the_options_and_the_ini_settings(pytester):
    result = pytester.runpytest_inprocess("--help")
    for name in (
        "--cnnaudit ",
        "--cnnaudit-dir=DIR",
        "--cnnaudit-device=DEVICE",
        "--cnnaudit-seed=N",
        "--cnnaudit-precision=P",
    ):
        result.stdout.fnmatch_lines([f"*{name}*"])
    for name in ("(bool)", "_dir (string)", "_device (string)", "_seed (string)", "_precision (string)"):
        result.stdout.fnmatch_lines([f"*cnnaudit{' ' if name == '(bool)' else ''}{name}*"])


def test_markers_lists_ours(pytester):
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.cnnaudit: *"])


def test_ini_settings_do_what_the_options_do(run, pytester, reported):
    pytester.makeini("[pytest]\ncnnaudit = true\ncnnaudit_dir = elsewhere\ncnnaudit_device = cpu\ncnnaudit_seed = 7\n")
    run(FILTERS, audit=False).assert_outcomes(passed=1)
    assert (reported("elsewhere")["run"]["device"], reported("elsewhere")["run"]["seed"]) == ("cpu", 7)
    assert not (pytester.path / "cnnaudit-report").exists()


def test_the_command_line_wins_over_the_ini_file(run, pytester, reported):
    pytester.makeini("[pytest]\ncnnaudit_dir = elsewhere\ncnnaudit_device = nonsense\ncnnaudit_seed = 7\n")
    result = run(FILTERS, "--cnnaudit-dir=here", "--cnnaudit-device=cpu", "--cnnaudit-seed=0")
    result.assert_outcomes(passed=1)
    assert (reported("here")["run"]["device"], reported("here")["run"]["seed"]) == ("cpu", 0)
    assert not (pytester.path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--cnnaudit-seed=two", "*--cnnaudit-seed is 'two'; give a whole number*"),
        ("--cnnaudit-seed=-1", "*--cnnaudit-seed is '-1'; give a whole number*"),
        ("--cnnaudit-device=gpu", "*--cnnaudit-device is 'gpu'; give auto, cpu, cuda, cuda:N or mps*"),
        ("--cnnaudit-device=cuda:99", "*'cuda:99' is not there*Use 'auto' or 'cpu'*"),
        ("--cnnaudit-precision=int8", "*--cnnaudit-precision is 'int8'; use float32 or bfloat16*"),
    ],
)
def test_a_bad_option_stops_the_run_before_it_starts(run, pytester, option, sentence):
    result = run("raise SystemExit('collected')", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])
    result.stderr.no_fnmatch_line("*Traceback*")
    assert not (pytester.path / "cnnaudit-report").exists()


PRECISE = """
    def test_attack(audit):
        found = audit.assert_robust(eps=0.12, min_accuracy=0.5, attack="fgsm")  # 4 of 8 hold
        assert found.per_sample["robust"].sum() == 4
        assert audit.assert_min_perturbation("linf", median=0.09).median < 0.15
        assert audit._engine.precision == {!r}
"""


def test_attacks_run_in_the_precision_asked_for(run, pytester):
    run(PRECISE.format("float32")).assert_outcomes(passed=1)
    run(PRECISE.format("bfloat16"), "--cnnaudit-precision=bfloat16").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\ncnnaudit_precision = bfloat16\n")
    run(PRECISE.format("bfloat16")).assert_outcomes(passed=1)
    run(PRECISE.format("float32"), "--cnnaudit-precision=float32").assert_outcomes(passed=1)


def test_a_bad_precision_in_the_ini_file_stops_the_run_too(run, pytester):
    pytester.makeini("[pytest]\ncnnaudit_precision = float16\n")
    result = run("raise SystemExit('collected')")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cnnaudit-precision is 'float16'; use float32 or bfloat16*"])


def test_a_bad_option_does_not_matter_without_the_flag(run):
    run(FILTERS, "--cnnaudit-seed=two", audit=False).assert_outcomes(skipped=1)


def test_a_folder_that_holds_other_files_is_refused_and_left_alone(run, pytester):
    thesis = pytester.mkdir("mine") / "thesis.txt"
    thesis.write_text("years")
    (thesis.parent / "report.json").write_text('{"generator": "another tool"}')
    result = run(FILTERS, "--cnnaudit-dir=mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cnnaudit-dir*mine holds something else*give another folder*"])
    assert sorted(path.name for path in thesis.parent.iterdir()) == ["report.json", "thesis.txt"]


def test_a_file_where_the_report_should_go_is_refused_and_left_alone(run, pytester):
    (pytester.path / "taken").write_text("mine")
    result = run(FILTERS, "--cnnaudit-dir=taken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cnnaudit-dir*taken*"])
    assert (pytester.path / "taken").read_text() == "mine"


def test_an_earlier_report_is_replaced(run, pytester, reported):
    run(FILTERS)
    old = {path.name for path in (pytester.path / "cnnaudit-report" / "images").iterdir()}
    run(ATTACK)
    new = {path.name for path in (pytester.path / "cnnaudit-report" / "images").iterdir()}
    assert [test["id"] for test in reported()["tests"]] == ["test_audit.py::test_attack"]
    assert old
    assert new
    assert not old & new


def test_the_report_goes_where_pytest_was_called_even_if_a_test_changes_folder(run, reported):
    run("def test_moves(audit, monkeypatch, tmp_path):\n    monkeypatch.chdir(tmp_path)\n    audit.filters()\n")
    assert len(reported()["tests"][0]["measurements"]) == 1


# Selection -------------------------------------------------------------------------------------------------------


def test_the_marker_selects_exactly_the_audits(run):
    result = run(ASKING, "-m", "cnnaudit", "--strict-markers")
    result.assert_outcomes(passed=5, deselected=1)
    run(ASKING, "-m", "not cnnaudit").assert_outcomes(passed=1, deselected=5)


def test_collecting_alone_writes_no_report(run, pytester):
    result = run(ASKING, "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::test_through_a_fixture"])
    assert not (pytester.path / "cnnaudit-report").exists()


@pytest.mark.parametrize(
    ("args", "note"),
    [
        (("-k", "two"), "-k two"),
        (("-m", "cnnaudit"), "-m cnnaudit"),
        (("--deselect", "test_audit.py::test_two"), "--deselect"),
        (("test_audit.py::test_two",), "test_audit.py::test_two"),
    ],
)
def test_a_narrowed_run_says_so(run, reported, args, note):
    run("def test_one(audit): audit.filters()\ndef test_two(audit): audit.filters()\n", *args)
    (said,) = reported()["run"]["notes"]
    assert "part of the suite" in said
    assert note in said


def test_a_whole_run_says_nothing(run, reported):
    run(FILTERS)
    assert reported()["run"]["notes"] == []
    assert reported()["run"]["status"] == "finished"
    assert reported()["run"]["exit_status"] == 0


def test_a_run_that_stops_at_the_first_failure_says_so(run, reported, outcomes):
    run("def test_one(audit): assert audit.filters().roughness > 1\ndef test_two(audit): audit.filters()\n", "-x")
    assert outcomes() == {"test_one": "failed"}
    assert reported()["run"]["status"] == "finished"
    assert "cut short" in reported()["run"]["notes"][0]


def test_maxfail_says_so_too(run, reported):
    run("def test_one(audit): assert 0\ndef test_two(audit): assert 0\ndef test_three(audit): pass\n", "--maxfail=2")
    assert "cut short" in reported()["run"]["notes"][0]


# The fixtures ----------------------------------------------------------------------------------------------------


def test_a_suite_without_a_model_reads_one_clear_sentence(bare):
    result = bare(FILTERS, "--cnnaudit")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*There is no model to audit: define the fixture audit_model in conftest.py*"])
    assert not re.search(r"pytest_cnnaudit/\S+\.py:\d+", result.stdout.str())


def test_a_raw_module_is_refused_with_the_remedy(bare):
    result = bare(
        """
        import pytest
        from torch import nn

        @pytest.fixture
        def audit_model():
            return nn.Linear(1, 2)

        def test_filters(audit):
            audit.filters()
        """,
        "--cnnaudit",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*needs an AuditModel, but was given Linear*AuditModel(model, mean=*"])
    assert not re.search(r"pytest_cnnaudit/\S+\.py:\d+", result.stdout.str())


def test_filters_need_no_samples_and_attacks_say_that_they_do(run):
    tests = """
        import pytest

        @pytest.fixture
        def audit_samples():
            return None

        def test_filters(audit): audit.assert_filters_smooth()
        def test_attack(audit): audit.attack(eps=0.1)
        def test_saliency(audit): audit.assert_saliency_localized()
    """
    result = run(tests)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["E*This measurement needs samples: define the fixture audit_samples*"] * 2)


def test_models_can_be_parameters_one_audit_each(run, reported):
    tests = """
        import pytest
        from pytest_cnnaudit import AuditModel
        from conftest import TinyNet

        @pytest.fixture(scope="session", params=["v1", "v2"])
        def audit_model(request):
            return AuditModel(TinyNet().eval(), name=request.param)

        def test_filters(audit): audit.filters()
    """
    run(tests).assert_outcomes(passed=2)
    assert [(test["id"], test["model"]["name"]) for test in reported()["tests"]] == [
        ("test_audit.py::test_filters[v1]", "v1"),
        ("test_audit.py::test_filters[v2]", "v2"),
    ]


# Failures --------------------------------------------------------------------------------------------------------

STORY = """
assert robust accuracy 0.50 (95% CI 0.22 to 0.78, 4 of 8) >= 0.75
  attack: fgsm, linf, eps 30.6/255, seed 0
  fooled first by: fgsm 4; weakest class: top left 0.50
  cnnaudit-report/index.html#test_audit.py::test_attack
"""


def _told(result):
    """The lines of the failure, as indented against each other."""
    return textwrap.dedent("\n".join(line[1:] for line in result.stdout.lines if re.match("E +", line)))


@pytest.mark.parametrize(
    "body",
    [
        "assert audit.attack(eps=0.12, attack='fgsm').robust_accuracy >= 0.75",
        "assert 0.75 <= audit.attack(eps=0.12, attack='fgsm').robust_accuracy",
    ],
    ids=["plain", "reversed"],
)
def test_a_failed_assertion_tells_the_whole_story(run, body):
    assert _told(run(f"def test_attack(audit):\n    {body}\n")) == STORY.strip()


def test_a_named_assertion_tells_how_far_it_went(run):
    told = _told(run("def test_attack(audit):\n    audit.assert_robust(eps=0.12, attack='fgsm', min_accuracy=0.75)\n"))
    first, *story = told.splitlines()
    assert first == "assert robust accuracy 0.00 (95% CI 0.00 to 0.56, 0 of 3) >= 0.75"
    assert story.pop(2) == "  stopped as soon as the verdict was certain: after 3 of 8 samples, 0 held and 3 did not"
    assert story == STORY.strip().replace("fgsm 4", "fgsm 3").replace("left 0.50", "left 0.00").splitlines()[1:]


def test_an_end_of_the_interval_can_be_asserted(run, reported):
    result = run("def test_attack(audit): assert audit.attack(eps=0.12, attack='fgsm').robust_accuracy.ci95[0] >= 0.3")
    result.stdout.fnmatch_lines(["E*assert robust accuracy (lower end of the 95% CI) 0.22 (n 8) >= 0.30"])
    result.stdout.fnmatch_lines(["E*cnnaudit-report/index.html#test_audit.py::test_attack"])
    (metric, *_) = reported()["tests"][0]["measurements"][0]["metrics"]
    assert metric["thresholds"] == [{"op": ">=", "value": 0.3, "holds": False, "on": "lower end"}]


def test_a_plain_assert_shows_a_metric_between_two_limits(run):
    result = run("def test_attack(audit): assert 0.6 <= audit.attack(eps=0.12, attack='fgsm').robust_accuracy <= 0.9")
    result.stdout.fnmatch_lines(["E*assert robust accuracy 0.50 (95% CI 0.22 to 0.78, 4 of 8) >= 0.60"])


def test_an_equality_on_a_metric_fails_with_its_figures(run):
    result = run("def test_attack(audit): assert audit.attack(eps=0.12, attack='fgsm').robust_accuracy == 1")
    result.stdout.fnmatch_lines(["E*assert robust accuracy 0.50 (95% CI 0.22 to 0.78, 4 of 8) == 1*"])


def test_comparisons_that_are_not_about_metrics_look_as_ever(run):
    result = run("def test_other(audit):\n    audit.filters()\n    assert [1, 2] == [1, 3]\n")
    result.stdout.fnmatch_lines(["E*assert [[]1, 2] == [[]1, 3]", "E*At index 1 diff: 2 != 3"])


@pytest.mark.parametrize(
    "body",
    [
        "audit.assert_filters_smooth(max_roughness=-1)",
        "audit.assert_robust(eps=0.12, min_accuracy=0.75, attack='fgsm')",
        "audit.assert_saliency_localized(metric='energy_in_box', min_score=1)",
        "audit.filters('nothing')",
        "audit.attack(eps=-1)",
        "audit.saliency('nothing')",
    ],
)
def test_a_failure_shows_no_frame_of_the_package_but_with_full_trace(run, body):
    tests = f"def test_it(audit): {body}\n"
    result = run(tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*def test_it(audit)*", "E *"])
    assert not re.search(r"pytest_cnnaudit/\S+\.py:\d+", result.stdout.str())
    assert re.search(r"pytest_cnnaudit/questions/\w+\.py:\d+", run(tests, "--full-trace").stdout.str())


def test_a_bug_keeps_its_frames(run):
    tests = """
        def broken(model, images, labels):
            raise RuntimeError("a bug of the user's")

        def test_it(audit): audit.attack(eps=0.1, attack=broken)
    """
    result = run(tests)
    result.stdout.fnmatch_lines(["E*RuntimeError: a bug of the user's"])
    assert re.search(r"pytest_cnnaudit/audits/robustness\.py:\d+", result.stdout.str())


def test_the_message_of_an_audit_error_is_the_sentence_itself(run, reported):
    run("def test_it(audit): audit.attack(eps=-1)")
    assert reported()["tests"][0]["message"].startswith("eps=-1 is not a radius")


def test_stopping_at_the_first_failure_works_with_an_audit(run):
    run(
        "def test_one(audit): audit.assert_filters_smooth(max_roughness=-1)\ndef test_two(): pass\n", "-x"
    ).assert_outcomes(failed=1)


# Records ---------------------------------------------------------------------------------------------------------

EVERY_OUTCOME = """
    import pytest

    @pytest.fixture
    def breaks(): raise ValueError("no fixture")
    @pytest.fixture
    def breaks_afterwards():
        yield
        raise ValueError("no teardown")

    def test_passed(audit): audit.filters()
    def test_failed(audit): assert audit.filters().roughness > 1
    def test_failed_by_word(audit): pytest.fail("not good")
    def test_error(audit): audit.filters("nothing")
    def test_exception(audit): raise KeyError("x")
    def test_setup_error(audit, breaks): pass
    def test_teardown_error(audit, breaks_afterwards): audit.filters()
    @pytest.mark.skip(reason="not today")
    def test_skipped(audit): pass
    def test_skipped_inside(audit):
        audit.filters()
        pytest.skip("not here")
    @pytest.mark.xfail(reason="known")
    def test_xfailed(audit): assert audit.filters().roughness > 1
    @pytest.mark.xfail(reason="known")
    def test_xpassed(audit): audit.filters()
    @pytest.mark.xfail(reason="known", strict=True)
    def test_xpassed_strict(audit): audit.filters()
    @pytest.mark.xfail(reason="known", run=False)
    def test_not_run(audit): pass
    def test_other(): assert 0
"""


def test_every_outcome_has_its_word_and_its_reason(run, reported, pytester):
    run(EVERY_OUTCOME)
    tests = {test["id"].split("::")[1]: test for test in reported()["tests"]}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_passed": "passed",
        "test_failed": "failed",
        "test_failed_by_word": "failed",
        "test_error": "error",
        "test_exception": "error",
        "test_setup_error": "error",
        "test_teardown_error": "error",
        "test_skipped": "skipped",
        "test_skipped_inside": "skipped",
        "test_xfailed": "xfailed",
        "test_xpassed": "xpassed",
        "test_xpassed_strict": "failed",
        "test_not_run": "xfailed",
    }
    assert tests["test_passed"]["message"] == ""
    assert "not good" in tests["test_failed_by_word"]["message"]
    assert "no fixture" in tests["test_setup_error"]["message"]
    assert "no teardown" in tests["test_teardown_error"]["message"]
    assert len(tests["test_teardown_error"]["measurements"]) == 1
    assert tests["test_skipped"]["message"] == "Skipped: not today"
    assert tests["test_skipped_inside"]["message"] == "Skipped: not here"
    assert tests["test_xfailed"]["message"] == "known"
    assert "known" in tests["test_xpassed_strict"]["message"]
    lines = (pytester.path / "cnnaudit-report" / "records.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert len(ids) == len(tests) + 1  # a second word on the test whose teardown failed
    assert set(ids) == {test["id"] for test in tests.values()}


def test_the_schema_of_the_report(run, reported, pytester):
    run('''
        def test_all(audit):
            """What it is about.

            And more.
            """
            audit.assert_filters_smooth()
            audit.assert_robust(eps=0.01, min_accuracy=0.5)
            audit.assert_saliency_localized(min_score=0.5)
            audit.saliency("gradient")
    ''').assert_outcomes(passed=1)
    report = reported()
    assert set(report) == {"schema", "generator", "run", "tests"}
    assert report["schema"] == 1
    assert report["generator"].startswith("pytest-cnnaudit ")
    assert set(report["run"]) == {
        "status", "notes", "exit_status", "started", "seed", "device", "command", "versions", "duration",
    }  # fmt: skip
    assert {"python", "pytest", "torch", "pytest-cnnaudit"} <= set(report["run"]["versions"])
    (test,) = report["tests"]
    assert set(test) == {
        "id", "outcome", "message", "story", "doc", "duration", "model", "samples", "device", "measurements",
        "location",
    }  # fmt: skip
    assert test["doc"] == "What it is about."
    assert re.fullmatch(r"All \d thresholds hold; the closest: .* (required|allowed).*\.", test["story"])
    digests = [test[each].pop("digest") for each in ("model", "samples")]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in digests)
    assert test["model"] == {"name": "tiny", "module": "TinyNet"}
    assert test["samples"] == {"n": 8, "source": "tensors (8 images)"}
    assert [each["name"] for each in test["measurements"]] == ["filters", "attack", "saliency", "saliency"]
    for measurement in test["measurements"]:
        assert set(measurement) == {
            "name", "title", "settings", "metrics", "notes", "complete", "cached", "cost", "exhibits",
        }  # fmt: skip
        assert measurement["complete"] is (measurement["name"] != "attack")  # its verdict was certain early
        assert all(isinstance(value, str) for value in measurement["settings"].values())
        for metric in measurement["metrics"]:
            assert set(metric) == {
                "name", "value", "display", "unit", "n", "of", "count", "ci95", "higher_is_better", "range",
                "thresholds", "help", "baseline",
            }  # fmt: skip
            assert metric["value"] is not None
        for exhibit in measurement["exhibits"]:
            if exhibit["kind"] == "chart":
                continue
            assert set(exhibit) == {"kind", "title", "text", "columns", "rows"}
            assert exhibit["rows"]
            for row in exhibit["rows"]:
                in_a_table = exhibit["kind"] == "table"
                assert set(row) == ({"cells", "status"} if in_a_table else {"title", "status", "figures", "pictures"})
    assert len((pytester.path / "cnnaudit-report" / "records.jsonl").read_text().splitlines()) == 1


def _pictures(report):
    return [
        picture
        for test in report["tests"]
        for measurement in test["measurements"]
        for exhibit in measurement["exhibits"]
        if exhibit["kind"] in ("grid", "rows", "samples")
        for row in exhibit["rows"]
        for picture in row["pictures"]
    ]


def test_every_picture_is_a_file_below_the_report_and_every_file_is_shown(run, reported, pytester):
    from PIL import Image

    run(ATTACK + "def test_saliency(audit): audit.saliency()\n")
    folder, pictures = pytester.path / "cnnaudit-report", _pictures(reported())
    assert len(pictures) > 20
    for picture in pictures:
        assert re.fullmatch(r"images/[0-9a-f]+\.png", picture["src"])
        assert picture["thumb"] is None
        if picture["numbers"]:
            assert (
                (folder / picture["numbers"])
                .read_text()
                .startswith(f'cnnauditPixels("{picture["src"]}","data:image/png;')
            )
        with Image.open(folder / picture["src"]) as file:
            assert file.size == (picture["width"], picture["height"])
            file.verify()
    assert {f"images/{path.name}" for path in (folder / "images").iterdir()} == {each["src"] for each in pictures}
    assert {f"data/pixels/{path.name}" for path in (folder / "data" / "pixels").iterdir()} == {
        each["numbers"] for each in pictures if each["numbers"]
    }
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_hostile_names_are_text_and_never_paths(run, reported, pytester):
    evil = "<img src=x onerror=alert(1)>\"'/../../evil"
    tests = f"""
        import pytest
        from pytest_cnnaudit import AuditModel, Samples
        from conftest import TinyNet, quadrant_images

        EVIL = {evil!r}

        @pytest.fixture
        def audit_model():
            return AuditModel(TinyNet().eval(), class_names=[EVIL + str(each) for each in range(4)], name=EVIL)

        @pytest.fixture
        def audit_samples():
            images, labels, boxes = quadrant_images()
            return Samples.from_tensors(images, labels, boxes=boxes, ids=[EVIL + str(each) for each in range(8)])

        @pytest.mark.parametrize("name", [EVIL, "a::b", "</script><script>", "\\u2028", "%2e%2e"])
        def test_it(audit, name):
            audit.attack(eps=0.12, attack="fgsm")
            raise AssertionError(EVIL)
    """
    before = set(pytester.path.rglob("*"))
    run(tests).assert_outcomes(failed=5)
    folder = pytester.path / "cnnaudit-report"
    made = {path.relative_to(pytester.path).parts[0] for path in set(pytester.path.rglob("*")) - before}
    assert made <= {"cnnaudit-report", "test_audit.py", "__pycache__", ".pytest_cache"}
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "report.json",
        "report.md",
        "records.jsonl",
        "images",
        "assets",
        "data",
    }
    assert any(evil in test["id"] for test in reported()["tests"])
    script = (folder / "data" / "report.js").read_text()
    assert script.isascii()
    assert script.startswith("window.CNNAUDIT_REPORT = {")


def test_no_value_is_not_a_number_in_the_records(run, reported):
    tests = """
        import torch
        from pytest_cnnaudit import Audit, AuditModel, Samples
        from conftest import TinyNet

        def test_nothing_correct(audit, audit_samples, audit_model):
            images = torch.full((4, 3, 16, 16), 0.3)
            images[:, :, 8:, 8:] = 0.8
            audit._samples = Samples.from_tensors(images, [0, 1, 2, 0], boxes=[None, None, None, None])
            found = audit.attack(eps=0.1)
            assert found.clean_accuracy == 0
    """
    run(tests).assert_outcomes(passed=1)
    names = [metric["name"] for metric in reported()["tests"][0]["measurements"][0]["metrics"]]
    assert names == ["robust accuracy", "clean accuracy"]


def test_a_record_is_written_as_soon_as_its_test_is_over(run):
    tests = """
        import json, time
        from pathlib import Path

        def test_one(audit): audit.filters()
        def test_two(audit):
            folder, deadline = Path("cnnaudit-report"), time.monotonic() + 10
            while not (report := json.loads((folder / "report.json").read_text()))["tests"]:
                assert time.monotonic() < deadline  # written by a thread, beside this test
                time.sleep(0.01)
            (line,) = (folder / "records.jsonl").read_text().splitlines()
            assert json.loads(line)["id"].endswith("test_one")
            assert report["run"]["status"] == "running"
            for row in report["tests"][0]["measurements"][0]["exhibits"][0]["rows"]:
                assert all((folder / picture["src"]).exists() for picture in row["pictures"])
            assert (folder / "index.html").exists()
    """
    run(tests).assert_outcomes(passed=2)


# Terminal and other plugins ----------------------------------------------------------------------------------------


def test_the_summary_has_one_line_an_audit_and_says_where_the_report_is(run):
    result = run("""
        import pytest
        def test_held(audit): audit.assert_robust(eps=0.01, min_accuracy=0.5, attack="fgsm")
        def test_measured(audit): audit.attack(eps=0.12, attack="fgsm")
        def test_fell(audit): assert audit.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.75
        def test_error(audit): audit.attack(eps=-1)
        @pytest.mark.skip(reason="no")
        def test_skipped(audit): pass
        def test_other(): pass
    """)
    lines = result.stdout.lines[
        next(i for i, line in enumerate(result.stdout.lines) if re.match("=+ cnnaudit =+", line)) :
    ]
    shown = [line for line in lines if "test_audit.py::" in line and "  " in line]
    assert len(shown) >= 4
    result.stdout.fnmatch_lines(["cnnaudit: device auto, seed 0, report cnnaudit-report/index.html"])
    result.stdout.fnmatch_lines(["PASSED*::test_held  robust accuracy 0.50 (95% CI * to 1)*>= 0.5"])
    result.stdout.fnmatch_lines(["PASSED*::test_measured  robust accuracy 0.50 (95% CI 0.215 to 0.785)"])
    result.stdout.fnmatch_lines(["FAILED*::test_fell  robust accuracy 0.50 (95% CI 0.215 to 0.785) >= 0.75"])
    result.stdout.fnmatch_lines(["ERROR*::test_error*"])
    result.stdout.fnmatch_lines(["1 skipped*"])
    result.stdout.fnmatch_lines(["report: cnnaudit-report/index.html"])


@pytest.mark.parametrize(
    "args",
    [
        ("-p", "no:cacheprovider"),
        ("-q",),
        ("-qq",),
        ("-v",),
        ("--junitxml=junit.xml",),
        ("--no-header", "--no-summary"),
        ("-s",),
    ],
    ids=" ".join,
)
def test_audits_work_beside_other_options(run, outcomes, args):
    result = run(FILTERS, *args)
    assert result.ret == 0
    assert outcomes() == {"test_filters": "passed"}


def test_audits_work_without_a_terminal(run, outcomes, pytester):
    pytester.makepyfile(test_audit=FILTERS)
    assert pytester.inline_run("--cnnaudit", "-p", "no:terminal").ret == 0
    assert outcomes() == {"test_filters": "passed"}


def test_audits_work_beside_pytest_html(run, outcomes, pytester):
    pytest.importorskip("pytest_html", reason="pytest-html is not installed")
    assert run(FILTERS, "--html=page.html").ret == 0
    assert outcomes() == {"test_filters": "passed"}


def test_a_suite_in_a_subfolder_has_its_folder_in_the_link(run, pytester):
    pytester.mkdir("deep")
    (pytester.path / "deep" / "test_deep.py").write_text(
        "def test_it(audit): audit.assert_filters_smooth(max_roughness=-1)\n"
    )
    result = run("", "deep")
    result.stdout.fnmatch_lines(["E*cnnaudit-report/index.html#deep/test_deep.py::test_it"])


def test_the_link_of_a_folder_elsewhere_is_its_whole_path(run, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = run("def test_it(audit): audit.assert_filters_smooth(max_roughness=-1)", f"--cnnaudit-dir={elsewhere}")
    result.stdout.fnmatch_lines([f"E*{elsewhere}/index.html#test_audit.py::test_it"])
    result.stdout.fnmatch_lines([f"report: {elsewhere}/index.html"])


# Determinism -------------------------------------------------------------------------------------------------------

PGD = """
    import pytest
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_pgd(audit, name): audit.attack(eps=0.12, attack="pgd", steps=1, step_size=1e-6)
"""


def _measured(reported):
    return [(test["id"], test["measurements"]) for test in reported()["tests"]]


def test_the_seed_and_the_test_s_id_decide_every_draw(run, reported):
    first = run(PGD) and _measured(reported)
    again = run(PGD) and _measured(reported)
    other = run(PGD, "--cnnaudit-seed=1") and _measured(reported)
    assert first == again
    hashes = [
        [picture["src"] for picture in _pictures({"tests": [{"measurements": each}]})] for _, each in (*first, *other)
    ]
    assert len({tuple(each) for each in hashes}) == 4  # two tests under two seeds: four random starts


def test_a_test_s_figures_do_not_depend_on_the_tests_before_it(run, reported):
    run(PGD)
    whole = dict(_measured(reported))
    run(PGD, "-k", "b")
    alone = dict(_measured(reported))
    assert len(alone) == 1
    assert all(whole[name] == found for name, found in alone.items())


def test_the_user_s_random_numbers_are_left_alone(run):
    run("""
        import random, numpy, torch

        def state():
            return random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

        def test_it(audit):
            before = state()
            audit.filters(); audit.attack(eps=0.1); audit.saliency()
            assert state() == before
    """).assert_outcomes(passed=1)


# Interruption ------------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_a_report_of_what_was_done(run, reported, outcomes):
    result = run("""
        def test_one(audit): audit.filters()
        def test_two(audit):
            audit.filters()
            raise KeyboardInterrupt
        def test_three(audit): audit.filters()
    """)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert outcomes()["test_one"] == "passed"
    assert "test_three" not in outcomes()
    run_facts = reported()["run"]
    assert (run_facts["status"], run_facts["exit_status"]) == ("interrupted", 2)
    assert "interrupted" in run_facts["notes"][0]


def test_pytest_exit_leaves_a_report_that_says_so(run, reported):
    run(
        "import pytest\ndef test_one(audit): audit.filters()\n"
        "def test_two(audit): pytest.exit('enough', returncode=3)\n"
    )
    assert reported()["run"]["status"] == "interrupted"
    assert reported()["run"]["notes"]


def test_a_file_that_cannot_be_collected_leaves_a_report_that_says_so(run, reported, pytester):
    pytester.makepyfile(test_broken="import nothing_of_that_name")
    result = run(FILTERS)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert reported()["run"]["status"] != "finished" or reported()["run"]["notes"]


@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_a_signal_leaves_a_report_of_what_was_done(pytester, interruptible, reported, outcomes, signal):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        f"""
        import os, signal, time
        def test_one(audit):
            time.sleep(1)  # records that come at once are written together
            audit.filters()
        def test_two(audit):
            while not os.path.getsize("cnnaudit-report/records.jsonl"): time.sleep(0.01)
            time.sleep(0.3)  # it is written beside this test
            os.kill(os.getpid(), signal.{signal})
            time.sleep(20)
        """
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "--cnnaudit", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, check=False, cwd=pytester.path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == {"SIGINT": 2, "SIGKILL": -9}[signal]
    assert outcomes()["test_one"] == "passed"
    assert reported()["run"]["status"] == {"SIGINT": "interrupted", "SIGKILL": "running"}[signal]
    folder = pytester.path / "cnnaudit-report"
    assert "<!DOCTYPE html>" in (folder / "index.html").read_text()
    script = (folder / "data" / "report.js").read_text()
    assert json.loads(script.removeprefix("window.CNNAUDIT_REPORT = ").removesuffix(";\n")) == reported()
    for line in (folder / "records.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_report_that_can_no_longer_be_written_ends_no_run(run):
    """A file takes the place of the report's folder in the middle of the run."""
    result = run(
        """
        import shutil
        from pathlib import Path

        def test_before(audit): audit.filters()
        def test_the_folder_goes():
            while "test_before" not in Path("cnnaudit-report/report.json").read_text(): pass
            shutil.rmtree("cnnaudit-report")
            Path("cnnaudit-report").touch()
        def test_after(audit): audit.filters()
        """
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["the report could not be written: *"])


def test_a_failed_subtest_stays_failed_in_the_report(run, outcomes):
    run(
        """
        def test_layers(audit, subtests):
            with subtests.test("dead"):
                audit.assert_filters_smooth(max_roughness=-1)
            with subtests.test("alive"):
                audit.assert_filters_smooth(max_roughness=2)
        """
    )
    assert outcomes() == {"test_layers": "failed"}


def test_an_infinite_threshold_breaks_no_summary(run):
    result = run("import math\ndef test_it(audit): assert audit.filters().roughness < math.inf\n")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASSED*test_it*roughness*"])


@pytest.mark.parametrize("option", ["--help", "--markers", "--fixtures", "--collect-only", "--setup-plan", "absent.py"])
def test_what_runs_no_test_leaves_the_last_report_alone(run, reported, option):
    run(FILTERS)
    before = reported()
    run(FILTERS, option)
    assert reported() == before


def test_a_report_folder_of_the_ini_file_is_beside_that_file(run, pytester, monkeypatch):
    pytester.makeini("[pytest]\ncnnaudit_dir = from-ini\n")
    below = pytester.mkdir("below")
    (below / "test_below.py").write_text(FILTERS)
    monkeypatch.chdir(below)
    pytester.runpytest_inprocess("--cnnaudit", str(below))
    assert (pytester.path / "from-ini" / "report.json").is_file()
    pytester.runpytest_inprocess("--cnnaudit", "--cnnaudit-dir=here", str(below))
    assert (below / "here" / "report.json").is_file()
