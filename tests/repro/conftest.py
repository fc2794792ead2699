"""What a failed test leaves."""

import pytest

from pytest_cnnaudit.repro import read_bundle, write_bundle


@pytest.fixture
def leave(tmp_path):
    """What a failed test leaves: the word for the record, and the bundle."""

    def leave(audit, test):
        folder = tmp_path / "report" / "repro"
        told = write_bundle(folder, audit, test=test, command=["pytest", test], relative_to=tmp_path)
        assert told["trouble"] == ""
        return told, read_bundle(tmp_path / told["bundle"])

    return leave
