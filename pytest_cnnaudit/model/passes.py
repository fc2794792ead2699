"""The passes of samples through the model that is borrowed right now, for those who do not hold it in their hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pytest_cnnaudit.results import Cost

_counts: ContextVar[dict[str, int] | None] = ContextVar("passes", default=None)


@contextmanager
def counted_in(passes: dict[str, int]) -> Iterator[None]:
    """Within, `spent` reads these counts, ``forward`` and ``backward``, and `spend` adds to them."""
    token = _counts.set(passes)
    try:
        yield
    finally:
        _counts.reset(token)


def spent() -> Cost:
    """What the model borrowed last has cost so far; nothing where none is borrowed."""
    return Cost(**(_counts.get() or {}))


def spend(cost: Cost) -> None:
    """Count passes that an earlier run has made in place of this one."""
    passes = _counts.get()
    if passes is not None:
        passes["forward"] += cost.forward
        passes["backward"] += cost.backward
