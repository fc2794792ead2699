"""The baselines of one test."""

import pytest

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.baselines import Baselines, baseline_path


def test_a_second_metric_of_one_name_has_a_number(tmp_path):
    kept = Baselines(tmp_path / "t.json", "t.py::a")
    names = [
        kept.take(name, {"value": value}) for value, name in enumerate(["accuracy", "accuracy", "size", "accuracy"])
    ]
    assert names == ["accuracy", "accuracy (2)", "size", "accuracy (3)"]
    assert [each["value"] for each in kept.measured.values()] == [0, 1, 2, 3]


def test_the_file_is_read_once_and_late(tmp_path):
    path = tmp_path / "t.json"
    path.write_text("{")
    kept = Baselines(path, "t.py::a")
    with pytest.raises(AuditError, match=r"The baseline file .*t\.json is damaged: line 1"):
        kept.find("accuracy")
    path.write_text('{"schema": 1, "tests": {}}')
    assert kept.find("accuracy") is None
    path.write_text("{")
    assert kept.find("accuracy") is None


def test_the_file_is_named_from_where_one_works(tmp_path, monkeypatch):
    path = baseline_path(tmp_path / "tests" / "test_audit.py")
    monkeypatch.chdir(tmp_path)
    assert Baselines(path, "").where == "tests/__cnnaudit__/test_audit.json"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Baselines(path, "").where == path.as_posix()
