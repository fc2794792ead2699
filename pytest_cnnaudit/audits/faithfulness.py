"""Is what the map calls important what the model needs?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import classify
from pytest_cnnaudit.audits.explainer import Explainer, Method, Target, explained, explainer
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses import faithfulness as lens
from pytest_cnnaudit.lenses.baseline import Baseline, baseline_of
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Chart, Exhibit, Line, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import bootstrap_interval, mean

Reference = Literal["moved", "blocks", "pixels"]

_SHOWN = 8
_AT = (0.1, 0.3)  # shares of the pixels that are shown
_CELLS = 8  # blocks a side

_REFERENCES: Mapping[Reference, str] = {
    "moved": "the same map, moved to a random place",
    "blocks": f"blocks in a random order ({_CELLS}×{_CELLS})",
    "pixels": "single pixels in a random order",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FaithfulnessMeasurement(Measurement):
    """Areas under the insertion and deletion curves, of the map's order and of a random one on the same images.

    `per_sample`: insertion, deletion, random_insertion, random_deletion (areas), insertion_curve and deletion_curve
    (and random_…; probabilities, samples×(steps + 1)), probability (of the target in the image), correct (whether the
    target is what the model says).

    Attributes:
        insertion: how fast the target comes back as the most important pixels are inserted into the blurred image.
        deletion: how slowly it goes as they are deleted; lower is better.
        insertion_over_random: `insertion` less that of the random order, sample by sample.
        deletion_under_random: the random order's deletion less `deletion`, sample by sample.
        random_insertion: of the random order.
        random_deletion: of the random order.
    """

    insertion: Metric
    deletion: Metric
    insertion_over_random: Metric
    deletion_under_random: Metric
    random_insertion: Metric
    random_deletion: Metric


def measure_faithfulness(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    method: Method = "grad_cam",
    target: Target = None,
    layer: str | None = None,
    steps: int = 20,
    baseline: Baseline | None = None,
    sigma: float | None = None,
    reference: Reference = "moved",
    min_insertion: float | None = None,
    max_deletion: float | None = None,
    options: Mapping[str, Any],
) -> FaithfulnessMeasurement:
    """Insertion and deletion (Petsiuk, Das & Saenko 2018, "RISE", section 4.2), beside a random order.

    Pixels are deleted from the image, or inserted into a blurred one, the most important first, and the softmax
    probability of the target is followed. How fast it changes depends on how coarse the order is, more than on where it
    begins: so the random order to beat is that of the same map moved to a random place.

    Costs a sample its explanation and 4·(steps − 1) + 3 forward passes.

    Args:
        method: as for `measure_saliency`.
        target: the class that is explained and followed: the label where None, ``"predicted"``, or one class for all.
        layer: for the methods that look at one; the last layer with a map where None.
        steps: in which all pixels are replaced. The paper replaces a row of pixels at a time.
        baseline: what deleted pixels become; where None, the mean that the model normalises with (the paper's zero
            after normalisation), or grey.
        sigma: of the blur, in pixels; a sixteenth of the shorter side where None.
        reference: the random order: ``"moved"``, or ``"blocks"`` or single ``"pixels"`` in a random order.
        min_insertion: with `max_deletion`, stop as soon as it is certain on which side of the thresholds they end.
        max_deletion: the same.
        options: further keyword arguments of the method.

    Raises:
        AuditError: there is no such method, layer, target or reference, or a setting does not fit the images.
    """
    if reference not in get_args(Reference):
        raise AuditError(
            f"There is no random order {reference!r}; use {', '.join(map(repr, get_args(Reference)))} for reference=."
        )
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        image = samples[0].image.to(engine.device)
        explains = explainer(model, borrowed, engine, image, method=method, layer=layer, options=options)
        if baseline is None:
            baseline = 0.5 if model.mean is None else torch.tensor(model.mean)[:, None, None]
        step = _Step(model, borrowed, explains, target, steps, baseline, sigma, reference, engine.at_once(samples))
        found = engine.measure(
            samples,
            step,
            title=f"faithfulness {explains.described['method']}",
            decided=lambda part: _decided(part, len(samples), min_insertion, max_deletion),
        )
        cost = borrowed.cost
    pixels = image.shape[1] * image.shape[2]
    shares = (lens.replaced_pixels(steps, pixels) / pixels).numpy()
    named = ", ".join(f"{key} {value}" for key, value in explains.described.items())
    notes = [f"The random order is that of {_REFERENCES[reference]}."]
    if not found["correct"].all():
        wrong = int((~found["correct"]).sum())
        notes.append(f"In {wrong} of {len(found)} samples the target is not what the model says.")
    if found["flat"].any():
        notes.append(f"{int(found['flat'].sum())} maps are constant: their pixels come in a random order.")
    if len(found) < len(samples):
        notes.append(f"Stopped as soon as the verdict was certain: after {len(found)} of {len(samples)} samples.")
    story = (f"{named}; target {'label' if target is None else target}", *notes)
    insertion, deletion = found["insertion"], found["deletion"]
    random_insertion, random_deletion = found["random_insertion"], found["random_deletion"]
    over, under = insertion - random_insertion, random_deletion - deletion
    return FaithfulnessMeasurement(
        kind="saliency_faithfulness",
        title="Is the map what the model needs?",
        settings={
            **explains.described,
            "target": "label" if target is None else str(target),
            "steps": str(steps),
            "random order": _REFERENCES[reference],
        },
        ids=samples[found.positions].ids,
        per_sample={**found.columns, "insertion_over_random": over, "deletion_under_random": under},
        complete=len(found) == len(samples),
        cost=cost,
        notes=tuple(notes),
        exhibits=(*_charts(found, shares, explains.described["method"]), _rows(found)),
        insertion=mean(
            insertion,
            name="insertion",
            story=story,
            help="Area under the target's probability as the most important pixels are inserted; 1 is best.",
            column="insertion",
        ),
        deletion=mean(
            deletion,
            name="deletion",
            higher_is_better=False,
            story=story,
            help="Area under the target's probability as the most important pixels are deleted; 0 is best.",
            column="deletion",
        ),
        insertion_over_random=mean(
            over,
            name="insertion over random",
            column="insertion_over_random",
            bounds=(-1, 1),
            story=(f"insertion {figure(insertion.mean())}, random {figure(random_insertion.mean())}", *story),
            help="By how much the insertion of the map's order is larger than that of a random one.",
        ),
        deletion_under_random=mean(
            under,
            name="deletion under random",
            column="deletion_under_random",
            bounds=(-1, 1),
            story=(f"deletion {figure(deletion.mean())}, random {figure(random_deletion.mean())}", *story),
            help="By how much the deletion of the map's order is smaller than that of a random one.",
        ),
        random_insertion=mean(
            random_insertion, name="random insertion", higher_is_better=None, help="The same of a random order."
        ),
        random_deletion=mean(
            random_deletion, name="random deletion", higher_is_better=None, help="The same of a random order."
        ),
    )


def _decided(part: Part, n: int, min_insertion: float | None, max_deletion: float | None) -> bool:
    """Whether each threshold that is given is already certain to be met, or to be missed."""
    if min_insertion is None and max_deletion is None:
        return False
    left, slack = n - len(part), 1e-9  # sums depend on their order; within rounding nothing is certain
    certain = []
    for column, limit in (("insertion", min_insertion), ("deletion", max_deletion)):
        if limit is not None:
            least = float(part[column].sum())
            certain.append(least / n >= limit + slack or (least + left) / n < limit - slack)
    return all(certain)


@dataclass(frozen=True, slots=True)
class _Step:
    """Explains one batch, and deletes and inserts its pixels."""

    model: AuditModel
    borrowed: BorrowedModel
    explains: Explainer
    target: Target
    steps: int
    baseline: Baseline
    sigma: float | None
    reference: Reference
    at_once: int

    def __call__(self, batch: Batch) -> Part:
        clean = classify(self.model, self.borrowed, batch)
        targets = explained(self.target, batch, clean)
        intact = clean.logits.softmax(1).gather(1, targets[:, None])[:, 0]
        maps = self.explains.maps(batch, targets)
        orders = self._orders(batch, maps)
        curves = lens.faithfulness_curves(
            self.borrowed.fast(batch.images),
            batch.images,
            targets,
            orders,
            steps=self.steps,
            baseline=self.baseline,
            sigma=self.sigma,
            intact=intact,
            at_once=self.at_once,
        )
        pixels = maps[0].numel()
        areas = [lens.area_under(each, pixels).cpu().double().numpy() for each in curves]
        columns: dict[str, NDArray[Any]] = {}
        for name, curve, area in zip(curves._fields, curves, areas, strict=True):
            for prefix, which in (("", 0), ("random_", 1)):
                columns[f"{prefix}{name}"] = area[which]
                columns[f"{prefix}{name}_curve"] = curve[which].cpu().numpy()
        columns["probability"] = intact.cpu().numpy()
        columns["correct"] = (clean.prediction == targets).cpu().numpy()
        columns["flat"] = (maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).cpu().numpy()
        found = Part(batch.positions, columns)
        gain = found["insertion"] - found["random_insertion"] + found["random_deletion"] - found["deletion"]

        def draw(i: int) -> Row:
            return self._row(batch, found, maps, orders[0], targets, i)

        worst = Kept.lowest(_SHOWN, np.ones(len(batch), bool), gain, batch.positions, draw)
        return Part(found.positions, found.columns, {"worst": worst})

    def _orders(self, batch: Batch, maps: Tensor) -> Tensor:
        """The order of the map and the random one, 2×N×HW."""
        ids = [sample.id for sample in batch.samples]
        seeds = torch.tensor([self.explains.engine.draw_seed(each) for each in ids], device=maps.device)
        if self.reference == "pixels":
            random = lens.random_order(seeds, maps[0].numel(), step=1)
        elif self.reference == "blocks":
            random = lens.block_order(seeds, (maps.shape[1], maps.shape[2]), _CELLS)
        else:
            random = lens.pixel_order(lens.moved(maps, seeds), seeds, step=1)
        return torch.stack([lens.pixel_order(maps, seeds), random])

    def _row(self, batch: Batch, found: Part, maps: Tensor, order: Tensor, targets: Tensor, i: int) -> Row:
        """The image, its map, and both ways at a tenth and at three tenths of the pixels."""
        sample, name = batch.samples[i], self.model.class_name(int(targets[i]))
        image, heated = batch.images[i], pictures.heat(maps[i])
        blank, dim = baseline_of(self.baseline, image[None])[0], lens.blurred(image[None], self.sigma)[0]
        shown = [
            Picture(pictures.image(image), f"{name} {figure(found['probability'][i])}", sample.id, "numbers"),
            Picture(heated, "", f"map of {name} in {sample.id}", pictures.form(heated)),
        ]
        counts = lens.replaced_pixels(self.steps, maps[0].numel())
        place = order[i].argsort().view_as(maps[i])
        for way, start, end in (("deletion", image, blank), ("insertion", dim, image)):
            for share in _AT:
                step = max(1, round(share * self.steps))
                pixels = torch.where(place < int(counts[step]), end, start)
                done = f"{int(counts[step]) / maps[0].numel():.0%} {'deleted' if way == 'deletion' else 'inserted'}"
                probability = figure(found[f"{way}_curve"][i, step])
                shown.append(Picture(pictures.image(pixels), f"{done}: {probability}", f"{sample.id}, {done}"))
        figures = {
            "insertion": f"{figure(found['insertion'][i])} (random {figure(found['random_insertion'][i])})",
            "deletion": f"{figure(found['deletion'][i])} (random {figure(found['random_deletion'][i])})",
        }
        return Row(sample.id, tuple(shown), figures=figures)


def _charts(found: Part, shares: NDArray[np.floating], method: str) -> tuple[Chart, ...]:
    texts = {
        "insertion": "The most important pixels are inserted into the blurred image first. The faster it rises, the "
        "more of what the model needs the map has found.",
        "deletion": "The most important pixels are deleted first. The faster it falls, the more of what the model "
        "needs the map has found.",
    }
    return tuple(
        Chart(
            title=way.capitalize(),
            text=f"{text} Means over the samples with 95% intervals.",
            x=f"share of pixels {'inserted' if way == 'insertion' else 'deleted'}",
            y="probability of the target",
            series=tuple(
                _line(label, shares, found[f"{prefix}{way}_curve"])
                for prefix, label in (("", method), ("random_", "random order"))
            ),
            y_range=(0, 1),
        )
        for way, text in texts.items()
    )


def _line(name: str, shares: NDArray[np.floating], curves: NDArray[np.floating]) -> Line:
    middle = curves.mean(0, dtype=np.float64)
    ends = [bootstrap_interval(column) or (value, value) for column, value in zip(curves.T, middle, strict=True)]
    return Line(name, shares, middle, [low for low, _ in ends], [high for _, high in ends])


def _rows(found: Part) -> Exhibit:
    return Exhibit(
        "Least over the random order",
        "Samples whose map gains the least over the random order, the least first. Below the pictures "
        "is the probability of the target.",
        found.kept["worst"].shown,
        columns=(
            "image",
            "map",
            "a tenth deleted",
            "three tenths deleted",
            "a tenth inserted",
            "three tenths inserted",
        ),
    )
