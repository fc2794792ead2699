"""Which samples, in 16 hex digits."""

from __future__ import annotations

import hashlib

from pytest_cnnaudit.samples.samples import Samples


def digest(samples: Samples) -> str:
    """BLAKE2b over the ids, in order; images are not read: a folder of 50,000 is never opened for it."""
    found = hashlib.blake2b(digest_size=8)
    for name in samples.ids:
        found.update(f"{len(name)} {name}".encode())
    return found.hexdigest()
