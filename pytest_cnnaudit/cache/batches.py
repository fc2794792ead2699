"""The batches of a measurement that are finished, so that a run that was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib

import torch

from pytest_cnnaudit.cache.pack import PackError, pack, unpack
from pytest_cnnaudit.cache.store import Store
from pytest_cnnaudit.engine import Part
from pytest_cnnaudit.engine.measure import Step
from pytest_cnnaudit.model.borrow import random_position
from pytest_cnnaudit.model.passes import spend, spent
from pytest_cnnaudit.samples import Batch


class Batches:
    """Turns the steps of one measurement into such as look first whether an earlier run has finished the batch.

    What is found of a batch depends on the measurement (its key), on which of its steps it is, and on the batch. A step
    that draws from the global random generators, as a model with noise inside makes it, depends on the batches before
    it, too: what it finds is not kept.

    Attributes:
        continued: how many batches were known.
    """

    def __init__(self, store: Store, key: str, prefix: str, device: torch.device) -> None:
        self.continued = 0
        self._store, self._key, self._prefix, self._device = store, key, prefix, device
        self._steps = 0

    def resumed(self, step: Step) -> Step:
        """The same step, for batches that are not finished yet."""
        number, self._steps = self._steps, self._steps + 1

        def resumed(batch: Batch) -> Part:
            name = f"{self._prefix}{_name(number, batch)}"
            known = self._store.read(self._key, name)
            if known is not None:
                try:
                    part, cost = unpack(known)
                except PackError:  # of another version, by chance under the same key
                    pass
                else:
                    spend(cost)
                    self.continued += 1
                    return part  # type: ignore[no-any-return]
            before, spent_before = random_position(self._device), spent()
            part = step(batch)
            if random_position(self._device) == before:
                self._keep(name, (part, spent() - spent_before))
            return part

        return resumed

    def _keep(self, name: str, found: object) -> None:
        try:
            data = pack(found)
        except PackError:  # a part that holds more than data is measured again
            return
        self._store.write(self._key, name, data)


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
