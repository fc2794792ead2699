"""What GitHub Actions is told: the summary of a step, and annotations at the tests."""

import pytest

from pytest_cnnaudit.gallery.github import append_step_summary, failure_annotations
from pytest_cnnaudit.gallery.markdown import STEP_SUMMARY_LIMIT

RUN = {"status": "finished", "notes": [], "exit_status": 1}


def record(outcome, name="test_it", *, message="", line=7, file="suite/test_a.py", far=None):
    metric = {"name": "accuracy", "value": 0.31, "display": "0.31", "unit": "", "ci95": None, "higher_is_better": True}
    limits = [] if far is None else [{"op": ">=", "value": 0.31 + far, "holds": False, "on": ""}]
    return {
        "id": f"suite/test_a.py::{name}",
        "outcome": outcome,
        "message": message,
        "model": None,
        "location": {"file": file, "line": line},
        "measurements": [{"name": "attack", "metrics": [metric | {"thresholds": limits}]}] if far is not None else [],
    }


# The summary of a step ------------------------------------------------------------------------------------------


def test_the_summary_is_added_to_what_is_there(tmp_path):
    file = tmp_path / "summary.md"
    file.write_text("said before, without an end of line")
    append_step_summary(file, RUN, [record("failed", "one", far=0.1)], "cnnaudit-report/index.html")
    append_step_summary(file, RUN, [record("failed", "two", far=0.1)], "")
    first, *others = file.read_text(encoding="utf-8").split("### ❌ 1 of 1 audit fell short\n")
    assert first.startswith("said before, without an end of line\n")
    assert ["::one</code>" in each for each in others] == [True, False]
    assert ["::two</code>" in each for each in others] == [False, True]
    assert "cnnaudit-report/index.html" in others[0]


def test_a_summary_that_is_not_there_yet_is_made(tmp_path):
    append_step_summary(tmp_path / "summary.md", RUN, [record("passed")], "")
    assert (tmp_path / "summary.md").is_file()


def test_a_summary_never_grows_beyond_what_github_takes(tmp_path):
    file = tmp_path / "summary.md"
    file.write_bytes(b"x" * (STEP_SUMMARY_LIMIT - 3000))
    append_step_summary(file, RUN, [record("failed", f"test_{each:0150}", far=0.1) for each in range(50)], "")
    assert STEP_SUMMARY_LIMIT - 1000 < file.stat().st_size <= STEP_SUMMARY_LIMIT
    assert b"more audits, in the report" in file.read_bytes()


def test_a_full_summary_is_left_alone(tmp_path):
    file = tmp_path / "summary.md"
    file.write_bytes(b"x" * (STEP_SUMMARY_LIMIT - 20))
    with pytest.raises(OSError, match=r"summary\.md is full"):
        append_step_summary(file, RUN, [record("failed", far=0.1)], "")
    assert file.stat().st_size == STEP_SUMMARY_LIMIT - 20


# Annotations ----------------------------------------------------------------------------------------------------


def test_a_failure_is_put_at_its_test(tmp_path):
    (line,) = failure_annotations([record("failed", far=0.1)], tmp_path / "checkout" / "project", tmp_path / "checkout")
    assert line == (
        "::error file=project/suite/test_a.py,line=7,title=fell short%3A suite/test_a.py%3A%3Atest_it"
        "::Accuracy is 0.31, 0.1 below the required 0.41."
    )


@pytest.mark.parametrize(
    ("outcome", "start"),
    [
        ("failed", ["::error file=suite/test_a.py,line=7,title=fell short%3A "]),
        ("error", ["::error file=suite/test_a.py,line=7,title=no verdict%3A "]),
        ("crashed", ["::error file=suite/test_a.py,line=7,title=crashed%3A "]),
        ("xpassed", ["::warning file=suite/test_a.py,line=7,title=passed unexpectedly%3A "]),
        ("xfailed", []),
        ("passed", []),
        ("skipped", []),
    ],
)
def test_only_what_needs_attention_is_annotated(tmp_path, outcome, start):
    lines = failure_annotations([record(outcome)], tmp_path, tmp_path)
    assert [line[: len(each)] for line, each in zip(lines, start, strict=True)] == start


def test_names_and_messages_are_escaped_as_github_says(tmp_path):
    evil = "50%,a:b\r\n::error::\x1b[31m"
    (line,) = failure_annotations([record("error", evil, message=evil)], tmp_path, tmp_path)
    assert line.isprintable()
    assert (
        "title=no verdict%3A suite/test_a.py%3A%3A50%25%2Ca%3Ab%0D%0A%3A%3Aerror%3A%3A�[31m::No verdict: 50%25,a:b"
        in line
    )


def test_a_test_outside_of_the_workspace_or_of_no_known_line_is_annotated_too(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (line,) = failure_annotations([record("failed", line=None)], elsewhere, tmp_path / "checkout")
    assert line.startswith(f"::error file={(elsewhere / 'suite' / 'test_a.py').as_posix()},title=")
    (line,) = failure_annotations([record("failed") | {"location": None}], elsewhere, tmp_path)
    assert line.startswith("::error title=")


def test_a_workspace_behind_a_link_is_the_same_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (line,) = failure_annotations([record("failed")], tmp_path / "real", tmp_path / "link")
    assert line.startswith("::error file=suite/test_a.py,")


@pytest.mark.parametrize(("outcome", "level"), [("failed", "error"), ("xpassed", "warning")])
def test_ten_of_a_kind_are_shown_the_worst_and_the_others_counted(tmp_path, outcome, level):
    tests = [record(outcome, f"test_{each:02}", far=each / 100) for each in range(1, 14)]
    *shown, last = failure_annotations(tests, tmp_path, tmp_path)
    assert len(shown) == 10
    assert all(line.startswith(f"::{level} ") for line in shown)
    assert last == f"::notice title=cnnaudit {level}s::3 more than GitHub shows of a step: see the report."
    if outcome == "failed":
        assert "test_13" in shown[0]
        assert not any("test_03" in line for line in shown)
    assert len(failure_annotations(tests[:10], tmp_path, tmp_path)) == 10
