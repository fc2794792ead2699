"""`cnnaudit accept`: what a report measured becomes the baselines, and no report can write anything else."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit import accepting, cli
from pytest_cnnaudit.baselines.file import baseline_path, read
from pytest_cnnaudit.gallery import Report

ENTRY = {
    "value": 0.5, "display": "0.50", "ci95": [0.22, 0.78], "n": 4, "count": 2, "unit": "", "higher_is_better": True,
    "statistic": "share", "values": "a0", "measurement": "attack", "settings": {"eps": "4/255"},
    "samples": {"n": 4, "ids": "1" * 16, "content": "2" * 16, "source": "tensors"},
    "model": {"name": "v1", "digest": "3" * 16}, "seed": 0, "device": "cpu", "precision": "float32",
    "versions": {"torch": "2.14.1"}, "measured": "2026-11-26",
}  # fmt: skip
V1, V2, PLAIN = (f"tests/test_audit.py::test_{name}" for name in ("robust[v1]", "robust[v2]", "plain"))
FILE = "tests/__cnnaudit__/test_audit.json"


def an_entry(value=0.5, values="a0", **more):
    display = f"{value:.2f}" if isinstance(value, float) else "beyond"
    return {**copy.deepcopy(ENTRY), "value": value, "display": display, "values": values, **more}


def a_record(test, entries=None, outcome="passed", file=FILE, complete=True):
    measurement = {"name": "attack", "settings": {}, "notes": [], "metrics": [], "exhibits": [], "complete": complete}
    record = {"id": test, "outcome": outcome, "message": "", "doc": "", "duration": 0.1, "model": None,
              "samples": None, "measurements": [measurement]}  # fmt: skip
    return record if entries is None else {**record, "baselines": {"file": file, "entries": entries}}


def a_report(folder, *records):
    facts = {"started": "2026-01-01T10:00:00+00:00", "seed": 0, "device": "cpu", "command": "pytest", "versions": {}}
    report = Report(folder, facts)
    for each in records:
        report.add(each)
    report.finish("finished", 0)
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A suite with one test module, and the current folder."""
    (tmp_path / "suite" / "tests").mkdir(parents=True)
    (tmp_path / "suite" / "tests" / "test_audit.py").touch()
    monkeypatch.chdir(tmp_path / "suite")
    return tmp_path / "suite"


@pytest.fixture
def accept(tmp_path, root, capsys):
    """Runs the command on a report of these records: exit status, lines of stdout, and stderr."""

    def accept(*records, options=()):
        status = cli.main(["accept", str(a_report(tmp_path / "report", *records)), *options])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return accept


def kept(root):
    return read(root / FILE)


# What it takes -----------------------------------------------------------------------------------------------------


def test_measured_values_become_the_baselines(accept, root):
    status, lines, _ = accept(
        a_record(V1, {"robust accuracy": an_entry()}), a_record("tests/test_audit.py::test_other")
    )
    assert status == 0
    assert lines == [f"{V1}  robust accuracy 0.50 (new)", "baselines: 1 new"]
    assert kept(root) == {V1: {"robust accuracy": an_entry()}}


def test_what_changed_is_told_and_the_rest_stays(accept, root):
    accept(a_record(V1, {"a": an_entry(), "b": an_entry()}), a_record(V2, {"a": an_entry()}))
    before = kept(root)
    worse = an_entry(0.25, "80", settings={"eps": "8/255"})
    status, lines, _ = accept(
        a_record(V1, {"a": worse, "b": an_entry(measured="2027-01-01")}), a_record(PLAIN, {"a": an_entry()})
    )
    assert status == 0
    assert lines == [
        f"{V1}  a 0.50 → 0.25 (−0.25; eps 4/255 → 8/255)",
        f"{V1}  b 0.50 (unchanged)",
        f"{PLAIN}  a 0.50 (new)",
        "baselines: 1 new, 1 updated, 1 unchanged",
    ]
    assert kept(root) == {V1: {"a": worse, "b": before[V1]["b"]}, V2: before[V2], PLAIN: {"a": an_entry()}}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (an_entry(), an_entry(values="50"), "0.50 → 0.50 (the same value)"),
        (an_entry(), an_entry(samples={**ENTRY["samples"], "content": "f" * 16}), "(the same value; other samples)"),
        (an_entry(), an_entry(0.75), "0.50 → 0.75 (+0.25)"),
        (an_entry("inf"), an_entry(0.75), "(beyond all bounds)"),
        (an_entry("nan"), an_entry(0.75), "(no difference to speak of)"),
    ],
)
def test_a_change_is_told(accept, old, new, told):
    accept(a_record(PLAIN, {"a": old}))
    assert told in accept(a_record(PLAIN, {"a": new}))[1][0]


def test_a_dry_run_tells_the_same_and_writes_nothing(accept, root):
    records = [a_record(V1, {"a": an_entry()})]
    status, lines, _ = accept(*records, options=["--dry-run"])
    assert status == 0
    assert not (root / FILE).exists()
    assert lines == [*accept(*records)[1], "nothing was written (--dry-run)"]


@pytest.mark.parametrize(
    ("only", "accepted"),
    [
        ([V1], [V1]),
        (["*[v2]"], [V2]),
        (["*[[]v?[]]"], [V1, V2]),
        (["*robust*"], [V1, V2]),
        (["*plain", V1], [V1, PLAIN]),
        (["*test_plai[mn]"], [PLAIN]),
    ],
)
def test_only_narrows_and_brackets_are_those_of_an_id(accept, root, only, accepted):
    options = [word for each in only for word in ("--only", each)]
    assert accept(*(a_record(test, {"a": an_entry()}) for test in (V1, V2, PLAIN)), options=options)[0] == 0
    assert sorted(kept(root)) == sorted(accepted)


@given(st.text("ab[]*?!-:/", min_size=1), st.text("ab[]*?!-:/", min_size=1))
def test_an_exact_id_fits_itself_whatever_it_holds(test, other):
    assert accepting._fits(test, test)
    if not set(test) & set("[]*?") and test != other:
        assert not accepting._fits(other, test)


def test_the_root_folder_may_be_elsewhere(accept, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = accept(a_record(V1, {"a": an_entry()}))
    assert status == 2
    assert "tests/test_audit.py, the module of" in error
    assert "give --root pytest's root folder" in error
    assert accept(a_record(V1, {"a": an_entry()}), options=["--root", "suite"])[0] == 0
    assert list(kept(root)) == [V1]


def test_merged_and_compared_reports_are_accepted_alike(root, tmp_path, capsys):
    old = a_report(tmp_path / "old", a_record(V1, {"a": an_entry()}), a_record(V2, {"a": an_entry()}))
    new = a_report(tmp_path / "new", a_record(V2, {"a": an_entry(0.25, "80")}))
    assert cli.main(["merge", str(old), str(new), "-o", str(tmp_path / "merged")]) == 0
    assert cli.main(["accept", str(tmp_path / "merged")]) == 0
    assert kept(root) == {V1: {"a": an_entry()}, V2: {"a": an_entry(0.25, "80")}}
    assert cli.main(["compare", str(new), str(old), "-o", str(tmp_path / "compared")]) == 0
    assert cli.main(["accept", str(tmp_path / "compared")]) == 0
    assert kept(root) == {V1: {"a": an_entry()}, V2: {"a": an_entry()}}


def test_what_a_killed_run_left_is_accepted(root, tmp_path):
    report = a_report(tmp_path / "report", a_record(V1, {"a": an_entry()}))
    (report / "report.json").unlink()
    assert cli.main(["accept", str(report)]) == 0
    assert list(kept(root)) == [V1]


# What it leaves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (a_record(V1, {"a": an_entry()}, outcome="error"), "came to no verdict (error)"),
        (a_record(V1, {"a": an_entry()}, outcome="crashed"), "came to no verdict (crashed)"),
        (a_record(V1, {"a": an_entry()}, outcome="skipped"), "came to no verdict (skipped)"),
        (a_record(V1, {"a": an_entry()}, complete=False), "was measured in part only"),
        (a_record(V1, {"a": an_entry(measurement="other")}), "was measured in part only"),
    ],
)
def test_what_came_to_no_end_is_left(accept, root, record, why):
    status, _, error = accept(record)
    assert status == 2
    assert "Nothing can be accepted" in error
    assert why in error
    assert not (root / FILE).exists()
    status, lines, _ = accept(record, a_record(V2, {"a": an_entry()}))
    assert status == 0
    assert lines[1].startswith("not accepted: ")
    assert list(kept(root)) == [V2]


@pytest.mark.parametrize("outcome", ["failed", "xfailed", "xpassed"])
def test_a_test_that_fell_short_is_taken(accept, root, outcome):
    assert accept(a_record(V1, {"a": an_entry()}, outcome=outcome))[0] == 0


def test_nothing_to_accept_says_why(accept):
    assert "No test of" in accept(a_record(V1))[2]
    status, _, error = accept(a_record(V1, {"a": an_entry()}), options=["--only", "nothing"])
    assert status == 2
    assert f"their ids: {V1!r}" in error


def test_a_broken_baseline_file_stops_all(accept, root):
    (root / "tests" / "test_two.py").touch()
    broken = baseline_path(root / "tests" / "test_two.py")
    broken.parent.mkdir()
    broken.write_text("{")
    second = a_record("tests/test_two.py::test_x", {"a": an_entry()}, file="tests/__cnnaudit__/test_two.json")
    status, _, error = accept(a_record(V1, {"a": an_entry()}), second)
    assert status == 2
    assert "test_two.json is damaged" in error
    assert not (root / FILE).exists()
    assert broken.read_text() == "{"


# Hostile reports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "file"),
    [
        (V1, "/etc/__cnnaudit__/passwd.json"),
        (V1, "../__cnnaudit__/test_audit.json"),
        (V1, "tests/../../__cnnaudit__/test_audit.json"),
        (V1, "tests/test_audit.json"),
        (V1, "tests/__cnnaudit__/test_audit.py"),
        (V1, "tests/__cnnaudit__/deep/test_audit.json"),
        (V1, "tests/__cnnaudit__/test_other.json"),
        (V1, "__cnnaudit__/test_audit.json"),
        (V1, "linked/__cnnaudit__/test_audit.json"),
        ("linked/test_audit.py::test_x", "linked/__cnnaudit__/test_audit.json"),
        ("tests/test_evil\0.py::test_x", "tests/__cnnaudit__/test_evil\0.json"),
        ("tests/test_evil\ud800.py::test_x", "tests/__cnnaudit__/test_evil\ud800.json"),
        ("tests/test_gone.py::test_x", "tests/__cnnaudit__/test_gone.json"),
        (V1, ""),
        (V1, "."),
        (V1, None),
        (V1, ["tests"]),
    ],
)
def test_a_path_that_is_not_the_test_s_own_is_refused(accept, root, tmp_path, test, file):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "test_audit.py").touch()
    (root / "linked").symlink_to(tmp_path / "outside")
    before = sorted(tmp_path.rglob("*"))
    status, lines, error = accept(a_record(test, {"a": an_entry()}, file=file), a_record(PLAIN, {"a": an_entry()}))
    assert status == 2
    assert error.startswith("cnnaudit accept: ")
    assert "Traceback" not in error
    assert lines == []
    made = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_relative_to(tmp_path / "report") for path in made)


BROKEN = [
    {key: value for key, value in ENTRY.items() if key != "seed"},
    {**ENTRY, "value": "evil"},
    {**ENTRY, "value": None},
    {**ENTRY, "n": True},
    {**ENTRY, "n": -1},
    {**ENTRY, "ci95": [0, {"evil": 1}]},
    {**ENTRY, "values": "zz"},
    {**ENTRY, "values": "a0" * 1000},
    {**ENTRY, "statistic": "__import__('os')"},
    {**ENTRY, "settings": []},
    [],
    None,
    "evil",
]


@pytest.mark.parametrize("entry", BROKEN)
def test_an_entry_that_is_none_is_refused(accept, root, entry):
    status, _, error = accept(a_record(PLAIN, {"a": an_entry()}), a_record(V1, {"b": entry}))
    assert status == 2
    assert "'b'" in error
    assert V1 in error
    assert not (root / FILE).exists()


@pytest.mark.parametrize("baselines", ["evil", [1], {"file": FILE}, {"file": FILE, "entries": [1]}, 7])
def test_baselines_that_are_none_are_refused(accept, root, baselines):
    status, _, error = accept({**a_record(V1), "baselines": baselines})
    assert status == 2
    assert "is broken" in error
    assert not (root / FILE).exists()


def test_nothing_printed_is_obeyed_by_a_terminal(accept, root):
    evil = "tests/test_audit.py::test[\x1b[31m\n]"
    status, lines, _ = accept(a_record(evil, {"\x1b]0;evil\x07": an_entry(display="\x1b[2J")}))
    assert status == 0
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    _, _, error = accept(a_record(evil, {"a": an_entry()}, file="\x1b[31m/../x"))
    assert "\x1b" not in error


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        cli.main(["accept", "--help"])
    assert "example: cnnaudit accept" in capsys.readouterr().out


def test_the_file_is_made_to_be_committed(accept, root):
    accept(a_record(V1, {"a": an_entry()}))
    text = (root / FILE).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
