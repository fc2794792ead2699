"""Which samples, and what they hold, each in 16 hex digits."""

from __future__ import annotations

import hashlib

from pytest_cnnaudit.canonical import canonical
from pytest_cnnaudit.samples.samples import Samples


def digest(samples: Samples) -> str:
    """BLAKE2b over the ids, in order.

    Neither labels nor images are read: a folder of 50,000 is never opened for it. So it tells samples apart by what
    they are called, not by what they hold.
    """
    found = hashlib.blake2b(digest_size=8)
    for name in samples.ids:
        found.update(f"{len(name)} {name}".encode("utf-8", "surrogatepass"))  # file names may be any bytes
    return found.hexdigest()


def content(samples: Samples) -> str:
    """BLAKE2b over all that a measurement may read: ids, images, labels, boxes, masks, class names, source.

    Nothing is decoded where that can be helped. Of a folder the bytes of its files count, which are read again only
    where size, time, or place on the disk differ. Tensors and arrays are read each time, as they may be written to.
    The items of a data set, and of any other loader, have to be loaded, once for as long as the samples live: what is
    written to them later goes unnoticed.

    Raises:
        AuditError: a file cannot be read. A data set may raise anything.
    """
    known = canonical((samples.source, samples.class_names, samples.located, samples.ids, held(samples)))
    return hashlib.blake2b(known, digest_size=8).hexdigest()


def held(samples: Samples) -> str:
    """What the samples hold, wherever they lie: on another machine a folder has another path."""
    found = hashlib.blake2b(digest_size=8)
    for position in samples._positions:
        found.update(canonical(samples._content(int(position))))
    return found.hexdigest()
