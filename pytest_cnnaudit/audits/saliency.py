"""Does the model look at the object?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import Clean, classify
from pytest_cnnaudit.audits.explainer import Explainer, Method, explainer
from pytest_cnnaudit.audits.grids import confident_grids
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.localization import energy_in_region, pointing_game
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Cost, Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import is_decided, mean, share

Score = Literal["pointing_game", "energy_in_box", "grid_pointing_game"]
SCORES: tuple[Score, ...] = ("pointing_game", "energy_in_box", "grid_pointing_game")


_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SaliencyMeasurement(Measurement):
    """Where the model looks. What needs boxes (or grids) is NaN where there were none.

    `per_sample`: hit, energy, area (of the object), centre (whether the image's centre lies on it), scored (whether the
    object's place is known), correct. For grids, `ids` are their cells.
    """

    pointing_game: Metric
    energy_in_box: Metric
    grid_pointing_game: Metric
    centre_point: Metric
    chance: Metric


def measure_saliency(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    method: Method = "grad_cam",
    target: int | Literal["predicted"] | None = None,
    layer: str | None = None,
    grid: int | None = None,
    at_least: tuple[Score, float] | None = None,
    options: Mapping[str, Any],
) -> SaliencyMeasurement:
    """Attribution maps, and how much of them lies on the object.

    Args:
        method: the name of one of `lenses.methods.METHODS`, an attribution of captum, or any callable
            ``(model, images, targets) -> attributions`` that returns N×C×h×w or N×h×w.
        target: the class that is explained: the label where None, ``"predicted"``, or one class for all.
        layer: for the methods that look at one (the CAMs); the last layer with a map where None.
        grid: play the grid pointing game on grids of grid×grid images, which needs no boxes; where None, on 2×2 grids
            if the samples have neither boxes nor masks.
        at_least: a score and its threshold; stop as soon as it is certain whether it is reached.
        options: further keyword arguments of the method.
    """
    if grid is None and not samples.located:
        grid = 2
    if grid is not None and grid < 2:
        raise AuditError(f"grid={grid} is no grid; give 2 for 2×2 images or more.")
    if grid is not None and target is not None:
        raise AuditError(f"target={target!r} does not go with a grid: each cell is explained for its own class.")
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        if grid is not None:
            samples = confident_grids(model, borrowed, samples, engine, grid)
        image = samples[0].image.to(engine.device)
        explains = explainer(model, borrowed, engine, image, method=method, layer=layer, options=options)
        step = _Step(model, borrowed, explains, target, "grid" if grid else "box")
        n = len(samples)

        def decided(part: Part) -> bool:
            if at_least is None:
                return False
            scored = part["scored"]
            if not scored.any():
                return False
            values = part["hit" if at_least[0] == "pointing_game" else "energy"][scored]
            return is_decided(float(values.sum()), len(values), n - int((~scored).sum()), at_least[1])

        found = engine.measure(samples, step, title=f"saliency {explains.described['method']}", decided=decided)
        cost = borrowed.cost
    if not found["scored"].any():
        raise AuditError(
            f"None of the {len(found)} samples of {samples.source} has a box or mask that is not empty; check that the "
            "file names in the boxes file are those of the images."
        )
    return _measurement(samples, found, cost=cost, described=explains.described, target=target, grid=grid)


@dataclass(frozen=True, slots=True)
class _Step:
    """Explains one batch and scores the maps."""

    model: AuditModel
    borrowed: BorrowedModel
    explains: Explainer
    target: int | Literal["predicted"] | None
    where: str

    def __call__(self, batch: Batch) -> Part:
        clean = classify(self.model, self.borrowed, batch) if self.where == "box" else None
        targets = self._targets(batch, clean)
        maps = self.explains.maps(batch, targets)
        known = [sample.region() for sample in batch.samples]
        regions = torch.stack(
            [torch.zeros_like(maps[0], dtype=torch.bool, device="cpu") if each is None else each for each in known]
        )
        on_device = regions.to(maps.device)
        height, width = regions.shape[1:]
        found = Part(
            batch.positions,
            {
                "scored": regions.flatten(1).any(1).numpy(),
                "hit": pointing_game(maps, on_device).cpu().numpy(),
                "energy": energy_in_region(maps, on_device).cpu().numpy(),
                "area": regions.flatten(1).double().mean(1).numpy(),
                "centre": regions[:, height // 2, width // 2].numpy(),
                "flat": (maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).cpu().numpy(),
                "correct": np.ones(len(batch), bool)
                if clean is None
                else (clean.prediction == batch.labels).cpu().numpy(),
            },
        )
        return Part(found.positions, found.columns, self._rows(batch, found, maps, regions, targets))

    def _targets(self, batch: Batch, clean: Clean | None) -> Tensor:
        if self.target is None or clean is None:
            return batch.labels
        if self.target == "predicted":
            return clean.prediction
        if not isinstance(self.target, int) or not 0 <= self.target < clean.classes:
            raise AuditError(f"target={self.target!r} is neither a class (0 to {clean.classes - 1}) nor 'predicted'.")
        return torch.full_like(batch.labels, self.target)

    def _rows(self, batch: Batch, found: Part, maps: Tensor, regions: Tensor, targets: Tensor) -> dict[str, Kept]:
        """The samples with the least energy on the object, and those with the most."""

        def draw(i: int) -> Row:
            return self._row(batch, found, maps, regions, targets, i)

        scored, energy = found["scored"], found["energy"]
        return {
            "worst": Kept.lowest(_SHOWN, scored, energy, batch.positions, draw),
            "best": Kept.lowest(_SHOWN // 3, scored, -energy, batch.positions, draw),
        }

    def _row(self, batch: Batch, found: Part, maps: Tensor, regions: Tensor, targets: Tensor, i: int) -> Row:
        sample, name = batch.samples[i], self.model.class_name(int(targets[i]))
        picture, heated = pictures.image(batch.images[i]), pictures.heat(maps[i])
        shown = [pictures.outlined(each, regions[i]) for each in (picture, heated, pictures.overlay(picture, heated))]
        captions = (f"looking for {name}", "", "")
        alts = (f"{sample.id}", f"map of {name} in {sample.id}", f"map of {name} over {sample.id}")
        figures = {f"energy in {'cell' if self.where == 'grid' else 'box'}": figure(found["energy"][i])}
        status = "hit" if found["hit"][i] else "miss"
        return Row(sample.id, tuple(map(Picture, shown, captions, alts)), status, figures)


def _measurement(
    samples: Samples,
    found: Part,
    *,
    cost: Cost,
    described: Mapping[str, str],
    target: int | str | None,
    grid: int | None,
) -> SaliencyMeasurement:
    scored = found["scored"]
    hits, energy = found["hit"][scored], found["energy"][scored]
    centre, area = float(found["centre"][scored].mean()) if scored.any() else np.nan, found["area"][scored]
    chance = float(area.mean()) if len(area) else np.nan
    unscored, flat = int((~scored).sum()), int(found["flat"].sum())
    named = ", ".join(f"{key} {value}" for key, value in described.items())
    story = [f"{named}; target {'label' if target is None else target}"]
    notes = []
    if grid:
        story.append(
            f"{len(samples) // grid**2} grids of {grid}×{grid} confident images; chance {1 / grid**2:.2f}; "
            f"largest value in the right cell: {int(hits.sum())} of {len(hits)}"
        )
    elif scored.any():
        story.append(
            f"the centre lies on the object in {figure(centre)} of the samples, a random point in {figure(chance)}"
        )
    if unscored:
        notes.append(f"{unscored} of {len(found)} samples have no box or mask left in the picture, and are not scored.")
    if flat:
        notes.append(f"{flat} maps are constant: they point nowhere, and count as misses.")
    if len(found) < len(samples):
        notes.append(f"Stopped as soon as the verdict was certain: after {len(found)} of {len(samples)} samples.")
    full_story = (*story, *notes)
    missing = ("the samples have no boxes or masks: give Samples boxes= or masks=, or use the grid pointing game",)
    in_grid = ("not measured: pass grid=2 to play the grid pointing game",)
    box = not grid and bool(scored.any())
    nothing_scored = np.zeros(0)
    cells = grid * grid if grid else 1
    return SaliencyMeasurement(
        kind="saliency",
        title="Grid pointing game" if grid else "Where the model looks",
        settings={
            **described,
            "target": "label" if target is None else str(target),
            **({"grid": f"{grid}×{grid}"} if grid else {}),
        },
        ids=samples[found.positions].ids,
        per_sample=found.columns,
        cost=cost,
        notes=(f"{story[-1][0].upper()}{story[-1][1:]}.", *notes),
        exhibits=_exhibits(found),
        pointing_game=share(
            hits if box else nothing_scored.astype(bool),
            name="pointing game",
            story=full_story if box else missing,
            help="Share of maps whose largest value lies on the object.",
        ),
        energy_in_box=mean(
            energy if box else nothing_scored,
            name="energy in box",
            story=full_story if box else missing,
            help="Mean share of the map that lies on the object.",
        ),
        grid_pointing_game=mean(
            energy if grid else nothing_scored,
            name="grid pointing game",
            groups=found.positions[scored] // cells,
            story=full_story if grid else in_grid,
            help="Mean share of a class's map that lies in the cell of its image.",
        ),
        centre_point=Metric(
            np.nan if grid else centre,
            name="always the centre",
            n=0 if grid else len(area),
            bounds=(0, 1),
            help="The pointing game of a map that always points at the image's centre.",
        ),
        chance=Metric(
            chance, name="chance", n=len(area), bounds=(0, 1), help="What a random point, or an even map, scores."
        ),
    )


def _exhibits(found: Part) -> tuple[Exhibit, ...]:
    texts = {
        "worst": (
            "Least on the object",
            "Samples whose map has the smallest share inside the outline, the smallest first.",
        ),
        "best": ("Most on the object", "For comparison, the largest first."),
    }
    return tuple(
        Exhibit(*texts[name], rows=kept.shown, columns=("image", "map", "overlay")) for name, kept in found.kept.items()
    )
