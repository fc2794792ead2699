"""Do the first layers of several models hold the same filters?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from pytest_cnnaudit.audits.alike_banks import Alike, Bank, Pair
from pytest_cnnaudit.audits.filter_sheets import best_and_weakest, sheets, table
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.filter_banks import Match, smooth_noise, white_noise
from pytest_cnnaudit.lenses.filters import dead
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Measurement, Metric, figure
from pytest_cnnaudit.seeds import derived_seed
from pytest_cnnaudit.statistics import bootstrap_interval

Other = AuditModel | tuple[AuditModel, str]

_DRAWS = 5  # of noise banks


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
    found = Alike.of(banks, [bank.weight.masked_fill(bank.dead[:, None, None, None], 0) for bank in banks])
    alive = {bank.name: bank.weight[~bank.dead] for bank in banks}
    smooth = partial(smooth_noise, banks=[alive[name] for name in sorted(alive)])
    noises = {
        name: [
            Alike.of(banks, [draw(live.shape, seed=derived_seed(number, bank)) for bank, live in alive.items()])
            for number in range(_DRAWS)
        ]
        for name, draw in (("white noise", white_noise), ("smooth noise", smooth))
    }
    return _measurement(banks, found, noises)


def _measurement(banks: Sequence[Bank], found: Alike, noises: Mapping[str, Sequence[Alike]]) -> FilterBanksMeasurement:
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
        exhibits=(sheets(banks, found), *best_and_weakest(banks, found), table(found, noises)),
        similarity=Metric(
            float(live.mean()),
            name="filter bank similarity",
            n=len(live),
            of="filter",
            ci95=interval,
            bounds=(0, 1),
            help="Mean |cosine| of each filter with its best match in each other bank, over shifts and sign.",
            story=story,
            column="similarity",
            statistic="mean",
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


def _banks(model: AuditModel, layer: str | None, others: Sequence[Other]) -> list[Bank]:
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
        Bank(name, where, weight, dead(weight))
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
