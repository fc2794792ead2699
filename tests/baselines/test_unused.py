"""Which baselines nobody owns: only what a whole run has proof of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit.baselines import unused as module
from pytest_cnnaudit.baselines.unused import WholeRun, unused

MODULE = "tests/test_audit.py"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A baseline file of these tests, each with the metrics a and b; the module is there."""
    (tmp_path / "tests").mkdir()
    (tmp_path / MODULE).touch()
    entries = {}
    monkeypatch.setattr(module, "read", lambda path: {test: {"a": {}, "b": {}} for test in entries[path]})

    def kept(*tests):
        path = tmp_path / "tests" / "__cnnaudit__" / "test_audit.json"
        entries[path] = tests
        return path

    return kept


def a_run(root, modules=(MODULE,), skipped=(), tests=(), asked=None):
    return WholeRun(root, set(modules), set(skipped), set(tests), asked or {})


def test_a_test_that_is_gone_owns_nothing(kept, tmp_path):
    path = kept(f"{MODULE}::test_x", f"{MODULE}::test_y")
    run = a_run(tmp_path, tests=[f"{MODULE}::test_y"])
    assert unused(path, run) == [(f"{MODULE}::test_x", "a"), (f"{MODULE}::test_x", "b")]


def test_a_test_that_passed_owns_what_it_asked_for(kept, tmp_path):
    test = f"{MODULE}::test_x"
    assert unused(kept(test), a_run(tmp_path, tests=[test], asked={test: {"a"}})) == [(test, "b")]
    assert unused(kept(test), a_run(tmp_path, tests=[test])) == []


def test_what_a_skipped_class_or_folder_holds_is_not_known(kept, tmp_path):
    path = kept(f"{MODULE}::TestX::test_x", f"{MODULE}::TestXY::test_x")
    gone = unused(path, a_run(tmp_path, skipped=[f"{MODULE}::TestX"]))
    assert {test for test, _ in gone} == {f"{MODULE}::TestXY::test_x"}
    assert unused(path, a_run(tmp_path, skipped=["tests"])) == []


def test_a_module_that_was_not_collected_is_not_known_unless_it_is_gone(kept, tmp_path):
    path = kept(f"{MODULE}::test_x")
    assert unused(path, a_run(tmp_path, modules=[])) == []
    (tmp_path / MODULE).unlink()
    assert len(unused(path, a_run(tmp_path, modules=[]))) == 2


@pytest.mark.parametrize(
    ("file", "is_known"), [("test_audit.py", False), (f"deep/{MODULE}", False), ("old/a.py", True)]
)
def test_ids_of_another_root_folder_are_not_known(kept, tmp_path, file, is_known):
    assert bool(unused(kept(f"{file}::test_x"), a_run(tmp_path))) == is_known


TESTS = st.sets(st.sampled_from([f"{MODULE}::test_{name}" for name in ("x", "y", "z[1]", "z[2]", "z[NOTSET]")]))
METRICS = st.sets(st.sampled_from("ab"))


@given(tests=TESTS, passed=TESTS, asked=METRICS)
def test_no_test_loses_what_it_asked_for_and_one_that_did_not_pass_loses_nothing(tests, passed, asked):
    every = {f"{MODULE}::test_{name}" for name in ("x", "y", "z[1]", "z[2]")}
    without_cases = {each for each in every if "z[" in each and f"{MODULE}::test_z[NOTSET]" in tests}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read", lambda _: {test: {"a": {}, "b": {}} for test in every})
        run = a_run(Path("/root_folder"), tests=tests, asked=dict.fromkeys(passed & tests, asked))
        gone = unused(Path("/root_folder/tests/__cnnaudit__/test_audit.json"), run)
    lost = {(test, metric) for test in every - tests for metric in "ab"}
    lost |= {(test, metric) for test in every & tests & passed for metric in "ab" if metric not in asked}
    assert set(gone) == {(test, metric) for test, metric in lost if test not in without_cases}
