"""So that nothing is measured twice: results as bytes, kept in files. It knows neither pytest nor the gallery."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_cnnaudit.cache.cache import Cache

__all__ = ["Cache"]


def __getattr__(name: str) -> Any:
    """`Cache` with torch behind it, once it is asked for: trimming the folder needs no torch."""
    if name == "Cache":
        from pytest_cnnaudit.cache.cache import Cache

        return Cache
    raise AttributeError(name)
