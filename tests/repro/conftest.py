"""A network and images whose answers are known, and what a failed test leaves."""

import runpy
from pathlib import Path

import pytest

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.repro import read_bundle, write_bundle

_TINY = runpy.run_path(str(Path(__file__).parents[1] / "audits" / "tiny_suite.py"))


@pytest.fixture(scope="session")
def tiny_model():
    """Compares the means of four quadrants; see tiny_suite.py."""
    return AuditModel(_TINY["TinyNet"]().eval(), class_names=_TINY["CLASSES"], name="tiny")


@pytest.fixture(scope="session")
def tiny_samples():
    """Eight images with contrasts 0.1, 0.1, 0.2, 0.2, 0.3, …; the model is right about all."""
    images, labels, boxes = _TINY["quadrant_images"]()
    return Samples.from_tensors(images, labels, boxes=boxes)


@pytest.fixture
def tiny(tiny_model, tiny_samples):
    return Audit(tiny_model, tiny_samples, device="cpu")


@pytest.fixture
def leave(tmp_path):
    """What a failed test leaves: the word for the record, and the bundle."""

    def leave(audit, test):
        folder = tmp_path / "report" / "repro"
        told = write_bundle(folder, audit, test=test, command=["pytest", test], relative_to=tmp_path)
        assert told["trouble"] == ""
        return told, read_bundle(tmp_path / told["bundle"])

    return leave
