"""`Cache`: measures what nobody has measured yet, and remembers the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.cache.batches import Batches
from pytest_cnnaudit.cache.key import alike, key
from pytest_cnnaudit.cache.shelf import Shelf
from pytest_cnnaudit.cache.store import Store
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.results import Cached, Measurement

M = TypeVar("M", bound=Measurement)

_OUTPUTS = "outputs-"


class Cache:
    """Results by what they depend on: weights, code, samples, settings, seed, versions, device.

    A result that is known costs one forward pass of a few samples, which shows that the model still computes what it
    did. Of one that is not, every finished batch is kept until all are there.

    Args:
        folder: may be shared by several processes.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self._shelf = Shelf(self.store)

    def measured(self, measure: Callable[..., M], *given: Any, **arguments: Any) -> M:
        """What `measure` gives for the arguments, whether it has to be called for it or not."""
        known = key(measure, given, arguments)
        if known is None:
            return measure(*given, **arguments)
        model = self._model(known.digest, known.outputs)
        name = f"result-{model}"
        kept = self._shelf.get(known.digest, name)
        if kept is not None:
            found, measured = kept
            return cast(M, replace(found, cached=Cached(measured)))
        engine = next((each for each in given if isinstance(each, Engine)), None)
        batches = None
        if engine is not None:
            batches = Batches(self._shelf, known.digest, f"batch-{model}-", engine.device)
            resuming = replace(engine, resumed=batches.resumed)
            given = tuple(resuming if each is engine else each for each in given)
        found = measure(*given, **arguments)
        whole = self._shelf.put(known.digest, name, (found, _now()))
        if batches is None:
            return found
        if whole:
            batches.forget()
        return replace(found, cached=Cached(_now(), batches.continued)) if batches.continued else found

    def _model(self, digest: str, outputs: NDArray[np.float32] | None) -> str:
        """Which of the models with these weights and this structure it is, by what it answers."""
        if outputs is None:
            return "none"
        for name in self.store.names(digest):
            if name.startswith(_OUTPUTS):
                before = self._shelf.get(digest, name)
                if before is not None and alike(before, outputs):
                    return name.removeprefix(_OUTPUTS)
        made = hashlib.blake2b(outputs.tobytes(), digest_size=8).hexdigest()
        self._shelf.put(digest, f"{_OUTPUTS}{made}", outputs)
        return made


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
