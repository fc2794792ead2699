"""How a measurement runs: in batches, on a device, within memory, no longer than its verdict needs."""

from pytest_cnnaudit.engine.device import resolve_device
from pytest_cnnaudit.engine.measure import Engine
from pytest_cnnaudit.engine.part import Kept, Part

__all__ = ["Engine", "Kept", "Part", "resolve_device"]
