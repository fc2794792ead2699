"""Do the first layers of several models hold the same filters?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.filter_banks import Alignment, Match, align, moved, smooth_noise, white_noise
from pytest_cnnaudit.lenses.filters import dead
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Exhibit, Measurement, Metric, Picture, Row, Table, TableRow, figure
from pytest_cnnaudit.seeds import derived_seed
from pytest_cnnaudit.statistics import bootstrap_interval

Other = AuditModel | tuple[AuditModel, str]
Pair = tuple[str, str]

_DRAWS = 5  # of noise banks
_SHEET = 720  # pixels across a sheet: twice what the page shows, for the lightbox
_GAP = 4  # pixels between its filters
_TILE = 120  # pixels across a filter that stands alone, at least
_BEST, _WORST = 12, 6  # rows of matches
_SHOWN = 256  # filters of a sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FilterBanksMeasurement(Measurement):
    """How alike the filter banks of several models are.

    `per_sample` is filter by filter over all banks, the audited one first: similarity (the mean over the other banks of
    the |cosine| with the best match there; NaN where dead), bank (which one, from 0) and dead.

    Attributes:
        similarity: the mean of these over the live filters. Every bank is looked for in every other, so that nothing
            depends on which model is the audited one. The interval is over the filters.
        noise: the same of white noise of the same shapes.
        smooth_noise: the same of noise that is as smooth and as coloured as the banks: random mixtures of all their
            filters (`lenses.filter_banks.smooth_noise`). All smooth filters resemble each other somewhat; what exceeds
            this figure is in the filters.
        pairs: by the names of two banks, the mean |cosine| of the first one's filters with their best match in the
            second.
        matches: by the same names, these best matches.
    """

    similarity: Metric
    noise: Metric
    smooth_noise: Metric
    pairs: Mapping[Pair, Metric]
    matches: Mapping[Pair, Match]


@dataclass(frozen=True, slots=True, eq=False)
class _Bank:
    """The filters of one layer, O×I×h×w, and which of them are dead, O."""

    name: str
    layer: str
    weight: Tensor
    dead: Tensor

    @property
    def shape(self) -> str:
        return "×".join(map(str, self.weight.shape))

    @property
    def alive(self) -> list[int]:
        return [int(each) for each in (~self.dead).nonzero()]


def measure_filter_banks(
    model: AuditModel, others: Sequence[Other], layer: str | None = None
) -> FilterBanksMeasurement:
    """The filters of several models side by side, and how alike they are; costs no pass through any model.

    Args:
        model: the audited one.
        others: models, of which the first convolution is taken, or pairs of a model and the name of a layer. What is
            the audited layer itself is left out.
        layer: of the audited model; the first convolution where None.

    Raises:
        AuditError: there is nothing to compare with; a layer is no convolution, or one of 1×1 kernels; or the filters
            differ in their input channels.
    """
    banks = _banks(model, layer, others)
    found = _Alike.of(banks, [bank.weight.masked_fill(bank.dead[:, None, None, None], 0) for bank in banks])
    alive = {bank.name: bank.weight[~bank.dead] for bank in banks}
    smooth = partial(smooth_noise, banks=[alive[name] for name in sorted(alive)])
    noises = {
        name: [
            _Alike.of(banks, [draw(live.shape, seed=derived_seed(number, bank)) for bank, live in alive.items()])
            for number in range(_DRAWS)
        ]
        for name, draw in (("white noise", white_noise), ("smooth noise", smooth))
    }
    return _measurement(banks, found, noises)


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Every bank against every other, by their names."""

    alignments: Mapping[Pair, Alignment]
    matches: Mapping[Pair, Match]

    @classmethod
    def of(cls, banks: Sequence[_Bank], weights: Sequence[Tensor]) -> _Alike:
        alignments = {}
        for (one, first), (other, second) in combinations(zip(banks, weights, strict=True), 2):
            alignment = align(first, second)
            alignments[one.name, other.name], alignments[other.name, one.name] = alignment, alignment.turned
        return cls(alignments, {pair: each.best for pair, each in alignments.items()})

    def similarity(self, bank: _Bank) -> NDArray[np.float64]:
        """For each filter the mean |cosine| with its best match in each other bank; NaN where it is dead."""
        of_bank = [match.cosine.numpy() for (one, _), match in self.matches.items() if one == bank.name]
        return np.asarray(np.mean(of_bank, axis=0))

    def between(self, pair: Pair) -> float:
        """The mean |cosine| of the live filters of the first with their best match in the second."""
        return float(self.matches[pair].cosine.nanmean())


def _measurement(
    banks: Sequence[_Bank], found: _Alike, noises: Mapping[str, Sequence[_Alike]]
) -> FilterBanksMeasurement:
    values = np.concatenate([found.similarity(bank) for bank in banks])
    live = values[~np.isnan(values)]
    interval = bootstrap_interval(live)
    drawn = {
        name: np.array([np.concatenate([each.similarity(bank) for bank in banks]).mean() for each in draws])
        for name, draws in noises.items()
    }
    scores = [f"{name} {figure(of.mean())} ({figure(of.min())} to {figure(of.max())})" for name, of in drawn.items()]
    notes = [
        f"{int(bank.dead.sum())} of {len(bank.dead)} filters of {bank.name} are dead: their norm is under 1% of the "
        "largest. They are left out."
        for bank in banks
        if bank.dead.any()
    ]
    if interval is None or interval[0] <= drawn["smooth noise"].max():
        notes.append("The banks are no more alike than noise that is as smooth and as coloured.")
    story = (
        "; ".join(f"{bank.name} {bank.layer} {bank.shape}" for bank in banks),
        f"over {_DRAWS} draws, {', '.join(scores)}",
        *notes,
    )

    def baseline(name: str, text: str) -> Metric:
        return Metric(
            float(drawn[name].mean()),
            name=f"similarity of {name}",
            n=_DRAWS,
            of="draw",
            bounds=(0, 1),
            help=f"The same of {text}, mean over fixed draws.",
            story=story,
        )

    return FilterBanksMeasurement(
        kind="filter_banks",
        title="Filter banks side by side",
        settings={bank.name: f"{bank.layer}, {bank.shape}" for bank in banks},
        ids=tuple(f"{bank.name} filter {each}" for bank in banks for each in range(len(bank.dead))),
        per_sample={
            "similarity": values,
            "bank": np.repeat(np.arange(len(banks)), [len(bank.dead) for bank in banks]),
            "dead": np.concatenate([bank.dead.numpy() for bank in banks]),
        },
        notes=tuple(notes),
        exhibits=(_sheets(banks, found), *_pairs(banks, found), _table(found, noises)),
        similarity=Metric(
            float(live.mean()),
            name="filter bank similarity",
            n=len(live),
            of="filter",
            ci95=interval,
            bounds=(0, 1),
            help="Mean |cosine| of each filter with its best match in each other bank, over shifts and sign.",
            story=story,
        ),
        noise=baseline("white noise", "white noise of the same shapes"),
        smooth_noise=baseline("smooth noise", "noise that is as smooth and as coloured as the banks"),
        pairs={
            pair: Metric(
                found.between(pair),
                name=f"similarity of {pair[0]} in {pair[1]}",
                n=int((match.filter >= 0).sum()),
                of="filter",
                bounds=(0, 1),
                story=story,
            )
            for pair, match in found.matches.items()
        },
        matches=found.matches,
    )


def _banks(model: AuditModel, layer: str | None, others: Sequence[Other]) -> list[_Bank]:
    """The banks to compare, each under a name of its own."""
    chosen = [(model.name, *_convolution(model, layer))]
    for other in others:
        given, name = other if isinstance(other, tuple) and len(other) == 2 else (other, None)
        if not isinstance(given, AuditModel):
            raise AuditError(
                f"filter_banks compares with an AuditModel, or a pair of one and the name of a layer, but was given "
                f"{type(given).__name__}."
            )
        where, convolution = _convolution(given, name)
        if convolution is not chosen[0][2]:
            chosen.append((given.name, where, convolution))
    if len(chosen) == 1:
        raise AuditError(
            f"There is nothing to compare the filters of {model.name} with: give filter_banks other models."
        )
    channels = [convolution.weight.shape[1] for _, _, convolution in chosen]
    for (name, where, _), count in zip(chosen, channels, strict=True):
        if count != channels[0]:
            raise AuditError(
                f"The filters of {model.name} ({chosen[0][1]}) have {channels[0]} input channels and those of {name} "
                f"({where}) have {count}; compare layers with as many."
            )
    names = [name for name, _, _ in chosen]
    names = [name if names.count(name) == 1 else f"{name} {where}" for name, where, _ in chosen]
    names = [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]
    weights = [convolution.weight.detach().float().cpu() for _, _, convolution in chosen]
    return [
        _Bank(name, where, weight, dead(weight))
        for name, (_, where, _), weight in zip(names, chosen, weights, strict=True)
    ]


def _convolution(model: AuditModel, layer: str | None) -> tuple[str, nn.Conv2d]:
    name = model.first_conv() if layer is None else layer
    found, where = model.layer(name), f"The layer {name!r} of {model.name}"
    if not isinstance(found, nn.Conv2d):
        raise AuditError(f"{where} is a {type(found).__name__}; filters are compared in an nn.Conv2d.")
    if math.prod(found.kernel_size) == 1:
        raise AuditError(f"{where} has 1×1 kernels: with a single tap there is no form to compare.")
    finite = found.weight.isfinite().all()
    if not finite or not found.weight.any():
        raise AuditError(
            f"The weights of the layer {name!r} of {model.name} are {'all zero' if finite else 'not finite'}."
        )
    return name, found


# Pictures: the banks as sheets, the best matches as rows.


def _sheets(banks: Sequence[_Bank], found: _Alike) -> Exhibit:
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


def _orders(banks: Sequence[_Bank], found: _Alike, columns: int) -> list[list[int | None]]:
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
    times = max(1, round(across / picture.shape[1]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _pairs(banks: Sequence[_Bank], found: _Alike) -> list[Exhibit]:
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


def _row(first: _Bank, rest: Sequence[_Bank], found: _Alike, each: int, similarity: float) -> Row:
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


def _table(found: _Alike, noises: Mapping[str, Sequence[_Alike]]) -> Table:
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
