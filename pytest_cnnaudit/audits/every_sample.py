"""Every sample that was measured, as a tile: in small, with what came of it; and bars that know whom they count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.engine import Kept, Part
from pytest_cnnaudit.results import Bars, Exhibit, Form, Picture, Row
from pytest_cnnaudit.samples import Batch

TILES = 512
"""Tiles on a page, at most: of more, nobody sees any."""

EVERY = "every"
"""What the tiles are called among the rows that a `Part` keeps."""

_FEW = 4  # samples, which the other exhibits show anyway
_SIDE = 96  # pixels of a tile's longer side

Told = tuple[str, Mapping[str, str]]
"""What came of a sample: its status, and figures, of which the label is the first."""


def with_tiles(
    found: Part, batch: Batch, rank: NDArray[Any], tell: Callable[[int], Told], *, images: Tensor | None = None
) -> Part:
    """The same findings with a tile for each sample of a batch, of which those with the lowest rank are kept.

    Later findings on a sample may replace these (`Part.updated`) if its rank never rises: then no tile that had to make
    room would have to come back.

    Args:
        found: on the batch.
        batch: what was measured.
        rank: N, the worst the lowest.
        tell: of sample `i` of the batch.
        images: what is shown, N×C×H×W; the images of the batch where None.
    """
    shown = batch.images if images is None else images
    pixels = _small(shown)
    form: Form = "lossless" if pixels.shape[1:3] == shown.shape[2:] else "photo"

    def tile(i: int) -> Row:
        sample = batch.samples[i]
        return Row(sample.id, (Picture(pixels[i].copy(), alt=sample.id, form=form),), *tell(i))  # not the whole batch

    worst = np.where(np.isnan(rank), -np.inf, rank)  # a model that says NaN is worth a look
    kept = Kept.lowest(TILES, np.ones(len(batch), dtype=bool), worst, batch.positions, tile)
    return Part(found.positions, found.columns, {**found.kept, EVERY: kept})


def _small(images: Tensor) -> pictures.Pixels:
    """Images N×C×H×W as N×h×w×3, averaged over areas where they are larger than a tile."""
    height, width = images.shape[2:]
    by = _SIDE / max(height, width)
    if by < 1:
        where = images.cpu() if images.device.type == "mps" else images  # there, areas are of whole pixels only
        images = interpolate(where, size=(max(1, round(height * by)), max(1, round(width * by))), mode="area")
    return pictures.image(images)


def in_turn(*groups: tuple[NDArray[np.bool_], NDArray[Any]]) -> NDArray[np.float64]:
    """Ranks by which those of the first group come first, then those of the second, …, each by values of 0 or more.

    Args:
        groups: which samples, N bool; and their values, N.
    """
    rank = np.full(len(groups[0][0]), np.inf)
    for number, (among, values) in enumerate(groups):
        rank[among] = 2 * number + 1 - 1 / (1 + values[among].astype(np.float64))
    return rank


def are_shown(count: int) -> bool:
    """Whether so many samples get tiles: not where they are so few that other exhibits show them all."""
    return count > _FEW


def every_sample(found: Part, n: int) -> tuple[Exhibit, ...]:
    """The tiles, worst first.

    Args:
        found: what `with_tiles` has kept.
        n: the number of samples there are, whether measured or not.
    """
    rows = found.kept[EVERY].shown
    if not are_shown(len(rows)):
        return ()
    text = "Every sample" if len(rows) == n else f"{len(rows):,} of {n:,} samples"
    return (Exhibit("Sample by sample", f"{text}, worst first.", rows, kind="samples"),)


def counted(values: NDArray[Any], edges: NDArray[np.floating], ids: Sequence[str], *, open_ended: bool = False) -> Bars:
    """A histogram that knows which samples each of its bins counts.

    Args:
        values: N, within the edges; or infinite, if `open_ended`.
        edges: of the bins, ascending; the last edge belongs to the last bin.
        ids: N.
        open_ended: whether there is one more bin at the end, for what is infinite.
    """
    finite = len(edges) - 1
    places = np.clip(np.digitize(values, edges) - 1, 0, finite - 1)
    places[np.isinf(values)] = finite
    bins = finite + open_ended
    return Bars(
        "samples",
        [*edges, np.inf] if open_ended else edges,
        np.bincount(places, minlength=bins),
        members(places, ids, bins),
    )


def members(places: NDArray[np.int64], ids: Sequence[str], count: int) -> list[list[str]] | None:
    """The ids at each of the places 0 to `count`; None where the samples have no tiles that could be looked up."""
    if not are_shown(len(ids)):
        return None
    among: list[list[str]] = [[] for _ in range(count)]
    for place, name in zip(places.tolist(), ids, strict=True):
        if place < count:
            among[place].append(name)
    return among
