"""What does a layer see in an image? DeepDream: more of it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.engine.measure import out_of_memory
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.dream import deep_dream
from pytest_cnnaudit.lenses.objectives import Objective, activity_objective
from pytest_cnnaudit.lenses.tap import check_layer
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Exhibit, Form, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import quantile

Layers = str | Sequence[str] | Mapping[str, float]
"""A layer, several that count alike, or several with a weight each."""

_SHOWN = 24
_SETTINGS = {
    name: setting.default
    for name, setting in inspect.signature(deep_dream).parameters.items()
    if setting.kind is setting.KEYWORD_ONLY and name != "seed"
}
"""Of `deep_dream`, with their defaults; the seed is the audit's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DreamMeasurement(Measurement):
    """The dreams. `per_sample`: before and after, the activity of the layers (half their mean square, weighted), in a
    pass of the whole image as it was and as it is returned.

    Attributes:
        images: N×C×H×W in [0, 1].
        growth: the median of after / before.
    """

    images: NDArray[np.float32]
    growth: Metric


def measure_dream(
    model: AuditModel, images: Samples | Tensor, engine: Engine, *, layer: Layers, settings: Mapping[str, Any]
) -> DreamMeasurement:
    """DeepDream over octaves; see `deep_dream`.

    Args:
        images: samples, or a tensor N×C×H×W or C×H×W, in [0, 1] or of bytes.
        layer: the name of a layer, a list of names, or a mapping from names to weights.
        settings: further keyword arguments of `deep_dream`.

    Raises:
        AuditError: there is no such layer or setting, or the model does not take the sizes of the octaves.
    """
    samples = images if isinstance(images, Samples) else _unlabelled(images)
    weights, settings = _weights(layer), _known(settings)
    if model.input_size is not None and settings["octaves"] != 1:
        raise AuditError(
            f"The model {model.name!r} takes images of {model.input_size[0]}×{model.input_size[1]} alone (its "
            "input_size), and octaves are smaller; dream with octaves=1."
        )
    modules = [model.layer(name) for name in weights]
    seed = engine.draw_seed()
    with model.borrow(engine.device, seed=seed) as borrowed:
        first = samples[0].image[None].to(engine.device)
        for name, module in zip(weights, modules, strict=True):
            _check_layer(model, borrowed, name, module, first)
        objective = activity_objective(borrowed.reordered(first), modules, list(weights.values()))
        step = _Step(model, objective, {**settings, "seed": seed})
        found = engine.measure(samples, step, title="dream")
        cost = borrowed.cost
    growth = found["after"] / np.where(found["before"] > 0, found["before"], np.nan)
    described = {name: f"{value:.3g}" for name, value in settings.items()}
    mixed = ", ".join(name if weight == 1 else f"{name} ({weight:g})" for name, weight in weights.items())
    rows = found.kept["dreams"].shown
    silent, count = int(np.isnan(growth).sum()), len(found)
    cut = f" The first {_SHOWN} of {len(found)}." if len(found) > _SHOWN else ""
    return DreamMeasurement(
        kind="dream",
        title="DeepDream",
        settings={"layer": mixed, **described, "seed": str(engine.seed)},
        ids=samples[found.positions].ids,
        per_sample={"before": found["before"], "after": found["after"], "growth": growth},
        cost=cost,
        notes=(f"{silent} of {count} images excite the layers to nothing as they are; growth leaves them out.",)
        if silent
        else (),
        exhibits=(
            Exhibit(
                f"Dreams of {mixed}",
                f"From a small copy of each image to the whole, with more of what the layer sees in it.{cut}",
                rows,
                columns=("before", *(f"octave {number}" for number in range(1, len(rows[0].pictures) - 1)), "after"),
            ),
        ),
        images=found["image"],
        growth=quantile(
            growth[~np.isnan(growth)],
            0.5,
            name="activity growth",
            least=0,
            help="How many times as active the layers are after the dream; the median.",
            column="growth",
        ),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Dreams of one batch."""

    model: AuditModel
    objective: Objective
    settings: Mapping[str, Any]

    def __call__(self, batch: Batch) -> Part:
        octaves = deep_dream(self._fitting, batch.images, **self.settings)
        with torch.no_grad():
            before, after = self.objective(batch.images), self.objective(octaves[-1])
        columns = {"image": octaves[-1], "before": before, "after": after}
        found = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})

        def form(octave: int) -> Form:
            return "numbers" if octave == len(octaves) else "lossless"  # the last one is the dream

        def draw(i: int) -> Row:
            name = batch.samples[i].id
            shown = [Picture(pictures.image(batch.images[i]), alt=f"{name}, before", form="numbers")]
            shown += [
                Picture(pictures.image(each[i]), alt=f"{name}, octave {number}", form=form(number))
                for number, each in enumerate(octaves, start=1)
            ]
            return Row(
                name, tuple(shown), figures={"activity": f"{figure(found['before'][i])} to {figure(found['after'][i])}"}
            )

        everything = np.ones(len(batch), bool)
        kept = Kept.lowest(_SHOWN, everything, batch.positions.astype(float), batch.positions, draw)
        return Part(found.positions, found.columns, {"dreams": kept})

    def _fitting(self, images: Tensor) -> Tensor:
        """The objective, of images as large as an octave or a tile."""
        try:
            return self.objective(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            if out_of_memory(error):
                raise
            height, width = images.shape[2:]
            raise AuditError(
                f"The model {self.model.name!r} does not take images of {height}×{width}, as large as an octave or a "
                f"tile: {error}. Give fewer octaves=, a smaller octave_scale=, or a larger tile=."
            ) from None


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, those not given with their defaults."""
    for name in settings:
        if name not in _SETTINGS:
            close = difflib.get_close_matches(name, _SETTINGS, n=3, cutoff=0.5) or _SETTINGS
            raise AuditError(f"DeepDream has no setting {name!r}. Did you mean {' or '.join(map(repr, close))}?")
    return {**_SETTINGS, **settings}


def _weights(layer: Layers) -> dict[str, float]:
    weights = (
        dict(layer) if isinstance(layer, Mapping) else dict.fromkeys([layer] if isinstance(layer, str) else layer, 1.0)
    )
    if not weights or not any(weights.values()):
        raise AuditError(
            f"layer={layer!r} names no layer to dream of; give a name, a list of names, or weights by name."
        )
    return weights


def _check_layer(model: AuditModel, borrowed: BorrowedModel, name: str, module: torch.nn.Module, image: Tensor) -> None:
    try:
        with fitting(model, image):
            check_layer(borrowed, image, module)
    except AuditError as error:
        raise AuditError(f"Layer {name!r}: {error}") from None


def _unlabelled(images: object) -> Samples:
    if not isinstance(images, Tensor) or images.ndim not in (3, 4):
        given = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise AuditError(
            f"Images to dream of are Samples (samples[3:4] for one of them), or a tensor N×C×H×W or C×H×W in [0, 1], "
            f"not {given}."
        )
    batch = images.detach() if images.ndim == 4 else images.detach()[None]
    return Samples.from_tensors(batch, torch.zeros(len(batch), dtype=torch.long))
