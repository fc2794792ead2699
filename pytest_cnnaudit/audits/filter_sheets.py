"""Filter banks as pictures: as sheets side by side, the best matches as rows, and how alike they are as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.alike_banks import Alike, Bank
from pytest_cnnaudit.lenses.filter_banks import moved
from pytest_cnnaudit.results import Exhibit, Picture, Row, Table, TableRow, figure

_SHEET = 720  # pixels across a sheet: twice what the page shows, for the lightbox
_GAP = 4  # pixels between its filters
_TILE = 120  # pixels across a filter that stands alone, at least
_BEST, _WORST = 12, 6  # rows of matches
_SHOWN = 256  # filters of a sheet


def sheets(banks: Sequence[Bank], found: Alike) -> Exhibit:
    columns = min(16, max(math.ceil(math.sqrt(len(bank.dead))) for bank in banks))
    first = banks[0]
    cut = f" Of each, the first {_SHOWN}." if max(len(bank.dead) for bank in banks) > _SHOWN else ""
    return Exhibit(
        title="Filter banks side by side",
        text="All filters of each model. Grey is zero, and each filter is scaled to its own largest tap. Like stands "
        f"by like: on the other sheets a filter stands where its partner stands on that of {first.name}, a gap where "
        "there is none, the pairs most alike first. Partners are one to one, so that their |cosines| add up to the "
        f"most. Filters left over come after these, and dead ones last, in rows of their own.{cut}",
        rows=(
            Row(
                "all filters",
                tuple(
                    Picture(
                        _sheet(bank.weight, order[:_SHOWN], columns),
                        f"{bank.layer}, {bank.shape}" + (f", {int(bank.dead.sum())} dead" if bank.dead.any() else ""),
                        f"the {len(bank.dead)} filters of {bank.name}, {columns} in a row",
                    )
                    for bank, order in zip(banks, _orders(banks, found, columns), strict=True)
                ),
            ),
        ),
        columns=tuple(bank.name for bank in banks),
    )


def _orders(banks: Sequence[Bank], found: Alike, columns: int) -> list[list[int | None]]:
    """Which filter stands where on each sheet; None for a gap."""
    first, *rest = banks
    fits, partners = np.zeros(len(first.dead)), []
    for bank in rest:
        cosines = found.alignments[first.name, bank.name].cosine.abs().numpy()
        own, other = np.array(first.alive), np.array(bank.alive)
        rows, others = linear_sum_assignment(cosines[np.ix_(own, other)], maximize=True)
        fits[own[rows]] += cosines[own[rows], other[others]]
        partners.append(dict(zip(own[rows].tolist(), other[others].tolist(), strict=True)))
    leading = sorted(first.alive, key=lambda each: (-fits[each], each))
    orders: list[list[int | None]] = [list(leading)]
    for bank, partner in zip(rest, partners, strict=True):
        order = [partner.get(each) for each in leading]
        while order and order[-1] is None:
            order.pop()
        similarity = found.similarity(bank)
        alone = set(bank.alive) - set(partner.values())
        orders.append(order + sorted(alone, key=lambda each: (-similarity[each], each)))
    return [
        [*order, *[None] * (-len(order) % columns), *(int(each) for each in bank.dead.nonzero())]
        for bank, order in zip(banks, orders, strict=True)
    ]


def _sheet(weight: Tensor, order: Sequence[int | None], columns: int) -> pictures.Pixels:
    drawn = [None if each is None else _enlarged(pictures.kernel(weight[each]), _SHEET // columns) for each in order]
    height, width = next(tile.shape[:2] for tile in drawn if tile is not None)
    rows = math.ceil(len(drawn) / columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(drawn):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        if tile is not None:
            sheet[top : top + height, left : left + width] = tile
    return sheet


def _enlarged(picture: pictures.Pixels, across: int) -> pictures.Pixels:
    """Each pixel as a square of the whole number of pixels that comes nearest to that width."""
    return pictures.enlarged(picture, max(1, round(across / picture.shape[1])))


def best_and_weakest(banks: Sequence[Bank], found: Alike) -> list[Exhibit]:
    """The filters of the first bank, each with its best match in every other."""
    first, *rest = banks
    similarity = found.similarity(first)
    order = sorted(first.alive, key=lambda each: (-similarity[each], each))
    best, worst = order[:_BEST], order[_BEST:][-_WORST:][::-1]
    how = (
        f"A row is a filter of {first.name} and its best match in each other bank: as it is there, and moved (and "
        "negated) to fit, counted from where the middles of both lie on each other."
    )
    return [
        Exhibit(
            title=title,
            text=f"{how} {which}",
            rows=tuple(_row(first, rest, found, each, similarity[each]) for each in shown),
            columns=(first.name, *(f"{bank.name}{what}" for bank in rest for what in ("", ", to fit"))),
        )
        for title, which, shown in (
            ("Best matches", "The most similar first.", best),
            ("Weakest matches", "For comparison, the least similar first.", worst),
        )
        if shown
    ]


def _row(first: Bank, rest: Sequence[Bank], found: Alike, each: int, similarity: float) -> Row:
    weight = first.weight[each]
    shown = [Picture(_alone(weight), f"filter {each}", f"filter {each} of {first.name}")]
    for bank in rest:
        match = found.matches[first.name, bank.name]
        cosine, which, sign = float(match.cosine[each]), int(match.filter[each]), int(match.sign[each])
        shift = match.shift[each].tolist()
        there = bank.weight[which]
        how = _how(weight, there, shift, sign)
        shown.append(Picture(_alone(there), f"{figure(cosine)}, filter {which}", f"filter {which} of {bank.name}"))
        shown.append(
            Picture(_alone(moved(sign * there, shift, weight.shape)), how, f"filter {which} of {bank.name}, {how}")
        )
    return Row(f"filter {each}", tuple(shown), figures={"similarity": figure(similarity)})


def _alone(weight: Tensor) -> pictures.Pixels:
    picture = pictures.kernel(weight)
    return _enlarged(picture, picture.shape[1] * math.ceil(_TILE / picture.shape[1]))


def _how(weight: Tensor, there: Tensor, shift: Sequence[int], sign: int) -> str:
    """What makes a filter fit, in words."""
    middles = [(there.shape[axis] - weight.shape[axis]) / 2 for axis in (1, 2)]
    down, right = (step + middle for step, middle in zip(shift, middles, strict=True))
    steps = [
        f"{abs(step):g} {words[step > 0]}"
        for step, words in ((down, ("up", "down")), (right, ("left", "right")))
        if step
    ]
    return ", ".join([*(steps or ["in place"]), *(["negated"] if sign < 0 else [])])


def table(found: Alike, noises: Mapping[str, Sequence[Alike]]) -> Table:
    return Table(
        title="How alike the banks are",
        text="Mean |cosine| of the live filters of one bank with their best match in another, over shifts and sign, "
        "beside what noise of the same shapes scores: white, or as smooth and as coloured as all the banks. Many "
        "filters of small kernels score high whatever they hold.",
        columns=("filters of", "looked for in", "similarity", *noises),
        rows=tuple(
            TableRow(
                (
                    *pair,
                    figure(found.between(pair)),
                    *(figure(float(np.mean([draw.between(pair) for draw in draws]))) for draws in noises.values()),
                )
            )
            for pair in found.matches
        ),
    )
