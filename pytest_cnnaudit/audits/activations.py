"""What do the channels of a layer do? Their maps, and those that never do anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.audits.patch_rows import shrunk
from pytest_cnnaudit.audits.tapped import check_numbers, named_layers
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.lenses.activations import ChannelFigures, channel_figures
from pytest_cnnaudit.lenses.tap import tap
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Bars, Chart, Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import mean, share

_SAMPLES = 2  # whose maps are shown
_SHOWN = 256  # channels of each
_LARGEST = 112  # pixels of a map on the page, where it has more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ActivationMeasurement(Measurement):
    """What the channels of a layer did over the samples.

    `per_sample`: sparsity (the share of the layer's units that are not above zero).

    Attributes:
        layer: its name.
        dead: the share of channels that never rose above zero, or never changed.
        sparsity: the mean share of units that are not above zero.
        channels: figures of each channel.
    """

    layer: str
    dead: Metric
    sparsity: Metric
    channels: ChannelFigures


def measure_activations(
    model: AuditModel, samples: Samples, engine: Engine, *, layer: str, max_dead: float | None = None
) -> ActivationMeasurement:
    """The maps of a layer's channels: which are dead, and how sparse they are. One pass, no further than the layer.

    Args:
        layer: its name. A channel that never rises above zero is dead where a ReLU follows, so name the activation, or
            the convolution or normalisation before it.
        max_dead: stop as soon as it is certain that no larger share is dead.

    Raises:
        AuditError: there is no such layer, it does not run exactly once, or it returns no maps.
    """
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        layers = named_layers(model, borrowed, samples[0].image.to(engine.device), layer)
        found: _Found = cast(Any, engine).measure(
            samples,
            _Step(model, borrowed, layers),
            title=f"activations {layer}",
            decided=lambda so_far: max_dead is not None and so_far.channels.dead.mean() <= max_dead,
        )
        cost = borrowed.cost
    channels, part = found.channels, found.part
    dead = channels.dead
    story = [f"layer {layer}, {len(dead)} channels, {len(part)} samples of {samples.source}"]
    if dead.any():
        story.append(f"dead: {_listed(np.flatnonzero(dead).tolist())}")
    notes = _notes(channels)
    if len(part) < len(samples):
        notes.append(f"Stopped as soon as the verdict was certain: after {len(part)} of {len(samples)} samples.")
    return ActivationMeasurement(
        kind="activations",
        title="Activations",
        settings={"layer": layer},
        ids=samples[part.positions].ids,
        per_sample=part.columns,
        complete=len(part) == len(samples),
        cost=cost,
        notes=tuple(notes),
        exhibits=(*_exhibits(layer, part.kept["maps"].shown, dead), _chart(layer, channels)),
        layer=layer,
        dead=share(
            dead,
            of="channel",
            name="dead channels",
            higher_is_better=False,
            story=(*story, *notes),
            help="Share of channels that never rose above zero, or never changed.",
        ),
        sparsity=mean(
            part["sparsity"],
            name="sparsity",
            higher_is_better=None,
            story=(*story, *notes),
            help="Mean share of the layer's units that are not above zero.",
            column="sparsity",
        ),
        channels=channels,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Columns over some of the samples, and what the channels did in them."""

    part: Part
    channels: ChannelFigures

    def __len__(self) -> int:
        return len(self.part)

    def merge(self, other: _Found) -> _Found:
        return _Found(self.part.merge(other.part), self.channels.merge(other.channels))


@dataclass(frozen=True, slots=True)
class _Step:
    """One pass of a batch, no further than the layer."""

    model: AuditModel
    borrowed: BorrowedModel
    layers: Mapping[str, nn.Module]

    def __call__(self, batch: Batch) -> _Found:
        found: list[_Found] = []

        def read(name: str, maps: Tensor) -> None:
            channels = channel_figures(maps)
            check_numbers(name, batch, maps, np.stack([channels.largest, channels.smallest]))
            sparsity = 1 - (maps > 0).flatten(1).double().mean(1).cpu().numpy()
            every = np.ones(len(batch), dtype=bool)
            first = Kept.lowest(
                _SAMPLES, every, batch.positions.astype(float), batch.positions, lambda i: _row(batch, i, maps[i])
            )
            found.append(_Found(Part(batch.positions, {"sparsity": sparsity}, {"maps": first}), channels))

        with fitting(self.model, batch.images):
            tap(self.borrowed.reordered(batch.images), batch.images, self.layers, read)
        return found[0]


def _row(batch: Batch, i: int, maps: Tensor) -> Row:
    """The image, and the map of each channel: C×h×w."""
    sample = batch.samples[i]
    strongest = maps.amax((1, 2)).tolist()
    tiles = [
        Picture(pixels, alt=f"channel {number} in {sample.id}, largest activation {figure(largest)}")
        for number, (pixels, largest) in enumerate(zip(_tiles(maps), strongest, strict=True))
    ]
    return Row(sample.id, (Picture(pictures.image(batch.images[i]), alt=sample.id), *tiles))


def _tiles(maps: Tensor) -> NDArray[np.uint8]:
    """Each map on its own scale: from 0 to its largest value, or around grey where the layer goes below zero."""
    maps = maps.detach().float()
    scaled = maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    shades = shrunk(0.5 + scaled / 2 if (maps < 0).any() else scaled, _LARGEST)
    return np.asarray((shades.clamp(0, 1) * 255).round().byte().cpu())


def _exhibits(layer: str, rows: Sequence[Row], dead: NDArray[np.bool_]) -> list[Exhibit]:
    """The images, and for each a tile for every channel, dead ones first."""
    order = np.argsort(~dead, kind="stable")[:_SHOWN].tolist()
    cut = f" The first {_SHOWN} of {len(dead)}." if len(dead) > _SHOWN else ""
    images = Exhibit(
        title="The images",
        text=f"What the channels of {layer} are shown for.",
        rows=tuple(Row(row.title, row.pictures[:1]) for row in rows),
    )
    return [images] + [
        Exhibit(
            title=f"Channels of {layer} for {row.title}",
            text="One tile a channel, dead ones first. Each is scaled to its own largest value; where the layer goes "
            f"below zero, grey is zero.{cut}",
            rows=tuple(
                Row(f"channel {each}", (row.pictures[1 + each],), "dead" if dead[each] else "") for each in order
            ),
            kind="grid",
        )
        for row in rows
    ]


def _chart(layer: str, channels: ChannelFigures) -> Chart:
    edges = np.linspace(0, 1, 21)
    return Chart(
        title=f"How sparse the channels of {layer} are",
        text="At 1 are channels that are never above zero. Channels far to the right answer to few things.",
        x="share of units not above zero",
        y="channels",
        series=(Bars("channels", edges, np.histogram(channels.sparsity, edges)[0]),),
    )


def _notes(channels: ChannelFigures) -> list[str]:
    silent = int(((channels.largest <= 0) & (channels.smallest < 0)).sum())
    note = (
        f"The layer goes below zero, and {silent} of its channels never rise above it: they are dead if a ReLU "
        "follows, and only then."
    )
    return [note] if silent else []


def _listed(channels: list[int]) -> str:
    """The first dozen, and how many more.

    >>> _listed([3, 5]), _listed(list(range(14)))
    ('channels 3, 5', 'channels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more')
    """
    more = f" and {len(channels) - 12} more" if len(channels) > 12 else ""
    return f"channels {', '.join(map(str, channels[:12]))}{more}"
