"""Values in a store, as bytes."""

from __future__ import annotations

from typing import Any

from pytest_cnnaudit.cache.pack import PackError, pack, unpack
from pytest_cnnaudit.cache.store import Store


class Shelf:
    """Keeps values by key and name. None stands for nothing.

    Args:
        store: of their bytes.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, key: str, name: str) -> Any:
        """What was put there; None where nothing is, or what is there was put by another version."""
        data = self.store.read(key, name)
        try:
            return None if data is None else unpack(data)
        except PackError:
            return None

    def put(self, key: str, name: str, value: object) -> bool:
        """Keep a value, and say whether that could be: one that holds more than data is not kept."""
        try:
            data = pack(value)
        except PackError:
            return False
        self.store.write(key, name, data)
        return True
