"""Many versions of each image through the model, no more at once than memory was given for."""

from __future__ import annotations

from collections.abc import Iterator


def blocks(samples: int, versions: int, at_once: int | None) -> Iterator[tuple[slice, range]]:
    """Which samples and which of their versions go through the model together, all of them in the end.

    Args:
        samples: how many images there are.
        versions: how many versions of each: noisy, masked, or on the way from a baseline.
        at_once: images in a pass of the model; `samples` where None.

    >>> list(blocks(3, 4, at_once=2))
    [(slice(0, 2, None), range(0, 1)), (slice(0, 2, None), range(1, 2)), (slice(0, 2, None), range(2, 3)), \
(slice(0, 2, None), range(3, 4)), (slice(2, 3, None), range(0, 2)), (slice(2, 3, None), range(2, 4))]
    """
    room = max(1, samples if at_once is None else at_once)
    for begin in range(0, samples, room):
        group = slice(begin, min(begin + room, samples))
        together = room // (group.stop - begin)
        for first in range(0, versions, together):
            yield group, range(first, min(first + together, versions))
