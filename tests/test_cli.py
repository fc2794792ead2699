"""The command: what it prints, with which exit status, and that it starts without torch."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pytest_cnnaudit import cli
from pytest_cnnaudit.gallery import Report

EVIL = "evil[\x1b[31m\n|`<b>é中\ud800]"


def metric(value, **more):
    low, high = value - 0.05, value + 0.05
    return {"name": "robust accuracy", "value": value, "display": f"{value:.2f}", "unit": "", "n": 8,
            "ci95": [low, high], "higher_is_better": True, "thresholds": [], **more}  # fmt: skip


def a_record(name, *metrics, outcome="passed", message="", settings=()):
    measurement = {"name": "attack", "settings": dict(settings), "notes": [], "metrics": list(metrics), "exhibits": []}
    return {"id": f"tests/test_a.py::{name}", "outcome": outcome, "message": message, "doc": "", "duration": 0.1,
            "model": None, "samples": None, "measurements": [measurement] if metrics else []}  # fmt: skip


def a_report(folder, *records, status="finished", seed=0):
    facts = {"started": "2026-01-01T10:00:00+00:00", "seed": seed, "device": "cpu", "command": "pytest", "versions": {}}
    report = Report(folder, facts)
    for each in records:
        report.add(each)
    report.note("Only a part of the suite was selected.")
    report.finish(status, 0)
    return str(folder)


LONG = f"test_{'very_' * 30}long[resnet20]"
LIMIT = {"op": ">=", "value": 0.35, "holds": False, "on": ""}


@pytest.fixture
def old(tmp_path):
    return a_report(
        tmp_path / "old",
        a_record("test_same", metric(0.5)),
        a_record("test_fell", metric(0.5)),
        a_record(LONG, metric(0.5)),
        a_record(EVIL, metric(0.5), settings={"eps": "4/255"}),
        a_record("test_noise", metric(0.5)),
        a_record("test_gone"),
    )


@pytest.fixture
def new(tmp_path):
    return a_report(
        tmp_path / "new",
        a_record("test_same", metric(0.5)),
        a_record("test_fell", metric(0.31, thresholds=[LIMIT]), outcome="failed", message="assert 0.31"),
        a_record(LONG, metric(0.9)),
        a_record(EVIL, metric(0.1), settings={"eps": f"8/255 {EVIL}"}),
        a_record("test_noise", metric(0.48)),
        a_record("test_broken", outcome="error", message="ValueError: no such layer\nmore"),
        a_record("test_skipped", outcome="skipped", message="no GPU"),
    )


def run(capsys, *arguments):
    status = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return status, out, err


# show --------------------------------------------------------------------------------------------------------------


def test_show_tells_the_verdict_every_test_and_where_the_page_is(capsys, new):
    status, out, err = run(capsys, "show", new)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == "1 of 6 audits fell short, 1 could not finish"
    assert lines[1].startswith("2026-01-01T10:00:00+00:00, ")
    assert lines[1].endswith(" s, device cpu, seed 0")
    assert "FAILED  tests/test_a.py::test_fell  robust accuracy 0.31 (95% CI 0.26 to 0.36) >= 0.35" in lines
    assert "ERROR   tests/test_a.py::test_broken  ValueError: no such layer" in lines
    assert "SKIPPED tests/test_a.py::test_skipped  no GPU" in lines
    assert lines[-2] == "! Only a part of the suite was selected."
    assert lines[-1] == str(Path(new) / "index.html")
    assert len(lines) == 11
    assert "\x1b" not in out


def test_show_failed_leaves_out_what_passed(capsys, new):
    _, out, _ = run(capsys, "show", new, "--failed")
    assert [line.split("::")[1].split()[0] for line in out.splitlines() if "::" in line] == ["test_fell", "test_broken"]


def test_show_says_of_a_run_that_it_had_not_finished(capsys, tmp_path):
    _, out, _ = run(capsys, "show", a_report(tmp_path / "r", a_record("test_a", metric(0.5)), status="running"))
    assert "! The run had not finished when this was written." in out
    assert ", not finished" in out.splitlines()[1]


def test_show_takes_the_usual_folder_where_none_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "show")[0] == 2
    a_report(tmp_path / "cnnaudit-report", a_record("test_a", metric(0.5)))
    assert run(capsys, "show")[1].splitlines()[-1] == str(Path("cnnaudit-report") / "index.html")


def test_show_open_opens_the_page_and_nothing_else_does(capsys, new, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run(capsys, "show", new)
    assert opened == []
    run(capsys, "show", new, "--open")
    assert opened == [(Path(new) / "index.html").as_uri()]


# compare -----------------------------------------------------------------------------------------------------------


def test_compare_prints_aligned_lines_the_worst_first_and_a_summary(capsys, old, new):
    status, out, _ = run(capsys, "compare", old, new)
    assert status == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["OLD", "NEW"]
    fell = lines.index("tests/test_a.py::test_fell  passed → fell short")
    assert fell == 3
    assert lines[fell + 1] == "  robust accuracy  0.50  0.31  −0.19  worse"
    noise = lines.index("tests/test_a.py::test_noise")
    assert lines[noise + 1] == "  robust accuracy  0.50  0.48  −0.02  within the interval"
    better = lines.index("  robust accuracy  0.50  0.90   +0.4  better")
    assert "tests/test_a.py::test_same" not in lines
    same = lines.index("1 metric is the same.")
    assert fell < noise < better < same
    assert lines[better - 1].startswith("tests/test_a.py::test_very_")
    assert lines[better - 1].endswith("long[resnet20]")
    assert "…" in lines[better - 1]
    told = next(at for at, line in enumerate(lines) if line.startswith("    eps 4/255 → 8/255"))
    assert lines[told - 1].endswith("not comparable")
    assert lines[lines.index("Only in OLD:") + 1] == "  tests/test_a.py::test_gone"
    assert lines[-1] == (
        "1 of 4 metrics got worse, 1 got better, 1 cannot be compared, 1 test fell short that passed; 1 test is "
        "only in OLD; 2 tests are only in NEW."
    )
    assert max(map(len, lines[2:-1])) <= 100
    assert not any(letter in out for letter in "\x1b\ud800")


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colour_is_for_terminals_that_want_it(capsys, old, new, monkeypatch, terminal, no_colour, coloured):
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    _, out, _ = run(capsys, "compare", old, new)
    assert ("\x1b[31mworse\x1b[0m" in out) == coloured
    assert ("\x1b" in out) == coloured
    _, out, _ = run(capsys, "show", new)
    assert ("\x1b[31mFAILED" in out) == coloured


def test_compare_as_json(capsys, old, new):
    _, out, _ = run(capsys, "compare", old, new, "--format", "json")
    told = json.loads(out)
    assert told["summary"].startswith("1 of 4 metrics got worse")
    assert told["tests"][0] == {
        "id": "tests/test_a.py::test_fell",
        "old": "passed",
        "new": "failed",
        "metrics": [
            {"name": "robust accuracy", "old": 0.5, "new": 0.31, "change": pytest.approx(-0.19), "unit": "",
             "verdict": "worse", "reasons": []},
        ],
    }  # fmt: skip
    assert told["only_old"] == ["tests/test_a.py::test_gone"]


def test_compare_as_markdown_escapes_what_it_tells(capsys, old, new):
    _, out, _ = run(capsys, "compare", old, new, "--format", "markdown")
    lines = out.splitlines()
    assert lines[0].startswith("**1 of 4 metrics got worse")
    assert any("test_fell" in line and "passed → **fell short**" in line for line in lines)
    table = [line for line in lines if line.startswith("| ") and "robust accuracy" in line]
    assert len(table) == 5
    assert all(line.count("|") == 7 for line in table)
    assert "<b>" not in out
    assert "<details><summary>2 the same or within the interval</summary>" in lines


def test_compare_writes_the_report_of_both(capsys, old, new, tmp_path):
    status, out, _ = run(capsys, "compare", old, new, "-o", tmp_path / "both")
    assert status == 0
    assert "1 of 4 metrics got worse" in out
    [fell] = [
        test for test in json.loads((tmp_path / "both" / "report.json").read_text())["tests"] if "fell" in test["id"]
    ]
    assert fell["measurements"][0]["metrics"][0]["baseline"]["value"] == 0.5


def test_compare_prints_nothing_where_it_may_not_write(capsys, old, new):
    status, out, err = run(capsys, "compare", old, new, "-o", new)
    assert (status, out) == (2, "")
    assert "give -o another folder" in err


# merge -------------------------------------------------------------------------------------------------------------


def test_merge_writes_the_report_and_tells_its_verdict(capsys, old, new, tmp_path):
    status, out, _ = run(capsys, "merge", old, new, "-o", tmp_path / "all")
    assert status == 0
    assert out.splitlines()[0] == "1 of 7 audits fell short, 1 could not finish"
    assert "! Merged from 2 reports (tests): old (6), new (7)." in out.splitlines()
    assert out.splitlines()[-1] == str(tmp_path / "all" / "index.html")


def test_merge_of_other_seeds_takes_an_option(capsys, old, tmp_path):
    other = a_report(tmp_path / "other", seed=7)
    status, _, err = run(capsys, "merge", old, other, "-o", tmp_path / "all")
    assert status == 2
    assert "--mixed" in err
    assert run(capsys, "merge", old, other, "-o", tmp_path / "all", "--mixed")[0] == 0


# All commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["merge", "compare", "show"])
def test_bad_input_is_one_sentence_and_status_2(capsys, new, tmp_path, command):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("{\x1b")
    for folder in (tmp_path / "nowhere", tmp_path / "broken"):
        arguments = {"merge": [new, folder, "-o", tmp_path / "out"], "compare": [new, folder], "show": [folder]}[
            command
        ]
        status, out, err = run(capsys, command, *arguments)
        assert (status, out) == (2, "")
        assert err.startswith(f"cnnaudit {command}: ")
        assert str(folder) in err
        assert err.endswith(".\n")
        assert err.count("\n") == 1
        assert "\x1b" not in err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_without_a_traceback(capsys, old, new, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytest_cnnaudit.gallery.report.write_atomically", full)
    status, _, err = run(capsys, "merge", old, new, "-o", tmp_path / "out")
    assert (status, err) == (2, "cnnaudit merge: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["merge"], ["merge", "a"], ["compare", "a"], ["show", "--json"]]
)
def test_a_wrong_command_line_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "usage: cnnaudit" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["merge", "compare", "show"])
def test_help_has_an_example_that_parses(capsys, command):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    example = out.partition("example: cnnaudit ")[2].splitlines()[0]
    assert cli._parser().parse_args(example.split()).command == command


def test_the_script_is_declared_where_it_is():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"cnnaudit": f"{cli.main.__module__}:{cli.main.__name__}"}


CHECK = """
import sys
from pytest_cnnaudit.cli import main
assert main(["compare", sys.argv[1], sys.argv[2], "-o", sys.argv[3]]) == 0
assert main(["merge", sys.argv[1], sys.argv[2], "-o", sys.argv[4]]) == 0
assert main(["show", sys.argv[4]]) == 0
heavy = {"torch", "torchvision", "pytest", "_pytest", "numpy", "scipy", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""


def test_no_command_imports_torch_or_pytest(old, new, tmp_path):
    command = [sys.executable, "-c", CHECK, old, new, str(tmp_path / "both"), str(tmp_path / "all")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module_on_a_terminal_of_few_letters(old, new):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "pytest_cnnaudit", "compare", old, new]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed \\u2192 fell short" in done.stdout
    command[3:] = ["show", old + "-gone"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_ends_it_quietly(new):
    reader, writer = os.pipe()
    os.close(reader)  # as `| head -0` does
    command = [sys.executable, "-m", "pytest_cnnaudit", "show", new]
    done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
