"""What does a single neuron respond to?"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.neuron import Unit, neuron_gradient, responses
from pytest_cnnaudit.lenses.receptive_field import receptive_fields
from pytest_cnnaudit.lenses.relu_rules import Rule, check_rule
from pytest_cnnaudit.lenses.tap import check_layer
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Cost, Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Sample, Samples
from pytest_cnnaudit.statistics import share

_SHEET = 360  # pixels of a sheet's side on the page, as near as whole factors come
_BRIGHT = 0.995
"""The share of a gradient's values that is drawn in proportion: in that of the few above it the rest would be grey."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NeuronMeasurement(Measurement):
    """What a neuron responds to. `per_sample`: activation, row and column of the unit in the layer's map, label."""

    strongest: Metric
    active: Metric
    one_class: Metric


def measure_neuron(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    layer: str,
    channel: int,
    unit: Unit | None = None,
    method: Rule = "guided_backprop",
    k: int = 9,
) -> NeuronMeasurement:
    """The samples that a neuron responds to most, and which of their pixels make it respond.

    One pass over the samples up to the layer. Then, up to there, a forward and a backward pass for the samples shown,
    and the passes that find what the neuron sees of them, see `receptive_fields`.

    Args:
        layer: the name of a layer that runs once and returns maps or vectors.
        channel: of the layer, from 0.
        unit: row and column in the layer's map; for each sample the strongest where None.
        method: ``"guided_backprop"``, ``"deconvnet"`` or ``"gradient"``, see `lenses.neuron.neuron_gradient`.
        k: how many samples are shown.

    Raises:
        AuditError: there is no such layer, channel, unit or method, or the method changes nothing in this network.
    """
    check_rule(method)
    if k < 1:
        raise AuditError(f"k={k} shows no samples; give 1 or more.")
    unit = _pair(unit)
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        neuron = _Neuron(model, borrowed, layer, model.layer(layer), channel, unit, method)
        image = samples[0].image.to(engine.device)
        neuron.check(image[None])
        found = engine.measure(samples, neuron.respond, title=f"neuron {neuron.name}")
        strongest = np.lexsort((found.positions, -found["activation"]))[:k]
        chosen = {column: values[strongest] for column, values in found.columns.items()}
        chosen["box"] = neuron.boxes(image, chosen, engine.at_once(samples))
        drawn = engine.measure(
            samples[strongest], lambda batch: neuron.draw(batch, chosen), title=f"{method} of {neuron.name}"
        )
        cost = borrowed.cost
    return _measurement(neuron, samples, found, chosen, drawn, cost)


def _pair(unit: object) -> Unit | None:
    if unit is None:
        return None
    try:
        row, column = unit  # type: ignore[misc]
        return operator.index(row), operator.index(column)  # type: ignore[has-type]
    except (TypeError, ValueError):
        raise AuditError(f"unit={unit!r} is no place in a map; give (row, column).") from None


@dataclass(frozen=True, slots=True)
class _Neuron:
    """A channel of a layer of a model, or one unit of it, and the rule by which its gradient is drawn."""

    model: AuditModel
    borrowed: BorrowedModel
    layer: str
    module: nn.Module
    channel: int
    unit: Unit | None
    method: Rule

    @property
    def name(self) -> str:
        at = "" if self.unit is None else f" at {self.unit}"
        return f"{self.layer}, channel {self.channel}{at}"

    def check(self, image: Tensor) -> None:
        """Raise an `AuditError` for a layer that does not do."""
        with self._named(), fitting(self.model, image):
            check_layer(self.borrowed, image, self.module)

    def respond(self, batch: Batch) -> Part:
        """How strongly, and where, the neuron responds to each sample."""
        with self._named():
            found = responses(self.borrowed, batch.images, layer=self.module, channel=self.channel, unit=self.unit)
        finite = found.activations.isfinite()
        if not finite.all():
            at = batch.samples[int((~finite).nonzero()[0])].id
            raise AuditError(f"The response of {self.name} to {at} is not finite; check the model's weights.")
        rows, columns = found.units.cpu().numpy().T
        return Part(
            batch.positions,
            {
                "activation": found.activations.cpu().double().numpy(),
                "row": rows,
                "column": columns,
                "label": batch.labels.cpu().numpy(),
            },
        )

    def boxes(self, image: Tensor, chosen: Mapping[str, NDArray[Any]], at_once: int) -> NDArray[np.int64]:
        """Top, left, bottom and right of what the neuron sees of the samples, which are of one size with `image`."""
        channels = np.full(len(chosen["row"]), self.channel)
        units = np.stack([channels, chosen["row"], chosen["column"]], axis=1)
        with self._named():
            layers, places = {self.layer: self.module}, {self.layer: units}
            return receptive_fields(self.borrowed, image, layers, places, at_once=at_once)[self.layer]

    def draw(self, batch: Batch, chosen: Mapping[str, NDArray[Any]]) -> Part:
        """The pixels that make the neuron respond in samples of which the response is known, the strongest first."""
        units = np.stack([chosen["row"], chosen["column"]], axis=1)[batch.positions]
        activations = chosen["activation"][batch.positions]
        with self._named():
            gradients = neuron_gradient(
                self.borrowed,
                batch.images,
                layer=self.module,
                channel=self.channel,
                unit=torch.from_numpy(units).to(batch.images.device),
                rule=self.method,
            ).cpu()
        empty = ~gradients.flatten(1).any(1).numpy()

        def row(i: int) -> Row:
            facts = {
                "activation": figure(activations[i]),
                "label": self.model.class_name(batch.samples[i].label),
                "unit": f"({units[i, 0]}, {units[i, 1]})",
            }
            box = chosen["box"][batch.positions[i]]
            return Row(batch.samples[i].id, self._pictures(batch.samples[i], gradients[i], box), "", facts)

        everyone, rank = np.ones(len(batch), bool), batch.positions.astype(np.float64)
        kept = Kept.lowest(len(chosen["row"]), everyone, rank, batch.positions, row)
        return Part(batch.positions, {"empty": empty}, {"strongest": kept})

    def _pictures(self, sample: Sample, gradient: Tensor, box: NDArray[np.int64]) -> tuple[Picture, Picture, Picture]:
        top, left, bottom, right = map(int, box if box.any() else (0, 0, *gradient.shape[1:]))
        patch = (slice(top, bottom), slice(left, right))
        seen = torch.zeros(gradient.shape[1:], dtype=torch.bool)
        seen[patch] = True
        whole = pictures.image(sample.image)
        return (
            Picture(whole[patch], alt=f"patch of {sample.id}"),
            Picture(_signed(gradient)[patch], alt=f"{_words(self.method)} of {self.name} in it"),
            Picture(pictures.outlined(whole, seen), alt=sample.id),
        )

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except AuditError as error:
            raise AuditError(f"Layer {self.layer!r}: {error}") from None


def _signed(gradient: Tensor) -> pictures.Pixels:
    """A gradient C×H×W in colour: grey is zero, brighter pixels raise the neuron's response."""
    sizes = gradient[gradient != 0].abs().double().numpy()  # of the values in the patch
    return pictures.difference(gradient, 0.5 / np.quantile(sizes, _BRIGHT) if len(sizes) else 1.0)


def _words(method: Rule) -> str:
    return method.replace("_", " ")


def _measurement(
    neuron: _Neuron,
    samples: Samples,
    found: Part,
    chosen: Mapping[str, NDArray[Any]],
    drawn: Part,
    cost: Cost,
) -> NeuronMeasurement:
    activations, labels = found["activation"], chosen["label"]
    rows = drawn.kept["strongest"].shown
    label, _ = Counter(labels.tolist()).most_common(1)[0]
    empty = int(drawn["empty"].sum())
    notes = [f"{empty} of the {len(rows)} maps shown are zero: nothing comes through the ReLUs."] if empty else []
    if activations.max() <= 0:
        notes.append("The neuron responds to no sample with more than 0; those shown are the nearest to it.")
    return NeuronMeasurement(
        kind="neuron",
        title=f"Neuron {neuron.name}",
        settings={
            "layer": neuron.layer,
            "channel": str(neuron.channel),
            "unit": "the strongest" if neuron.unit is None else str(neuron.unit),
            "method": neuron.method,
        },
        ids=samples[found.positions].ids,
        per_sample={**found.columns, "active": activations > 0},
        cost=cost,
        notes=tuple(notes),
        exhibits=(_sheet(neuron, rows), _rows(neuron, rows)),
        strongest=Metric(
            float(activations.max()),
            name="strongest activation",
            n=len(activations),
            help="The neuron's largest response to a sample.",
        ),
        active=share(
            activations > 0,
            name="active samples",
            help="Share of samples that the neuron responds to with more than 0.",
            column="active",
        ),
        one_class=share(
            labels == label,
            name="strongest of one class",
            help=f"Share of the {len(rows)} samples with the strongest responses that are of one class, here "
            f"{neuron.model.class_name(label)}.",
        ),
    )


def _sheet(neuron: _Neuron, rows: Sequence[Row]) -> Exhibit:
    """All patches in one picture beside all gradients in another, as the papers print them."""
    method = _words(neuron.method)
    sheets = [_tiled([row.pictures[column].pixels for row in rows]) for column in (0, 1)]
    alts = (f"what {neuron.name} responds to most", f"{method} of {neuron.name} there")
    return Exhibit(
        title=f"What {neuron.name} responds to",
        text=f"Left the patches of the {len(rows)} samples that it responds to most, the strongest first; right, in "
        f"the same order, the pixels that make it respond ({method}): grey is none, brighter pixels raise it.",
        rows=(Row(neuron.name, tuple(map(Picture, sheets, ("", ""), alts))),),
        columns=("patches", method),
    )


def _rows(neuron: _Neuron, rows: Sequence[Row]) -> Exhibit:
    return Exhibit(
        title="One by one",
        text="A patch is what the neuron sees of the sample: its receptive field. Each map is scaled to its own.",
        rows=tuple(rows),
        columns=("patch", _words(neuron.method), "sample"),
    )


def _tiled(tiles: Sequence[pictures.Pixels]) -> pictures.Pixels:
    """Pictures side by side, about as many rows as columns, each in the middle of its field of a white sheet.

    Small ones are enlarged by a whole factor, so that the sheet can be read at a glance.
    """
    columns = math.ceil(math.sqrt(len(tiles)))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    gap = max(1, min(height, width) // 24)
    count = math.ceil(len(tiles) / columns)
    sheet = np.full((count * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top = number // columns * (height + gap) + (height - tile.shape[0]) // 2
        left = number % columns * (width + gap) + (width - tile.shape[1]) // 2
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return pictures.enlarged(sheet, max(1, _SHEET // sheet.shape[1]))
