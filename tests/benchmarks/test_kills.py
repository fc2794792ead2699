"""Kill -9 at random moments: baselines, cache, history and report are whole after each, and the next run goes on."""

import json
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

TINY = Path(__file__).parents[1] / "audits" / "tiny_suite.py"
SUITE = """
    import pytest

    @pytest.mark.parametrize("eps", [0.05, 0.08, 0.12, 0.15])
    def test_attack(audit, eps):
        audit.assert_no_regression(audit.attack(eps=eps, attack="pgd", steps=2))

    def test_perturbation(audit):
        audit.assert_no_regression(audit.min_perturbation(norm="l2"))

    def test_looks(audit):
        audit.saliency("gradient")
        audit.filters()
"""
RUNS = """
    import os, random, signal, sys, time

    import pytest
    import torch

    torch.set_num_threads(1)
    import pytest_cnnaudit.alongside, pytest_cnnaudit.audit, pytest_cnnaudit.cache.cache, pytest_cnnaudit.gallery.github
    import pytest_cnnaudit.history, pytest_cnnaudit.keeper, pytest_cnnaudit.records, pytest_cnnaudit.repro

    ARGUMENTS = ["--cnnaudit", "--cnnaudit-update-baselines", "--cnnaudit-history", "history.sqlite", "-q", "-s"]

    def run(seed):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(pytest.main([*ARGUMENTS, "--cnnaudit-seed", str(seed)]))
        return child

    rng = random.Random(0)
    for seed in (0, 99):  # the first one also fills what Python and torch keep for themselves
        begin = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(run(seed), 0)[1]) == 0
        took = time.monotonic() - begin
    print("ready", flush=True)
    for line in sys.stdin:
        child = run(int(line))
        time.sleep(rng.uniform(0, 1.1 * took))
        os.kill(child, signal.SIGKILL)
        print("killed" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else "done", flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(run(0), 0)[1]), flush=True)
"""


def check(folder, others):
    """Whatever the run was doing when it was killed: everything that it keeps can be read."""
    import sqlite3

    from pytest_cnnaudit.baselines.file import read
    from pytest_cnnaudit.cache.store import Store
    from pytest_cnnaudit.gallery.read import read_report

    baselines = read(folder / "__cnnaudit__" / "test_audit.json")
    for test, entries in others.items():
        assert set(baselines[test]) >= set(entries)
    store = Store(folder / ".pytest_cache" / "d" / "cnnaudit")
    for key in store.folder.glob("*/*"):
        for name in store.names(key.name):
            assert store.read(key.name, name) is not None, (key, name)
    report = folder / "cnnaudit-report"
    tests = read_report(report).tests
    for name in re.findall(r'"(images/[^"]+|data/pixels/[^"]+)"', json.dumps(tests)):
        assert (report / name).stat().st_size, name
    for name in re.findall(r'(?:src|href)="(assets/[^"]+)"', (report / "index.html").read_text()):
        assert (report / name).stat().st_size, name
    lines = (report / "records.jsonl").read_text().splitlines() if (report / "records.jsonl").exists() else []
    assert {json.loads(line)["id"] for line in lines[:-1]} <= {test["id"] for test in tests} | set(others)
    with sqlite3.connect(folder / "history.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return len(tests)


@pytest.mark.timeout(1800)
def test_200_kills_leave_nothing_broken(tmp_path):
    (tmp_path / "conftest.py").write_text(TINY.read_text())
    (tmp_path / "test_audit.py").write_text(textwrap.dedent(SUITE))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUNS)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runs:
        follow(runs, tmp_path)


def follow(runs, folder):
    assert runs.stdout.readline() == "ready\n"
    from pytest_cnnaudit.baselines.file import read

    others = read(folder / "__cnnaudit__" / "test_audit.json")
    assert len(others) == 5
    rng, killed, tests = random.Random(1), 0, []
    while killed < 200:
        runs.stdin.write(f"{rng.randrange(1, 60)}\n")
        runs.stdin.flush()
        killed += runs.stdout.readline() == "killed\n"
        tests.append(check(folder, others))
    print(f"\n{killed} kills in {len(tests)} runs; tests in the report: {[tests.count(n) for n in range(7)]}")
    runs.stdin.close()
    assert runs.stdout.readline() == "0\n"  # and the last run is whole
    assert check(folder, others) == 6
    assert len(set(tests)) > 3  # killed here and there: before the first test, between tests, after the last
