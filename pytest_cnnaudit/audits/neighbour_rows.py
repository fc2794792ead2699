"""Neighbours as pictures: a sample, the nearest to it by pixels, and the nearest by features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.patch_rows import shrunk
from pytest_cnnaudit.lenses.neighbours import Nearest
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Exhibit, Picture, Row, Table, TableRow, figure
from pytest_cnnaudit.samples import Samples

_WORST, _BEST = 12, 4
_BESIDE = 5  # neighbours of either kind in a row
_LARGEST = 128  # pixels of a picture on the page: eleven of them stand in a row
_LABELS = 20  # in the table
_SHOWN = ("pixel", "feature")


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """What labels the neighbours of N samples carry.

    Attributes:
        labels: N.
        nearest: by ``"pixel"``, ``"feature"`` and ``"cosine"``.
        shares: by the same, N, the share of a sample's neighbours that carry its label.
        peers: N, how many other samples carry it.
    """

    labels: NDArray[np.int64]
    nearest: Mapping[str, Nearest]
    shares: Mapping[str, NDArray[np.float64]]
    peers: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], nearest: Mapping[str, Nearest]) -> Agreement:
        _, group = np.unique(labels, return_inverse=True)
        shares = {space: (labels[each.positions] == labels[:, None]).mean(1) for space, each in nearest.items()}
        return cls(labels, nearest, shares, np.bincount(group)[group] - 1)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """N, whether the neighbours could carry the label at all."""
        return self.peers > 0


def neighbour_exhibits(model: AuditModel, samples: Samples, found: Agreement) -> tuple[Exhibit | Table, ...]:
    """The samples whose features agree least with their label, and most; then how the labels fare.

    Where no label occurs twice, the samples that are nearest to another.
    """
    judged = bool(found.scored.any())
    k = found.nearest["feature"].positions.shape[1]
    beside = min(_BESIDE, k)
    how = (
        "A row is a sample, the nearest to it by pixels, and the nearest by features, with label and L2 distance"
        f"{f' (the first {beside} of {k})' if beside < k else ''}."
    )
    marks = "✓ is the sample's own label, ✗ another; hit: the nearest by features carries it."
    texts = {
        "worst": ("Features agree least with the label", f"{how} {marks} Those with the nearest wrong ones first."),
        "best": (
            "Features agree most with the label",
            f"{how} {marks} Those that pixels get wrong first, one of each label.",
        ),
        "alone": ("Nearest neighbours", f"{how} No label occurs twice. Those nearest to another sample first."),
    }
    chosen = _chosen(found)
    drawn = _drawn(samples, found, [each for some in chosen.values() for each in some])
    rows = tuple(
        Exhibit(
            *texts[name],
            rows=tuple(_row(model, samples.ids, found, drawn, each, judged=judged) for each in some),
            columns=("sample", *(f"{space} {rank}" for space in _SHOWN for rank in range(1, beside + 1))),
        )
        for name, some in chosen.items()
        if some
    )
    return (*rows, _table(model, found)) if judged else rows


def _chosen(found: Agreement) -> dict[str, list[int]]:
    among, distance = np.flatnonzero(found.scored), found.nearest["feature"].squared[:, 0]
    if not len(among):
        return {"alone": np.argsort(distance, kind="stable")[:_WORST].tolist()}
    feature, pixel = found.shares["feature"], found.shares["pixel"]
    wrong = among[feature[among] < 1]
    worst = wrong[np.lexsort((distance[wrong], feature[wrong]))][:_WORST].tolist()
    rest = np.setdiff1d(among, worst)
    best = rest[np.lexsort((pixel[rest], -feature[rest]))]
    first = np.sort(np.unique(found.labels[best], return_index=True)[1])  # of each label
    return {"worst": worst, "best": best[first][:_BEST].tolist()}


def _drawn(samples: Samples, found: Agreement, chosen: Sequence[int]) -> dict[int, pictures.Pixels]:
    """Each image once, whatever rows it stands in."""
    beside = [found.nearest[space].positions[chosen, :_BESIDE].ravel() for space in _SHOWN]
    wanted = np.unique(np.concatenate([chosen, *beside]))
    return {
        position: pictures.image(shrunk(sample.image, _LARGEST))
        for position, sample in zip(wanted.tolist(), samples[wanted], strict=True)
    }


def _row(
    model: AuditModel,
    ids: Sequence[str],
    found: Agreement,
    drawn: Mapping[int, pictures.Pixels],
    query: int,
    *,
    judged: bool,
) -> Row:
    shown = [Picture(drawn[query], model.class_name(int(found.labels[query])), ids[query])]
    figures = {}
    for space in _SHOWN:
        places, distances = found.nearest[space].positions[query], found.nearest[space].euclidean[query]
        same = found.labels[places] == found.labels[query]
        if judged:
            figures[f"{space}s agree"] = f"{int(same.sum())} of {len(same)}"
        for rank, place in enumerate(places[:_BESIDE].tolist()):
            name = model.class_name(int(found.labels[place]))
            mark, word = ("✓", "the same label") if same[rank] else ("✗", "another label")
            caption = f"{f'{mark} ' if judged else ''}{name}, {figure(distances[rank])}"
            alt = f"{space} neighbour {rank + 1} of {ids[query]}: {ids[place]}, {word}"
            shown.append(Picture(drawn[place], caption, alt))
    first = found.nearest["feature"].positions[query, 0]
    status = "hit" if found.labels[first] == found.labels[query] else "miss"
    return Row(ids[query], tuple(shown), status if judged else "", figures)


def _others(found: Agreement) -> list[tuple[int, float, Counter[int]]]:
    """Label, feature agreement of its samples, and which other labels their neighbours carry; the worst first."""
    rows = []
    for label in np.unique(found.labels[found.scored]).tolist():
        own = found.labels == label
        carried = Counter(found.labels[found.nearest["feature"].positions[own]].ravel().tolist())
        carried.pop(label, None)
        rows.append((label, float(found.shares["feature"][own].mean()), carried))
    return sorted(rows, key=lambda row: row[1])


def weakest_label(model: AuditModel, found: Agreement) -> tuple[str, ...]:
    """The label whose neighbours agree least, in words; none where there is only one."""
    rows = _others(found)
    if len(rows) < 2:
        return ()
    label, agreement, carried = rows[0]
    instead = f", instead mostly {_most(model, carried)}" if carried else ""
    return (f"weakest label: {model.class_name(label)} {figure(agreement)}{instead}",)


def _most(model: AuditModel, carried: Counter[int]) -> str:
    label, count = min(carried.items(), key=lambda each: (-each[1], each[0]))
    return f"{model.class_name(label)} ({count} of {carried.total()})"


def _table(model: AuditModel, found: Agreement) -> Table:
    rows = _others(found)
    cut = f" The first {_LABELS} of {len(rows)}." if len(rows) > _LABELS else ""
    return Table(
        title="By label",
        text="The label whose neighbours agree least comes first, with the label that those which disagree carry most "
        f"often.{cut}",
        columns=("label", "samples", "features agree", "pixels agree", "instead mostly"),
        rows=tuple(
            TableRow(
                (
                    model.class_name(label),
                    str(int((found.labels == label).sum())),
                    figure(agreement),
                    figure(found.shares["pixel"][found.labels == label].mean()),
                    _most(model, carried) if carried else "",
                )
            )
            for label, agreement, carried in rows[:_LABELS]
        ),
    )
