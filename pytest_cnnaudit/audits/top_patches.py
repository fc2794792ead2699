"""What does each channel look for? The image patches that activate it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.audits.patch_rows import Patch, patch_exhibits
from pytest_cnnaudit.audits.tapped import all_convolutions, check_numbers, named_layers
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.patches import TopUnits, top_units
from pytest_cnnaudit.lenses.receptive_field import receptive_fields
from pytest_cnnaudit.lenses.tap import tap
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Measurement, Metric
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import share

_SHOWN = 24  # channels, where one layer is looked at
_FEWEST = 4  # of each layer, where many are

Channels = Mapping[int, Sequence[Patch]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TopPatchesMeasurement(Measurement):
    """The units that activate each channel most.

    Attributes:
        top: by layer, the top units of all its channels.
        patches: by layer and channel, the patches that are shown, the strongest first.
        active: the share of channels that rise above zero for some sample.
    """

    top: Mapping[str, TopUnits]
    patches: Mapping[str, Channels]
    active: Metric


def measure_top_patches(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    layer: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    k: int = 9,
) -> TopPatchesMeasurement:
    """The patches that activate each channel most: all channels of all layers in one pass over the samples.

    Of each channel `k` units are kept while the samples stream by, and nothing of the images. Those that are shown are
    loaded again at the end, and cut to the receptive fields, which take a few passes more: see `receptive_fields`.

    Args:
        layer: the name of a layer, or several; every convolution where None.
        channels: the channel, or channels, to show; the first ones of each layer where None.
        k: patches of a channel, at most one of each sample.

    Raises:
        AuditError: there is no such layer or channel; a layer does not run exactly once, or returns no maps.
    """
    if k < 1:
        raise AuditError(f"k={k} is no number of patches; give 1 or more.")
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        image = samples[0].image.to(engine.device)
        if layer is None:
            layers, notes = all_convolutions(model, borrowed, image)
        else:
            layers, notes = named_layers(model, borrowed, image, layer), ()
        top = cast(Any, engine).measure(samples, _Step(model, borrowed, layers, k), title="top patches").top
        shown = {name: _shown(name, len(top[name].values), channels, len(layers)) for name in layers}
        patches = _patches(borrowed, samples, image, layers, top, shown, engine.at_once(samples))
        cost = borrowed.cost
    drawn, count = sum(map(len, shown.values())), sum(len(each.values) for each in top.values())
    if drawn < count:
        notes = (*notes, f"{drawn} of {count} channels are shown; name others with channels=.")
    described = next(iter(layers)) if len(layers) == 1 else f"{len(layers)} layers"
    return TopPatchesMeasurement(
        kind="top_patches",
        title="Maximally activating patches",
        settings={"layer": ", ".join(layers) if layer is not None else "every convolution", "patches": str(k)},
        per_sample={},
        cost=cost,
        notes=notes,
        exhibits=patch_exhibits(samples, patches),
        top=top,
        patches=patches,
        active=share(
            np.concatenate([each.values[:, 0] > 0 for each in top.values()]),
            of="channel",
            name="active channels",
            story=(f"{described}, {len(samples)} samples of {samples.source}",),
            help="Share of channels that rise above zero for some sample.",
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The top units of each layer over some of the samples."""

    count: int
    top: Mapping[str, TopUnits]

    def __len__(self) -> int:
        return self.count

    def merge(self, other: _Found) -> _Found:
        return _Found(self.count + other.count, {name: top.merge(other.top[name]) for name, top in self.top.items()})


@dataclass(frozen=True, slots=True)
class _Step:
    """One pass of a batch, no further than the last layer."""

    model: AuditModel
    borrowed: BorrowedModel
    layers: Mapping[str, nn.Module]
    k: int

    def __call__(self, batch: Batch) -> _Found:
        top: dict[str, TopUnits] = {}

        def read(name: str, maps: Tensor) -> None:
            top[name] = top_units(maps, batch.positions, self.k)
            check_numbers(name, batch, maps, top[name].values)

        with fitting(self.model, batch.images):
            tap(self.borrowed.reordered(batch.images), batch.images, self.layers, read)
        return _Found(len(batch), top)


def _shown(name: str, count: int, channels: int | Sequence[int] | None, layers: int) -> list[int]:
    """The channels to show of a layer that has `count`."""
    if channels is None:
        return list(range(min(count, max(_FEWEST, _SHOWN // layers))))
    wanted = [int(each) for each in np.atleast_1d(np.asarray(channels))]
    if not wanted:
        raise AuditError("channels=[] names no channel; give one, several, or None for the first ones.")
    for channel in wanted:
        if not 0 <= channel < count:
            raise AuditError(f"There is no channel {channel} in the layer {name!r}; it has {count} (0 to {count - 1}).")
    return list(dict.fromkeys(wanted))


def _patches(
    borrowed: BorrowedModel,
    samples: Samples,
    image: Tensor,
    layers: Mapping[str, nn.Module],
    top: Mapping[str, TopUnits],
    shown: Mapping[str, Sequence[int]],
    at_once: int,
) -> dict[str, Channels]:
    """What the top units see. How large the field is away from the border is asked of the units in the map's middle."""
    ids = samples.ids
    units = {name: _with_middle(top[name], channels) for name, channels in shown.items()}
    boxes = receptive_fields(borrowed, image, layers, units, at_once=at_once)

    def of_channel(units: TopUnits, channel: int, boxes: NDArray[np.int64]) -> list[Patch]:
        field = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
        return [
            Patch(ids[sample], sample, value, (y, x), tuple(box), tuple(field.tolist()))
            for sample, value, (y, x), box in zip(
                units.samples[channel].tolist(),
                units.values[channel].tolist(),
                units.places[channel].tolist(),
                boxes[: -len(_MIDDLE)].tolist(),
                strict=True,
            )
        ]

    return {
        name: {
            channel: of_channel(top[name], channel, each)
            for channel, each in zip(channels, boxes[name].reshape(len(channels), -1, 4), strict=True)
        }
        for name, channels in shown.items()
    }


_MIDDLE = (0, 1)  # the unit at half the size, and that before it: in an even map, either may be the one with room


def _with_middle(top: TopUnits, channels: Sequence[int]) -> NDArray[np.int64]:
    """Channel, y and x of each channel's top units, and of those in the middle of the map."""
    middle = [tuple((side - before) // 2 for side in top.size) for before in _MIDDLE]
    return np.array([(channel, *place) for channel in channels for place in (*top.places[channel].tolist(), *middle)])
