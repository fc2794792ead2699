"""Does the model look at the object?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.audits.every_sample import are_shown, counted, every_sample
from pytest_cnnaudit.audits.explainer import Method, Target, explainer
from pytest_cnnaudit.audits.grids import confident_grids
from pytest_cnnaudit.audits.saliency_scores import NAMES, SCORES, Baseline, Score, Scored
from pytest_cnnaudit.audits.saliency_step import SaliencyStep
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Chart, Cost, Exhibit, Mark, Measurement, Metric, figure
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.statistics import is_decided, mean

__all__ = ["SCORES", "SaliencyMeasurement", "Score", "measure_saliency"]

_COLUMNS = ("hit", "energy", "area", "centre", "scored", "correct")
_BINS = 20
_BOXED: tuple[Score, ...] = SCORES[:4]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SaliencyMeasurement(Measurement):
    """Where the model looks. What needs boxes (or grids) is NaN where there were none.

    `per_sample`: hit, energy, area (of the object), centre (whether the image's centre lies on it), scored (whether the
    object's place is known), correct; with boxes also iou. For grids, `ids` are their cells.

    Attributes:
        pointing_game: share of maps whose largest value lies on the object, or within the tolerance of it.
        energy_in_box: mean share of the map that lies on the object.
        iou: mean overlap of the box around the map's largest part with the object's; see `lenses.box_accuracy`.
        max_box_acc: share of these boxes with an IoU of 0.5 or more.
        grid_pointing_game: mean share of the map that lies in the cell of its class.
        over_centre: the pointing game less that of the image's centre, sample by sample.
        centre_point: the pointing game of a map that always points at the image's centre.
        chance: that of a random point; in a grid, of an even map.
        baselines: by score, what the centre and chance score on the same samples.
    """

    pointing_game: Metric
    energy_in_box: Metric
    iou: Metric
    max_box_acc: Metric
    grid_pointing_game: Metric
    over_centre: Metric
    centre_point: Metric
    chance: Metric
    baselines: Mapping[str, Baseline]


def measure_saliency(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    method: Method = "grad_cam",
    target: Target = None,
    layer: str | None = None,
    grid: int | None = None,
    tolerance: float = 0,
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
        tolerance: pixels by which the largest value may miss the object in the pointing game; 15 in Zhang et al. 2016.
        at_least: a score and its threshold; stop as soon as it is certain whether it is reached.
        options: further keyword arguments of the method.
    """
    if grid is None and not samples.located:
        grid = 2
    _check(grid, target, tolerance)
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        if grid is not None:
            samples = confident_grids(model, borrowed, samples, engine, grid)
        image = samples[0].image.to(engine.device)
        explains = explainer(model, borrowed, engine, image, method=method, layer=layer, options=options)
        step = SaliencyStep(model, borrowed, explains, target, grid is not None, tolerance)
        n = len(samples)

        def decided(part: Part) -> bool:
            scored = part["scored"]
            if at_least is None or at_least[0] in ("iou", "max_box_acc") or not scored.any():
                return False  # the best threshold of a map may change with every sample
            values = part["hit" if at_least[0] == "pointing_game" else "energy"][scored]
            return is_decided(float(values.sum()), len(values), n - int((~scored).sum()), at_least[1])

        found = engine.measure(samples, step, title=f"saliency {explains.described['method']}", decided=decided)
        cost = borrowed.cost
    if not found["scored"].any():
        raise AuditError(
            f"None of the {len(found)} samples of {samples.source} has a box or mask that is not empty; check that the "
            "file names in the boxes file are those of the images."
        )
    described = {**explains.described, "target": "label" if target is None else str(target)}
    if tolerance:
        described["tolerance"] = f"{tolerance:g} px"
    if grid:
        return _of_grids(samples, found, grid, described, cost)
    return _of_boxes(samples, found, described, cost)


def _check(grid: int | None, target: Target, tolerance: float) -> None:
    if grid is not None and grid < 2:
        raise AuditError(f"grid={grid} is no grid; give 2 for 2×2 images or more.")
    if grid is not None and target is not None:
        raise AuditError(f"target={target!r} does not go with a grid: each cell is explained for its own class.")
    if tolerance < 0 or (tolerance and grid is not None):
        what = "it is for the pointing game with boxes or masks, not for grids" if grid else "give pixels, 0 or more"
        raise AuditError(f"tolerance={tolerance} does not do: {what}.")


def _of_boxes(samples: Samples, found: Part, described: Mapping[str, str], cost: Cost) -> SaliencyMeasurement:
    scored = Scored.of(found)
    story = (_words(described), *_notes(samples, found))
    beside: dict[str, Baseline] = {score: scored.baseline(score) for score in _BOXED}
    centre, chance = beside["pointing_game"]
    n = int(found["scored"].sum())
    centred = (
        f"The centre lies on the object in {100 * centre:.0f}% of the samples, a random point in {100 * chance:.0f}%."
    )
    metrics: dict[str, Any] = {score: scored.metric(score, story) for score in _BOXED}
    values: dict[str, NDArray[Any]] = {score: np.full(len(found), np.nan) for score in _BOXED}
    for score in _BOXED:
        values[score][found["scored"]] = scored.maps[score]
    return SaliencyMeasurement(
        kind="saliency",
        title="Where the model looks",
        settings=described,
        ids=samples[found.positions].ids,
        per_sample={**_columns(found), **values},
        cost=cost,
        notes=(centred, *_notes(samples, found)),
        complete=len(found) == len(samples),
        exhibits=(scored.table(), *_exhibits(found, samples, "box")),
        **metrics,
        grid_pointing_game=_missing("grid pointing game", "not measured: pass grid=2 to play the grid pointing game"),
        over_centre=scored.over_centre(story),
        centre_point=Metric(
            centre,
            name="always the centre",
            n=n,
            bounds=(0, 1),
            help="The pointing game of a map that always points at the image's centre.",
        ),
        chance=Metric(chance, name="chance", n=n, bounds=(0, 1), help="The pointing game of a point drawn at random."),
        baselines=beside,
    )


def _of_grids(
    samples: Samples, found: Part, grid: int, described: Mapping[str, str], cost: Cost
) -> SaliencyMeasurement:
    cells, hits = grid * grid, found["hit"]
    played = (
        f"{len(samples) // cells} grids of {grid}×{grid} confident images; chance {1 / cells:.2f}; "
        f"largest value in the right cell: {int(hits.sum())} of {len(hits)}"
    )
    notes = _notes(samples, found)
    why = "the samples have no boxes or masks: give Samples boxes= or masks=, or use the grid pointing game"
    named: dict[str, Any] = {score: _missing(NAMES[score], why) for score in _BOXED}
    return SaliencyMeasurement(
        kind="saliency",
        title="Grid pointing game",
        settings={**described, "grid": f"{grid}×{grid}"},
        ids=samples[found.positions].ids,
        per_sample=_columns(found),
        cost=cost,
        notes=(f"{played}.", *notes),
        complete=len(found) == len(samples),
        exhibits=_exhibits(found, samples, "cell"),
        **named,
        grid_pointing_game=mean(
            found["energy"],
            name="grid pointing game",
            groups=found.positions // cells,
            story=(_words(described), played, *notes),
            help="Mean share of a class's map that lies in the cell of its image.",
            column="energy",
        ),
        over_centre=_missing("over the centre", why),
        centre_point=_missing("always the centre", why),
        chance=Metric(
            1 / cells, name="chance", n=len(found), bounds=(0, 1), help="What a random point, or an even map, scores."
        ),
        baselines={"grid_pointing_game": Baseline(np.nan, 1 / cells)},
    )


def _columns(found: Part) -> dict[str, NDArray[Any]]:
    return {name: found[name] for name in _COLUMNS}


def _words(described: Mapping[str, str]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in described.items() if key not in ("target", "tolerance"))
    return "; ".join([settings, *(f"{key} {described[key]}" for key in ("target", "tolerance") if key in described)])


def _notes(samples: Samples, found: Part) -> tuple[str, ...]:
    unscored, flat = int((~found["scored"]).sum()), int(found["flat"].sum())
    notes = []
    if unscored:
        notes.append(f"{unscored} of {len(found)} samples have no box or mask left in the picture, and are not scored.")
    if flat:
        notes.append(f"{flat} maps are constant: they point nowhere, and count as misses.")
    if len(found) < len(samples):
        notes.append(f"Stopped as soon as the verdict was certain: after {len(found)} of {len(samples)} samples.")
    return tuple(notes)


def _missing(name: str, why: str) -> Metric:
    return Metric(np.nan, name=name, bounds=(0, 1), story=(why,))


def _exhibits(found: Part, samples: Samples, where: str) -> tuple[Exhibit | Chart, ...]:
    texts = {
        "worst": (
            "Least on the object",
            "Samples whose map has the smallest share inside the outline, the smallest first.",
        ),
        "best": ("Most on the object", "For comparison, the largest first."),
    }
    rows = [Exhibit(*texts[name], rows=found.kept[name].shown, columns=("image", "map", "overlay")) for name in texts]
    return (*rows, *_distribution(found, samples, where), *every_sample(found, len(samples)))


def _distribution(found: Part, samples: Samples, where: str) -> tuple[Chart, ...]:
    """How many samples have how much of their map where it should be."""
    scored = found["scored"]
    energy, places = found["energy"][scored], found.positions[scored]
    if not are_shown(len(energy)):
        return ()
    middle = float(np.median(energy))
    chart = Chart(
        f"Distribution of the energy in the {where}",
        f"How many samples have how much of their map inside the {where}.",
        f"energy in {where}",
        "samples",
        (counted(energy, np.linspace(0, 1, _BINS + 1), samples[places].ids),),
        x_marks=(Mark(middle, f"median {figure(middle)}"),),
    )
    return (chart,)
