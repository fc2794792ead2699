"""Are the filters more than noise?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses import filters as lens
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.statistics import bootstrap_interval, share

UNLIKE_NOISE = 0.01  # a filter is structured if white noise is as smooth, or as rough, with less than this chance
FEWEST_KERNELS = 32  # the variance entropy of fewer kernels says little
_SHOWN = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FilterMeasurement(Measurement):
    """Figures of one convolution's filters; `per_sample` holds them filter by filter (`ids` are the filters)."""

    layer: str
    roughness: Metric
    structured: Metric
    variance_entropy_ratio: Metric
    high_frequency_energy: Metric
    dead: Metric
    duplicates: Metric
    sparsity: Metric
    variance_entropy: Metric
    orthogonality: Metric
    kernels: int
    judged_by_default: bool


def measure_filters(model: AuditModel, layer: str | None = None) -> FilterMeasurement:
    """The figures of the filters of `layer` (the first convolution by default); costs no pass through the model."""
    name = model.first_conv() if layer is None else layer
    convolution = model.layer(name)
    if not isinstance(convolution, nn.Conv2d):
        raise AuditError(
            f"The layer {name!r} is a {type(convolution).__name__}; filters are looked at in an nn.Conv2d."
        )
    weight = convolution.weight.detach().float().cpu()
    if weight.shape[2] * weight.shape[3] == 1:
        raise AuditError(
            f"The layer {name!r} has 1×1 kernels: with a single tap there is nothing that could be smooth."
        )
    if not weight.isfinite().all() or not weight.any():
        raise AuditError(
            f"The weights of the layer {name!r} are {'all zero' if weight.isfinite().all() else 'not finite'}."
        )
    return _measured(name, weight)


def _measured(name: str, weight: torch.Tensor) -> FilterMeasurement:
    count, inputs, height, width = weight.shape
    is_dead, norms = lens.dead(weight), lens.norms(weight)
    roughness, high = lens.roughness(weight), lens.high_frequency_energy(weight)
    p = lens.p_white_noise(roughness, lens.white_noise_roughness(tuple(weight.shape)))
    pairs = lens.duplicates(weight)
    entropy = lens.variance_entropy(weight)
    ratio = entropy / lens.noise_variance_entropy(tuple(weight.shape))
    live = ~is_dead
    judged = inputs > 1
    shape = f"{count}×{inputs}×{height}×{width}"
    story = (
        f"layer {name}, {shape}: {int(is_dead.sum())} dead, {len(pairs)} pairs of duplicates",
        f"white noise has roughness 1.00 and variance-entropy ratio 1.00; roughest: {_roughest(roughness, live)}",
    )

    def of_the_live(values: torch.Tensor) -> NDArray[np.float64]:
        return np.where(live.numpy(), values.double().numpy(), np.nan)

    def median(values: torch.Tensor, label: str, text: str, top: float, column: str) -> Metric:
        of_live = values[live].numpy()
        return Metric(
            float(np.median(of_live)),
            name=label,
            n=len(of_live),
            of="filter",
            ci95=bootstrap_interval(of_live, "median"),
            higher_is_better=False,
            bounds=(0, top),
            help=text,
            story=story,
            column=column,
            statistic="median",
        )

    def plain(value: float, label: str, text: str, *, better: bool | None = None, top: float | None = 1) -> Metric:
        return Metric(
            value,
            name=label,
            n=count,
            of="filter",
            higher_is_better=better,
            help=text,
            story=story,
            bounds=None if top is None else (0, top),
        )

    twins = {each for pair in pairs for each in pair}
    has_twin = np.array([each in twins for each in range(count)])
    return FilterMeasurement(
        kind="filters",
        title="Filters",
        settings={"layer": name, "filters": shape},
        ids=tuple(f"filter {number}" for number in range(count)),
        per_sample={
            "roughness": roughness.numpy(),
            "high_frequency_energy": high.numpy(),
            "norm": norms.numpy(),
            "dead": is_dead.numpy(),
            "duplicate": has_twin,
            "p_white_noise": p.numpy(),
            "live_roughness": of_the_live(roughness),
            "live_high_frequency_energy": of_the_live(high),
            "structured": of_the_live(p < UNLIKE_NOISE),
        },
        notes=()
        if judged
        else (
            "One input channel a filter: such filters look rough when healthy, so only given thresholds are judged.",
        ),
        exhibits=(_grid(name, weight, roughness, norms, is_dead, p, pairs),),
        layer=name,
        roughness=median(
            roughness,
            "roughness",
            "Median von Neumann ratio of the live filters: 0 constant, 1 white noise.",
            2,
            column="live_roughness",
        ),
        structured=share(
            (p < UNLIKE_NOISE)[live].numpy(),
            of="filter",
            name="structured filters",
            story=story,
            help="Share of live filters that white noise of this shape would not produce (p < 0.01).",
            column="structured",
        ),
        variance_entropy_ratio=plain(
            ratio,
            "variance-entropy ratio",
            better=False,
            top=1.2,
            text="Variance entropy against Gaussian kernels of this shape: 1 is noise.",
        ),
        high_frequency_energy=median(
            high,
            "high-frequency energy",
            "Median share of energy above half of Nyquist; noise 0.80.",
            1,
            column="live_high_frequency_energy",
        ),
        dead=share(
            is_dead.numpy(),
            of="filter",
            name="dead filters",
            higher_is_better=False,
            story=story,
            help="Share of filters with a norm under 1% of the layer's largest.",
            column="dead",
        ),
        duplicates=share(
            has_twin[live.numpy()],
            of="filter",
            name="duplicate filters",
            higher_is_better=False,
            story=story,
            help="Share of live filters with a twin: |cosine| above 0.95.",
        ),
        sparsity=plain(
            lens.sparsity(weight), "sparsity", "Share of kernels with all taps within 1% of the largest around zero."
        ),
        variance_entropy=plain(
            entropy, "variance entropy", "Spread of the variance over principal components, in log10.", top=None
        ),
        orthogonality=plain(
            lens.orthogonality(weight), "orthogonality", "1: filters at right angles; 0: parallel.", better=True
        ),
        kernels=count * inputs,
        judged_by_default=judged,
    )


def _roughest(roughness: torch.Tensor, live: torch.Tensor) -> str:
    order = [int(each) for each in roughness.argsort(descending=True) if live[each]][:3]
    return ", ".join(f"{each} ({figure(float(roughness[each]))})" for each in order)


def _grid(
    name: str,
    weight: torch.Tensor,
    roughness: torch.Tensor,
    norms: torch.Tensor,
    is_dead: torch.Tensor,
    p: torch.Tensor,
    pairs: list[tuple[int, int]],
) -> Exhibit:
    """Every filter as a tile, the roughest live ones first, dead ones last."""
    worst_first = sorted(range(len(weight)), key=lambda each: (bool(is_dead[each]), -float(roughness[each]), each))
    twins = Counter(each for pair in pairs for each in pair)

    def tile(each: int) -> Row:
        status = "dead" if is_dead[each] else "" if p[each] < UNLIKE_NOISE else "noise-like"
        figures = {"roughness": figure(float(roughness[each])), "norm": figure(float(norms[each]))}
        if twins[each]:
            figures["duplicates"] = str(twins[each])
        picture = Picture(pictures.kernel(weight[each]), alt=f"filter {each} of {name}, {status or 'structured'}")
        return Row(f"filter {each}", (picture,), status, figures)

    cut = f" The first {_SHOWN} of {len(weight)}." if len(weight) > _SHOWN else ""
    return Exhibit(
        title=f"Filters of {name}",
        text="Roughest first, dead ones last. Grey is zero; each filter is scaled to its own largest tap. Healthy "
        "first layers hold smooth edges, bars and colour blobs, and a few rough high-pass filters; after failed "
        f"training all look like static.{cut}",
        rows=tuple(tile(each) for each in worst_first[:_SHOWN]),
        kind="grid",
    )
