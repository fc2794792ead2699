"""The cache from outside: what a second run measures, what it says of it, and where it is kept."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.gallery  # noqa: F401
from pytest_cnnaudit.model import BorrowedModel

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
TESTS = """
    def test_filters(audit): audit.filters()
    def test_attack(audit): audit.assert_robust(eps=0.12, attack='pgd', steps=2, min_accuracy=0.5)
    def test_both(audit):
        audit.saliency("gradient")
        audit.min_perturbation(norm="linf")
"""


@pytest.fixture
def run(pytester):
    """Runs test_audit.py of the tiny suite in this process."""
    pytester.makeconftest(CONFTEST)

    def run(*args, tests=TESTS):
        pytester.makepyfile(test_audit=textwrap.dedent(tests))
        return pytester.runpytest_inprocess("--cnnaudit", "-Werror", *args)

    return run


@pytest.fixture
def passes(monkeypatch):
    """The sizes of the batches that went forward through models."""
    sizes, forward = [], BorrowedModel.forward

    def counting(self, images):
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(BorrowedModel, "forward", counting)
    return sizes


@pytest.fixture
def measurements(pytester):
    def read():
        report = json.loads((pytester.path / "cnnaudit-report" / "report.json").read_text())
        return [each for test in report["tests"] for each in test["measurements"]]

    return read


def without_cached(found):
    return [{name: value for name, value in each.items() if name != "cached"} for each in found]


def test_a_second_run_makes_one_pass_of_a_few_samples_a_measurement_and_reports_the_same(run, passes, measurements):
    result = run()
    result.assert_outcomes(passed=3)
    assert "from the cache" not in result.stdout.str()
    first, spent = measurements(), sum(passes)
    del passes[:]
    assert [each["cached"] for each in first] == [None] * 4
    result = run()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["from the cache: 4 of 4 measurements"])
    assert without_cached(measurements()) == without_cached(first)
    assert passes == [4] * 3  # none for the filters
    assert spent > 100
    for each in measurements():
        assert each["cached"]["batches"] is None
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", each["cached"]["measured"])


def test_a_failure_is_told_from_the_cache_as_it_was(run):
    failing = "def test_it(audit): audit.assert_robust(eps=0.12, attack='pgd', steps=2, min_accuracy=0.9)\n"

    def told():
        result = run(tests=failing)
        result.assert_outcomes(failed=1)
        return [line for line in result.stdout.lines if line.startswith("E ")]

    first = told()
    assert "robust accuracy" in first[0]
    assert told() == first


@pytest.mark.parametrize(
    "changed",
    [
        ["--cnnaudit-seed", "1"],
        ["--cnnaudit-precision", "bfloat16"],
        ["--cnnaudit-no-cache"],
        ["--cnnaudit-cache", "elsewhere"],
        ["-p", "no:cacheprovider"],
        ["--cache-clear"],
    ],
    ids=" ".join,
)
def test_what_is_not_known_is_measured(run, measurements, changed):
    run()
    run(*changed)
    depending = measurements()[changed[0] in ("--cnnaudit-seed", "--cnnaudit-precision") :]  # filters on neither
    assert [each["cached"] for each in depending] == [None] * len(depending)


@pytest.mark.parametrize(
    "edit",
    [
        "pass",
        "next(model.module.parameters()).data.view(-1)[0] += 1e-6",
        "samples._load(0)[0].view(-1)[0] = 0.123",
        "model.module.forward = lambda images, forward=model.module.forward: 2 * forward(images)",
    ],
    ids=["nothing", "weight", "pixel", "code"],
)
def test_one_changed_weight_or_pixel_or_line_of_code_misses(run, pytester, measurements, edit):
    tests = f"""
        def test_it(audit):
            import os
            model, samples = audit.model, audit.samples
            if os.path.exists("changed"):
                {edit}
            audit.attack(eps=0.12, attack='pgd', steps=2)
    """
    run(tests=tests)
    (pytester.path / "changed").touch()
    run(tests=tests)
    assert [each["cached"] is None for each in measurements()] == [edit != "pass"]


def test_a_custom_attack_is_measured_each_time(run, measurements):
    tests = "def test_it(audit): audit.attack(eps=0.12, attack=lambda model, images, labels: images)\n"
    run(tests=tests)
    run(tests=tests)
    assert [each["cached"] for each in measurements()] == [None]


def test_workers_share_the_cache(run, measurements):
    pytest.importorskip("xdist", reason="needs pytest-xdist")
    run()
    run("-n", "2")
    assert len(measurements()) == 4
    assert all(each["cached"] for each in measurements())


def test_a_damaged_entry_is_measured_anew(run, pytester, measurements):
    run("--cnnaudit-cache", "kept")
    for file in (pytester.path / "kept").glob("*/*/result-*"):
        file.write_bytes(file.read_bytes()[:-7])
    run("--cnnaudit-cache", "kept")
    assert [each["cached"] for each in measurements()] == [None] * 4
    run("--cnnaudit-cache", "kept")
    assert all(each["cached"] for each in measurements())


@pytest.mark.parametrize("where", ["kept", "pytest.ini"])
def test_the_folder_of_the_cache_is_relative_to_who_names_it(run, pytester, where):
    (pytester.path / "below").mkdir()
    if where == "pytest.ini":
        pytester.makeini("[pytest]\ncnnaudit_cache = below/kept\n")
        run()
    else:
        run("--cnnaudit-cache", "below/kept")
    assert list((pytester.path / "below" / "kept").glob("*/*/result-*"))
    assert not (pytester.path / ".pytest_cache" / "d" / "cnnaudit").exists() or where == "kept"


def test_a_cache_that_cannot_be_written_is_told_and_ends_nothing(run, pytester):
    (pytester.path / "file").touch()
    result = run("--cnnaudit-cache", "file")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*The cache could not keep a result in *file*"])


AGREE = {"forward": 4, "backward": 4}
"""What it costs to see that the folded model agrees with the model as it was given, on a batch of 2."""

SLOW = """
    import time, torch

    def test_it(audit, monkeypatch):
        import pytest_cnnaudit.audits.attacked as attacked

        measured = attacked.Attacked.__call__
        def slow(self, batch, clean=None):
            with open("batches", "a") as file:
                file.write(" ".join(sample.id for sample in batch.samples) + "\\n")
            time.sleep(0.3)
            return measured(self, batch, clean)
        monkeypatch.setattr(attacked.Attacked, "__call__", slow)
        from pytest_cnnaudit import Audit, Samples
        images = torch.rand(48, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        many = Samples.from_tensors(images, audit.model(images).argmax(1))
        audit._samples, audit._engine = many, __import__("dataclasses").replace(audit._engine, batch_size=2)
        audit.attack(eps=0.12, attack='pgd', steps=2)
"""


def test_a_run_that_was_killed_repeats_at_most_one_batch(pytester, measurements):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_audit=textwrap.dedent(SLOW))
    command = [sys.executable, "-m", "pytest", "--cnnaudit", "-q"]
    batches = pytester.path / "batches"
    process = subprocess.Popen(command, cwd=pytester.path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not batches.exists() or len(batches.read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = batches.read_text().splitlines()
    subprocess.run(command, cwd=pytester.path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    after = batches.read_text().splitlines()[len(before) :]
    assert len(set(before) & set(after)) <= 1
    assert len(set(before) | set(after)) == 6
    (found,) = measurements()
    assert found["cached"]["batches"] == 6 - len(after)
    subprocess.run([*command, "--cnnaudit-no-cache"], cwd=pytester.path, check=True)
    (anew,) = measurements()
    spent, needed = found.pop("cost"), anew.pop("cost")
    assert without_cached([found]) == without_cached([anew])
    assert {each: spent[each] - needed[each] for each in spent} == AGREE  # once more, before the run goes on
