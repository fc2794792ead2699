"""What is imported, and when: the public names, and nothing heavy before it is used."""

import subprocess
import sys

import pytest

import pytest_cnnaudit

HEAVY = {"torch", "torchvision", "scipy", "PIL", "hypothesis", "numpy", "tqdm"}


@pytest.mark.parametrize("module", ["pytest_cnnaudit", "pytest_cnnaudit.plugin"])
def test_importing_it_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = {name.partition(".")[0] for name in shown.split()}
    assert "pytest_cnnaudit" in loaded
    assert not loaded & HEAVY


def test_the_public_names_are_these():
    """Suites outside this repository are written against them: a name is added knowingly, and none is taken away."""
    names = ["Audit", "AuditError", "AuditModel", "Metric", "Samples", "__version__"]
    assert pytest_cnnaudit.__all__ == names
    assert dir(pytest_cnnaudit) == names
    assert {getattr(pytest_cnnaudit, name).__name__ for name in names[:-1]} == set(names[:-1])


def test_a_name_it_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'pytest_cnnaudit' has no attribute 'Attack'"):
        pytest_cnnaudit.Attack  # noqa: B018


def test_an_error_of_the_package_is_no_assertion_error():
    assert not issubclass(pytest_cnnaudit.AuditError, AssertionError)
