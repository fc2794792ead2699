"""Which device a measurement runs on."""

import os
import re

import torch

from pytest_cnnaudit.errors import AuditError


def resolve_device(wanted: str) -> torch.device:
    """The device called `wanted`: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Under pytest-xdist, workers that ask for ``auto`` or ``cuda`` are spread over the GPUs.

    Raises:
        AuditError: it is not there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if re.fullmatch(r"cuda(:\d+)?", wanted):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(wanted[5:]) if ":" in wanted else _worker_number() % max(count, 1)
        if index >= count:
            raise AuditError(
                f"The device {wanted!r} is not there: torch sees {count} CUDA devices. Use 'auto' or 'cpu'."
            )
        return torch.device("cuda", index)
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise AuditError("The device 'mps' is not there: torch sees no Apple GPU. Use 'auto' or 'cpu'.")
    try:
        return torch.device(wanted)
    except RuntimeError:
        raise AuditError(f"There is no device {wanted!r}; use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.") from None


def _worker_number() -> int:
    found = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", ""))
    return int(found.group()) if found else 0
