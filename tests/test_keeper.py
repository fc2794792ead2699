"""Baselines over the runs of a suite: updating never deletes, and pruning wants the whole suite."""

import json
import os
import shutil
from pathlib import Path

import pytest

import pytest_cnnaudit.alongside
import pytest_cnnaudit.audit
import pytest_cnnaudit.baselines.changes
import pytest_cnnaudit.baselines.unused
import pytest_cnnaudit.cache
import pytest_cnnaudit.gallery.github
import pytest_cnnaudit.keeper
import pytest_cnnaudit.records  # noqa: F401

CONFTEST = (
    (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
    + """

import os

ACT = os.environ.get("ACT", "")


@pytest.fixture(scope="session")
def audit_model():
    net = TinyNet().eval()
    if os.environ.get("MODEL") == "bad":  # class 0 wins: 2 of 8 are right, and hold
        net.linear.bias = nn.Parameter(torch.tensor([9.0, 0, 0, 0]))
    return AuditModel(net, class_names=CLASSES, name="tiny")


def pytest_collection_modifyitems(items):
    if ACT == "drop":  # without a word to pytest_deselected
        items[:] = [item for item in items if "two" not in item.name]


def pytest_runtest_logstart(nodeid):
    if ACT == "internal" and "two" in nodeid:
        raise RuntimeError("a plugin is broken")


@pytest.fixture
def measure(audit):
    def measure(eps=0.03):
        audit.assert_no_regression(audit.attack(eps=eps, attack="fgsm"))

    return measure
"""
)

SUITE = """
import os
import pytest

ACT = os.environ.get("ACT", "")


def test_one(measure):
    measure()


@pytest.mark.usefixtures("measure")
def test_two(measure):
    if ACT == "skip":
        pytest.skip("no GPU")
    measure()
    if ACT == "interrupt":
        raise KeyboardInterrupt
    if ACT == "exit":
        pytest.exit("enough", returncode=0)
    if ACT == "error":
        raise ValueError("no such file")
    assert ACT != "fail"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_three(measure, version):
    measure()
"""

IDS = ["one", "two", "three[v1]", "three[v2]"]
EVERY = [*IDS, "other"]
METRIC = "robust accuracy"


@pytest.fixture
def suite(pytester, monkeypatch):
    """Two modules whose tests compare with baselines."""
    monkeypatch.delenv("ACT", raising=False)
    monkeypatch.delenv("MODEL", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_audit=SUITE, test_other="def test_other(measure): measure()\n")
    return pytester


@pytest.fixture
def run(suite, monkeypatch):
    """Runs the suite; `act` is what test_two does, `model` which one is audited."""

    def run(*args, act="", model="good"):
        monkeypatch.setenv("ACT", act)
        monkeypatch.setenv("MODEL", model)
        shutil.rmtree(suite.path / "__pycache__", ignore_errors=True)  # a test may rewrite a module within a second
        return suite.runpytest_inprocess("--cnnaudit", "-Werror", *args, no_reraise_ctrlc=True)

    return run


@pytest.fixture
def kept(suite):
    """All that is in the suite's baseline files, by the test's name and metric."""

    def kept():
        files = [json.loads(path.read_text(encoding="utf-8")) for path in suite.path.rglob("__cnnaudit__/*.json")]
        return {
            (test.partition("::test_")[2], metric): entry
            for file in files
            for test, metrics in file["tests"].items()
            for metric, entry in metrics.items()
        }

    return kept


@pytest.fixture(scope="module")
def files():
    """The baseline files of the good model, once a run has written them."""
    return {}


@pytest.fixture
def updated(run, kept, suite, files):
    """The suite with baselines of the good model."""
    if not files:
        assert run("--cnnaudit-update-baselines").ret == 0
        files |= {path.name: path.read_bytes() for path in suite.path.rglob("__cnnaudit__/*.json")}
    for name, content in files.items():
        (suite.path / "__cnnaudit__").mkdir(exist_ok=True)
        (suite.path / "__cnnaudit__" / name).write_bytes(content)
    assert set(kept()) == {(name, METRIC) for name in EVERY}
    return kept()


# Updating ----------------------------------------------------------------------------------------------------------


def test_a_missing_baseline_fails_and_an_update_makes_it(run, kept, suite):
    assert run().ret == 1
    assert kept() == {}
    result = run("--cnnaudit-update-baselines")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_audit.py::test_one  robust accuracy 1.00 (new)", "baselines: 5 new*"])
    assert sorted(path.name for path in (suite.path / "__cnnaudit__").iterdir()) == [
        "test_audit.json",
        "test_other.json",
    ]
    assert run().ret == 0


def test_what_measures_the_same_stays_byte_for_byte(run, updated, suite):
    files = {path: path.read_bytes() for path in suite.path.rglob("__cnnaudit__/*.json")}
    times = {path: path.stat().st_mtime_ns for path in files}
    result = run("--cnnaudit-update-baselines")
    result.stdout.fnmatch_lines(["baselines: 5 unchanged*"])
    assert {path: path.read_bytes() for path in files} == files
    assert {path: path.stat().st_mtime_ns for path in files} == times


@pytest.mark.parametrize(
    ("act", "args", "measured"),
    [
        ("", (), EVERY),
        ("", ("-k", "two"), ["two"]),
        ("", ("-m", "usefixtures"), ["two"]),
        ("", ("--deselect", "test_audit.py::test_one"), [*IDS[1:], "other"]),
        ("", ("--ignore", "test_audit.py"), ["other"]),
        ("", ("test_audit.py::test_three[v2]",), ["three[v2]"]),
        ("", ("test_other.py",), ["other"]),
        ("drop", (), ["one", *IDS[2:], "other"]),
        ("fail", ("-x",), ["one", "two"]),
        ("fail", ("--maxfail=1",), ["one", "two"]),
        ("fail", ("--sw",), ["one", "two"]),
        ("fail", (), EVERY),
        ("skip", (), ["one", *IDS[2:], "other"]),
        ("error", (), ["one", *IDS[2:], "other"]),
        ("interrupt", (), ["one"]),
        ("exit", (), ["one"]),
        ("internal", (), ["one"]),
        ("", ("--collect-only",), []),
    ],
)
def test_updating_never_deletes(run, updated, kept, act, args, measured):
    run("--cnnaudit-update-baselines", *args, act=act, model="bad")
    now = kept()
    assert set(now) == set(updated)
    assert {name for (name, _), entry in now.items() if entry["value"] == 0.25} == set(measured)
    assert {key: entry for key, entry in now.items() if key[0] not in measured} == {
        key: entry for key, entry in updated.items() if key[0] not in measured
    }


def test_updating_what_failed_last_time_leaves_the_rest(run, updated, kept):
    assert run(act="fail").ret == 1
    run("--lf", "--cnnaudit-update-baselines", model="bad")
    assert [name for (name, _), entry in kept().items() if entry["value"] == 0.25] == ["two"]
    assert list(kept()) == list(updated)


def test_an_update_without_a_measurement_says_so(run, updated, kept):
    result = run("--cnnaudit-update-baselines", "-k", "nothing")
    result.stdout.fnmatch_lines(["baselines: none *"])
    assert kept() == updated


def test_two_metrics_of_one_name_are_two_baselines(run, kept, suite):
    suite.makepyfile(test_audit="def test_one(measure):\n    measure(0.03)\n    measure(0.12)\n")
    run("--cnnaudit-update-baselines", "test_audit.py")
    assert {metric: entry["value"] for (_, metric), entry in kept().items()} == {METRIC: 1, f"{METRIC} (2)": 0.5}


@pytest.mark.parametrize("content", ["{", "<<<<<<< ours\n", ""])
def test_a_broken_file_is_left_alone_and_ends_an_update_badly(run, updated, suite, kept, content):
    broken = suite.path / "__cnnaudit__" / "test_audit.json"
    broken.write_text(content)
    suite.makepyfile(test_audit="def test_one(audit): audit.filters()\n")  # whose tests pass
    result = run("--cnnaudit-update-baselines", "--cnnaudit-prune-baselines", model="bad")
    assert result.ret == 1
    assert sum("test_audit.json" in line for line in result.stdout.lines) == 1
    assert broken.read_text() == content
    assert json.loads((broken.parent / "test_other.json").read_text())["tests"]["test_other.py::test_other"][METRIC][
        "value"
    ] == pytest.approx(0.25)
    assert (suite.path / "cnnaudit-report" / "report.json").exists()


def test_a_file_that_cannot_be_written_ends_an_update_badly(run, suite):
    (suite.path / "__cnnaudit__").write_text("no folder")
    result = run("--cnnaudit-update-baselines", "test_other.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*__cnnaudit__*test_other.json*"])


# Unused ones, and pruning ------------------------------------------------------------------------------------------


def test_nothing_is_said_where_every_baseline_is_used(run, updated, kept):
    result = run()
    result.stdout.no_fnmatch_line("*unused*")
    result.stdout.no_fnmatch_line("*cnnaudit baselines*")
    run("--cnnaudit-prune-baselines").stdout.fnmatch_lines(["baselines removed: none is unused"])
    assert kept() == updated


@pytest.fixture
def outgrown(suite, updated):
    """One test is gone, one asks for nothing any more, one module is gone."""
    changed = SUITE.replace("def test_one(measure):\n    measure()", "def test_one(audit):\n    audit.filters()")
    suite.makepyfile(test_audit=changed.replace('["v1", "v2"]', '["v1"]'))
    (suite.path / "test_other.py").unlink()
    return updated


GONE = [("one", METRIC), ("other", METRIC), ("three[v2]", METRIC)]


def test_unused_ones_are_listed_and_stay(run, outgrown, kept):
    result = run()
    listed = [line.split()[1] for line in result.stdout.lines if line.startswith("unused: ")]
    assert sorted(each.partition("::test_")[2] for each in listed) == [name for name, _ in GONE]
    result.stdout.fnmatch_lines(["*no test uses: 3; --cnnaudit-prune-baselines removes them"])
    assert kept() == outgrown


def test_pruning_removes_them_and_the_file_of_a_module_that_is_gone(run, outgrown, kept, suite):
    result = run("--cnnaudit-prune-baselines")
    result.stdout.fnmatch_lines(["removed: test_other.py::test_other  robust accuracy", "baselines removed: 3"])
    assert kept() == {key: entry for key, entry in outgrown.items() if key not in GONE}
    assert [path.name for path in (suite.path / "__cnnaudit__").iterdir()] == ["test_audit.json"]


def test_updating_and_pruning_at_once_replaces_a_renamed_test(run, outgrown, kept, suite):
    suite.makepyfile(test_audit=SUITE.replace('"v2"]', '"v3"]').replace("test_one", "test_first"))
    assert run("--cnnaudit-update-baselines", "--cnnaudit-prune-baselines").ret == 0
    assert {name for name, _ in kept()} == {"first", "two", "three[v1]", "three[v3]"}


@pytest.mark.parametrize(
    ("act", "args", "why", "status"),
    [
        ("", ("-k", "not nothing"), "-k not nothing", 0),
        ("", ("-m", "not nothing"), "-m not nothing", 0),
        ("", ("--lf",), "--lf", 0),
        ("", ("--ff", "--lf"), "--lf", 0),
        ("", ("--deselect", "nothing"), "--deselect", 0),
        ("", ("--ignore", "nothing"), "--ignore", 0),
        ("", ("--ignore-glob", "nothing"), "--ignore-glob", 0),
        ("", ("test_audit.py::test_two",), "test_audit.py::test_two", 0),
        ("drop", (), "1 test deselected", 0),
        ("fail", ("-x",), "cut short", 1),
        ("fail", ("--maxfail=1",), "cut short", 1),
        ("interrupt", (), "cut short", 2),
        ("exit", (), "cut short", 0),
        ("error", (), "1 audit had an error", 1),
        ("", ("--collect-only",), "--collect-only", 0),
        ("", ("--setup-only",), "3 tests did not run", 0),
    ],
)
def test_pruning_refuses_a_run_that_was_not_whole(run, outgrown, kept, act, args, why, status):
    result = run("--cnnaudit-prune-baselines", *args, act=act)
    (told,) = [line for line in result.stdout.lines if line.startswith("no baseline was removed")]
    assert why in told
    assert kept() == outgrown
    assert result.ret == status


def test_a_run_that_was_not_whole_lists_nothing(run, outgrown):
    run("-k", "two").stdout.no_fnmatch_line("unused:*")


def test_pruning_refuses_after_an_internal_error(run, outgrown, kept):
    assert run("--cnnaudit-prune-baselines", act="internal").ret == pytest.ExitCode.INTERNAL_ERROR
    assert kept() == outgrown


def test_pruning_refuses_after_a_collection_error(run, outgrown, kept, suite):
    suite.makepyfile(test_broken="import nothing_of_this_name\n")
    for args in ((), ("--continue-on-collection-errors",)):
        result = run("--cnnaudit-prune-baselines", *args)
        result.stdout.fnmatch_lines(["no baseline was removed: *1 collection error*"])
        assert kept() == outgrown


@pytest.mark.parametrize("act", ["skip", "fail"])
def test_a_test_without_its_full_say_keeps_its_baselines(run, updated, kept, suite, act):
    suite.makepyfile(test_audit=SUITE.replace('    measure()\n    if ACT == "interrupt"', "    if ACT == 'interrupt'"))
    run("--cnnaudit-prune-baselines", act=act).stdout.fnmatch_lines(["baselines removed: none is unused"])
    assert kept() == updated
    run("--cnnaudit-prune-baselines").stdout.fnmatch_lines(["baselines removed: 1"])


@pytest.mark.parametrize(
    "change",
    [
        ("def test_one", "@pytest.mark.xfail(strict=False)\ndef test_one"),
        ("def test_one", "@pytest.mark.xfail\ndef test_one"),
        ("import pytest\n", "import pytest\npytest.skip('not here', allow_module_level=True)\n"),
        ("import pytest\n", "import pytest\npytest.importorskip('nothing_of_this_name')\n"),
        ('["v1", "v2"]', "[]"),
        (
            "import pytest\n",
            "import pytest\ndef pytest_generate_tests(metafunc):\n    pytest.skip('no models here')\n",
        ),
    ],
)
def test_what_was_skipped_or_expected_to_fail_keeps_its_baselines(run, updated, kept, suite, change):
    assert change[0] in SUITE
    suite.makepyfile(test_audit=SUITE.replace(*change).replace("def test_one(measure):\n    measure()", XFAILS))
    result = run("--cnnaudit-prune-baselines")
    result.stdout.fnmatch_lines(["baselines removed: none is unused"])
    assert kept() == updated


XFAILS = "def test_one(measure):\n    assert not ACT and os.environ['MODEL'] == 'bad' if False else measure() is None"


def test_a_module_that_a_conftest_ignores_keeps_its_baselines(run, updated, kept, suite):
    suite.makeconftest(f"{CONFTEST}\ncollect_ignore = ['test_audit.py']\n")
    run("--cnnaudit-prune-baselines").stdout.fnmatch_lines(["baselines removed: none is unused"])
    assert kept() == updated


def test_a_run_of_a_folder_or_a_file_prunes_there_only(run, suite, kept):
    for folder in ("here", "there"):
        (suite.path / folder).mkdir()
        (suite.path / folder / f"test_{folder}.py").write_text("def test_it(measure): measure()\n")
        (suite.path / folder / f"test_more_{folder}.py").write_text("def test_it(measure): measure()\n")
    run("--cnnaudit-update-baselines")
    for path in [*suite.path.glob("*/test_*.py"), suite.path / "test_other.py"]:
        path.write_text("def test_it(audit): audit.filters()\n")

    def files():
        return sorted(path.relative_to(suite.path).as_posix() for path in suite.path.rglob("__cnnaudit__/*.json"))

    before = files()
    assert len(before) == 6
    run("--cnnaudit-prune-baselines", "here/test_here.py")
    assert set(before) - set(files()) == {"here/__cnnaudit__/test_here.json"}
    run("--cnnaudit-prune-baselines", "there")
    assert set(before) - set(files()) == {
        each for each in before if "test_more_here" not in each and "/" in each[:6]
    } - {"here/__cnnaudit__/test_more_here.json"}
    run("--cnnaudit-prune-baselines")
    assert files() == ["__cnnaudit__/test_audit.json"]


def test_another_root_folder_prunes_nothing(run, suite, kept, monkeypatch):
    (suite.path / "deep").mkdir()
    for name in ("test_audit.py", "conftest.py"):
        os.replace(suite.path / name, suite.path / "deep" / name)
    (suite.path / "test_other.py").unlink()
    run("--cnnaudit-update-baselines", "--rootdir", ".")
    before = kept()
    assert len(before) == 4
    result = run("--cnnaudit-prune-baselines", "--rootdir", "deep", "deep")
    result.stdout.fnmatch_lines(["baselines removed: none is unused"])
    assert kept() == before


def test_folders_that_pytest_passes_over_are_passed_over(run, suite, updated):
    for name in (".tox", "node_modules", "venv"):
        folder = suite.path / name / "__cnnaudit__"
        folder.mkdir(parents=True)
        (folder / "test_gone.json").write_text("{")
    run("--cnnaudit-prune-baselines").stdout.fnmatch_lines(["baselines removed: none is unused"])


# Improvements ------------------------------------------------------------------------------------------------------


def test_an_improvement_is_reported_and_not_absorbed(run, kept):
    run("--cnnaudit-update-baselines", model="bad")
    before = kept()
    result = run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "better: test_audit.py::test_one  robust accuracy 0.25 → 1.00 (+0.75)",
            "*cnnaudit accept cnnaudit-report",
        ]
    )
    assert kept() == before
    result = run("--cnnaudit-update-baselines")
    result.stdout.fnmatch_lines(
        ["test_audit.py::test_one  robust accuracy 0.25 → 1.00 (+0.75)", "baselines: 5 updated*"]
    )
    assert run().ret == 0


def test_the_command_to_accept_names_the_root_folder_where_it_is_another(run, suite, monkeypatch):
    run("--cnnaudit-update-baselines", model="bad")
    (suite.path / "deep").mkdir()
    monkeypatch.chdir(suite.path / "deep")
    result = run("--rootdir", "..", "..")
    result.stdout.fnmatch_lines(["*cnnaudit accept cnnaudit-report --root .."])
