"""The batches of a measurement that are finished, so that a run that was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
from typing import cast

import torch

from pytest_cnnaudit.cache.shelf import Shelf
from pytest_cnnaudit.engine import Part
from pytest_cnnaudit.engine.measure import Step
from pytest_cnnaudit.model.passes import spend, spent
from pytest_cnnaudit.model.state import random_position
from pytest_cnnaudit.samples import Batch


class Batches:
    """Turns the steps of one measurement into such as look first whether an earlier run has finished the batch.

    What is found of a batch depends on the measurement (its key), on which of its steps it is, and on the batch. A step
    that draws from the global random generators, as a model with noise inside makes it, depends on the batches before
    it, too: what it finds is not kept.

    Attributes:
        continued: how many batches were known.
    """

    def __init__(self, shelf: Shelf, key: str, prefix: str, device: torch.device) -> None:
        self.continued = 0
        self._shelf, self._key, self._prefix, self._device = shelf, key, prefix, device
        self._steps = 0

    def resumed(self, step: Step) -> Step:
        """The same step, for batches that are not finished yet."""
        number, self._steps = self._steps, self._steps + 1

        def resumed(batch: Batch) -> Part:
            name = f"{self._prefix}{_name(number, batch)}"
            known = self._shelf.get(self._key, name)
            if known is not None:
                part, cost = known
                spend(cost)
                self.continued += 1
                return cast(Part, part)
            before, spent_before = random_position(self._device), spent()
            part = step(batch)
            if random_position(self._device) == before:
                self._shelf.put(self._key, name, (part, spent() - spent_before))
            return part

        return resumed

    def forget(self) -> None:
        """The measurement is whole, and kept as such."""
        for name in self._shelf.store.names(self._key):
            if name.startswith(self._prefix):
                self._shelf.store.remove(self._key, name)


def _name(step: int, batch: Batch) -> str:
    """Of which step, and what it was given: places, ids, labels and every pixel."""
    found = hashlib.blake2b(digest_size=12)
    found.update(batch.positions.tobytes())
    for sample in batch.samples:
        found.update(f"{len(sample.id)} {sample.id} {sample.label}\n".encode("utf-8", "surrogatepass"))
    images = batch.images.detach().cpu().contiguous()
    found.update(f"{images.dtype} {tuple(images.shape)}\n".encode())
    found.update(images.reshape(-1).view(torch.uint8).numpy().data)
    return f"{step}-{found.hexdigest()}"
