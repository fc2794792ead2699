"""Baselines under pytest-xdist: the controller is the one writer, and hears from workers what they left out."""

import json
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.baselines.changes
import pytest_cnnaudit.baselines.unused
import pytest_cnnaudit.gallery.github
import pytest_cnnaudit.keeper  # noqa: F401

pytest.importorskip("xdist", reason="needs pytest-xdist")

CONFTEST = (
    (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
    + """

import os


def pytest_collection_modifyitems(items):
    if os.environ.get("ACT") == "drop":  # without a word to pytest_deselected
        del items[0]


@pytest.fixture
def measure(audit):
    return lambda: audit.assert_no_regression(audit.attack(eps=float(os.environ["EPS"]), attack="fgsm"))
"""
)
SUITE = """
import os

def test_one(measure): measure()
def test_two(measure):
    measure()
    if os.environ["ACT"] == "die":
        os._exit(3)
    assert os.environ["ACT"] != "fail"
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs a suite of two modules; `act` is what test_two does, `eps` a setting of what is measured."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_audit=SUITE, test_other="def test_other(measure): measure()\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*args, act="", eps=0.03):
        monkeypatch.setenv("ACT", act)
        monkeypatch.setenv("EPS", str(eps))
        return pytester.runpytest_inprocess("--cnnaudit", "-p", "no:cacheprovider", *args)

    return run


@pytest.fixture
def kept(pytester):
    """The value of each test's baseline."""

    def kept():
        found = {}
        for path in pytester.path.rglob("__cnnaudit__/*.json"):
            for test, metrics in json.loads(path.read_text())["tests"].items():
                found[test.partition("::test_")[2]] = metrics["robust accuracy"]["value"]
        return found

    return kept


def test_two_workers_update_one_file_and_prune_it(run, kept, pytester):
    assert run("-n", "2", "--cnnaudit-update-baselines").ret == 0
    assert kept() == {"one": 1, "two": 1, "other": 1}
    assert sorted(path.name for path in (pytester.path / "__cnnaudit__").iterdir()) == [
        "test_audit.json",
        "test_other.json",
    ]
    (pytester.path / "test_other.py").unlink()
    pytester.makepyfile(test_audit="def test_two(measure): measure()\n")
    result = run("-n", "1", "--dist", "loadfile", "--cnnaudit-update-baselines", "--cnnaudit-prune-baselines", eps=0.12)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["removed: test_audit.py::test_one *", "removed: test_other.py::test_other *"])
    assert kept() == {"two": 0.5}


@pytest.mark.parametrize(
    ("act", "args", "measured", "why"),
    [
        ("die", ("--max-worker-restart", "0"), ["one"], "1 worker crashed"),
        ("drop", (), ["two", "other"], "1 test deselected"),
        ("fail", ("-x", "--dist", "loadfile"), ["one", "two"], "cut short"),
    ],
)
def test_a_run_that_is_not_whole_deletes_nothing(run, kept, pytester, act, args, measured, why):
    run("--cnnaudit-update-baselines")
    before = kept()
    assert before == {"one": 1, "two": 1, "other": 1}
    path = pytester.path / "__cnnaudit__" / "test_gone.json"
    path.write_bytes((path.parent / "test_other.json").read_bytes().replace(b"test_other.py::", b"test_gone.py::gone"))
    both = ("--cnnaudit-update-baselines", "--cnnaudit-prune-baselines")
    result = run("-n", "1", *both, *args, act=act, eps=0.12)
    result.stdout.fnmatch_lines([f"no baseline was removed: *{why}*"])
    assert path.exists()
    path.unlink()
    assert kept() == {**before, **dict.fromkeys(measured, 0.5)}
