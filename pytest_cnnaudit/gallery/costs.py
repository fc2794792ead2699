"""The passes through the model that a run spent, and what it had from the cache instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def passes(records: Iterable[Mapping[str, Any]], way: str) -> int:
    """Samples that went ``forward`` or ``backward`` through a model in this run: what came from the cache did not."""
    return sum(each["cost"][way] for each in _measurements(records) if each.get("cost") and not _is_from_cache(each))


def cache_words(records: Iterable[Mapping[str, Any]]) -> str:
    """How much came from the cache; empty where nothing did.

    >>> cached, new = {"cached": {"measured": "2026-11-25T14:02:11+00:00", "batches": None}}, {"cached": None}
    >>> cache_words([{"measurements": [cached, new, cached]}])
    '2 of 3 measurements'
    """
    measurements = list(_measurements(records))
    whole = sum(map(_is_from_cache, measurements))
    continued = sum(bool(each.get("cached")) for each in measurements) - whole
    words = [f"{whole} of {len(measurements)} measurement{'s' * (len(measurements) != 1)}"] * (whole > 0)
    words += [f"{continued} measurement{'s' * (continued != 1)} continued an earlier run"] * (continued > 0)
    return ", ".join(words)


def _measurements(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (each for record in records for each in record.get("measurements", ()))


def _is_from_cache(measurement: Mapping[str, Any]) -> bool:
    cached = measurement.get("cached")
    return cached is not None and cached["batches"] is None
