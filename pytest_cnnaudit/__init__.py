"""Audit trained vision models the way pytest tests code.

The names below are imported when they are first used: loading the pytest plugin of this package must not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit as Audit
    from pytest_cnnaudit.errors import AuditError as AuditError
    from pytest_cnnaudit.model import AuditModel as AuditModel
    from pytest_cnnaudit.results import Metric as Metric
    from pytest_cnnaudit.samples import Samples as Samples

    __version__: str

__all__ = ["Audit", "AuditError", "AuditModel", "Metric", "Samples", "__version__"]

_HOME = {"Audit": "audit", "AuditError": "errors", "AuditModel": "model", "Metric": "results", "Samples": "samples"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # a reading of files that only this answer needs

        return version("pytest-cnnaudit")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
