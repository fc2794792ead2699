"""What does the model want to see? Images made for a class, a channel or a neuron."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.starts import Size, centre_colour, channels_of, image_size, mean_images
from pytest_cnnaudit.audits.tapped import fast_layer
from pytest_cnnaudit.audits.targets import Target, TargetLike, check_targets, named_targets
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.ascent import ascend, start_images
from pytest_cnnaudit.lenses.objectives import Objective, Position, channel_objective, class_objective
from pytest_cnnaudit.lenses.recipes import Recipe, recipe_of
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Chart, Cost, Exhibit, Line, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import share

_LINES = 6  # more of them in one chart are not told apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class VisualizeMeasurement(Measurement):
    """The images that were made, and what the model as given says of each in a pass of its own.

    `ids` are the targets. `per_sample`: score (a logit, or what the channel or neuron answers), confidence (the
    softmax probability of a class; NaN for channels and neurons), prediction, trace (the score before each step, of the
    image as it was moved about).

    Attributes:
        images: N×C×H×W in [0, 1], one for each target.
        score: the lowest.
        confidence: the lowest among the classes.
        reached: the share of the classes as which their image is seen.
    """

    images: NDArray[np.float32]
    score: Metric
    confidence: Metric
    reached: Metric


def measure_visualize(
    model: AuditModel,
    samples: Samples | None,
    engine: Engine,
    *,
    target: TargetLike | Iterable[TargetLike],
    recipe: str | Recipe | None = None,
    start: str | Tensor | None = None,
    size: int | Size | None = None,
    settings: Mapping[str, Any],
) -> VisualizeMeasurement:
    """Images made by gradient ascent, I* = argmax f(I) + R(I); see `ascend` and `Recipe`.

    Args:
        samples: for the size, and for ``start="mean"``; may be None.
        target: a class by number or name, ``("layer", channel)``, ``("layer", channel, (row, column))``, or a list of
            these, which then share their passes.
        recipe: ``"olah"``, ``"simonyan"``, ``"yosinski"``, ``"nguyen"``, ``"plain"``, or a `Recipe`; where None,
            ``"olah"``, with smaller moves for single neurons.
        start: ``"noise"``, ``"zero"``, ``"mean"`` (of the class's samples, where it has some), or an image C×H×W, or
            one for each target; the recipe's where None.
        size: of the images, where `start` is not one: a side or (height, width); the model's `input_size` or that of
            the samples where None.
        settings: of the recipe, changed.

    Raises:
        AuditError: there is no such target, recipe or setting, or the size is not known.
    """
    targets = named_targets(model, target)
    changed = {**settings, **({"start": start} if isinstance(start, str) else {})}
    recipes = [recipe_of(recipe or ("olah" if each.position is None else "olah-neuron"), changed) for each in targets]
    given = _given(start, len(targets)) if isinstance(start, Tensor) else None
    if start is not None and not isinstance(start, str | Tensor):
        raise AuditError(
            f"start is a {type(start).__name__}; give 'noise', 'zero', 'mean', or a tensor of images in [0, 1]."
        )
    size = image_size(model, samples, size) if given is None else (given.shape[2], given.shape[3])
    centre = centre_colour(model, channels_of(model, samples) if given is None else given.shape[1], engine.device)
    seed = engine.draw_seed()
    if given is None:
        given = _starts(targets, recipes, samples, engine, size, centre.cpu(), seed)
    begun = Samples(
        lambda position: (given[position], 0, None, None),
        [each.name for each in targets],
        source="the targets of gradient ascent",
        workers=0,
    )
    with model.borrow(engine.device, seed=seed) as borrowed:
        check_targets(model, borrowed, targets, given[0].to(engine.device))
        step = _Step(model, borrowed, targets, tuple(recipes), centre, seed)
        found = engine.measure(begun, step, title="visualize")
        cost = borrowed.cost
    words = _words(recipes)
    if isinstance(start, Tensor):
        words["start"] = "as given"
    return _measurement(model, targets, words, found, cost, engine.seed)


def _words(recipes: Sequence[Recipe]) -> dict[str, str]:
    """The settings that are not off; where single neurons have others than the rest, both."""
    words: dict[str, str] = {}
    for recipe in dict.fromkeys(recipes):
        for name, value in recipe.words().items():
            words[name] = value if words.get(name, value) == value else f"{words[name]} or {value}"
    return words


def _given(start: Tensor, count: int) -> Tensor:
    images = start.detach()[None] if start.ndim == 3 else start.detach()
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.ndim != 4 or len(images) not in (1, count):
        raise AuditError(
            f"start is a tensor of {tuple(start.shape)}; give one image C×H×W, or one for each of the {count} targets."
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise AuditError(
            f"start has values from {float(images.min()):.3g} to {float(images.max()):.3g}; images are in [0, 1]."
        )
    return images.expand(count, -1, -1, -1).cpu().clone()


def _starts(
    targets: Sequence[Target],
    recipes: Sequence[Recipe],
    samples: Samples | None,
    engine: Engine,
    size: Size,
    centre: Tensor,
    seed: int,
) -> Tensor:
    """Where each target starts; a batch of equal ones but for means."""
    if recipes[0].start == "mean":
        labels = [target.channel if target.layer is None else None for target in targets]
        return mean_images(samples, engine, labels, size, title="visualize")
    return torch.cat(
        [start_images(recipe.start, 1, size, recipe=recipe, centre=centre, seed=seed) for recipe in recipes]
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Makes the images of a batch of targets, those of one layer together."""

    model: AuditModel
    borrowed: BorrowedModel
    targets: tuple[Target, ...]
    recipes: tuple[Recipe, ...]
    centre: Tensor
    seed: int

    def __call__(self, batch: Batch) -> Part:
        places = batch.positions.tolist()
        groups: dict[tuple[str | None, Recipe], list[int]] = defaultdict(list)
        for row, place in enumerate(places):
            groups[self.targets[place].layer, self.recipes[place]].append(row)
        images = torch.empty_like(batch.images)
        trace = batch.images.new_empty(len(batch), self.recipes[0].steps)
        score = batch.images.new_empty(len(batch))
        for (layer, recipe), rows in groups.items():
            wanted = [self.targets[places[row]] for row in rows]
            start = batch.images[rows]
            objective = self._fast_objective(start, layer, wanted)
            made = ascend(objective, start, recipe=recipe, centre=self.centre, seed=self.seed)
            images[rows], trace[rows] = made.images, made.scores.to(trace)
            if layer is not None:
                with torch.no_grad():
                    own = channel_objective(self.borrowed, self.model.layer(layer), *_channels(wanted))
                    score[rows] = own(made.images).to(score)
        with torch.no_grad():
            logits = self.borrowed(images)
        of_classes = [row for row, place in enumerate(places) if self.targets[place].layer is None]
        classes = [self.targets[places[row]].channel for row in of_classes]
        score[of_classes] = logits[of_classes, classes].to(score)
        confidence = torch.full_like(score, torch.nan)
        confidence[of_classes] = logits.softmax(1)[of_classes, classes].to(score)
        columns = {
            "image": images,
            "score": score,
            "confidence": confidence,
            "prediction": logits.argmax(1),
            "trace": trace,
        }
        return Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})

    def _fast_objective(self, start: Tensor, layer: str | None, wanted: Sequence[Target]) -> Objective:
        if layer is None:
            fast = self.borrowed.fast(start)
            return class_objective(fast, torch.tensor([target.channel for target in wanted], device=fast.device))
        fast, part = fast_layer(self.borrowed, start, layer)
        return channel_objective(fast, part, *_channels(wanted))


def _channels(wanted: Sequence[Target]) -> tuple[list[int], list[Position | None]]:
    return [target.channel for target in wanted], [target.position for target in wanted]


def _measurement(
    model: AuditModel,
    targets: Sequence[Target],
    words: Mapping[str, str],
    found: Part,
    cost: Cost,
    seed: int,
) -> VisualizeMeasurement:
    score, confidence, prediction = found["score"], found["confidence"], found["prediction"]
    classes = np.array([target.layer is None for target in targets])
    reached = prediction[classes] == np.array([target.channel for target in targets])[classes]
    moved = np.ptp(np.column_stack([found["trace"], score]), axis=1) > 0
    still = [target.name for target, moves in zip(targets, moved, strict=True) if not moves]
    story = [", ".join(f"{name} {value}" for name, value in words.items()) + f", seed {seed}"]
    if len(targets) > 1:
        story.append(f"lowest: {targets[int(score.argmin())].name} ({figure(score.min())})")
    notes = []
    if still:
        notes.append(f"The score of {', '.join(still)} never moved: no gradient leads there, or what it asks is dead.")

    def lowest(values: NDArray[Any], name: str, text: str, *, of: str, top: float | None = None) -> Metric:
        return Metric(
            float(values.min()) if len(values) else np.nan,
            name=name,
            n=len(values),
            of=of,
            higher_is_better=True,
            bounds=None if top is None else (0, top),
            help=text,
            story=(*story, *notes),
        )

    return VisualizeMeasurement(
        kind="visualize",
        title="Images made by gradient ascent",
        settings={**words, "size": "×".join(map(str, found["image"].shape[2:])), "seed": str(seed)},
        ids=tuple(target.name for target in targets),
        per_sample={name: values for name, values in found.columns.items() if name != "image"},
        cost=cost,
        notes=tuple(notes),
        exhibits=(_grid(model, targets, found), *_chart(targets, found["trace"])),
        images=found["image"],
        score=lowest(score, "score", "Lowest final score: a logit, or the answer of the channel.", of="target"),
        confidence=lowest(
            confidence[classes], "confidence", "Lowest softmax probability of a class in its image.", of="class", top=1
        ),
        reached=share(
            reached,
            name="reached",
            of="class",
            story=(*story, *notes),
            help="Share of classes that their image is seen as.",
        ),
    )


def _grid(model: AuditModel, targets: Sequence[Target], found: Part) -> Exhibit:
    def tile(place: int) -> Row:
        target = targets[place]
        figures = {"score": figure(found["score"][place])}
        status = ""
        if target.layer is None:
            figures["confidence"] = figure(found["confidence"][place])
            seen = int(found["prediction"][place])
            status = "reached" if seen == target.channel else f"seen as {model.class_name(seen)}"
        pixels = pictures.image(torch.from_numpy(found["image"][place]))
        picture = Picture(pixels, alt=f"image made for {target.name}", form="numbers")
        return Row(target.name, (picture,), status, figures)

    return Exhibit(
        title="What the model wants to see",
        text="Each image was made by gradient ascent for the score of its target. Classes show objects and their "
        "parts, channels textures and patterns; grey noise is a target that stands for nothing visible.",
        rows=tuple(map(tile, range(len(targets)))),
        kind="grid",
    )


def _chart(targets: Sequence[Target], trace: NDArray[Any]) -> tuple[Chart, ...]:
    """The climb; none where targets of several layers have scores that do not compare."""
    if len({target.layer for target in targets}) > 1:
        return ()
    steps = np.arange(trace.shape[1])
    if len(targets) <= _LINES:
        lines = tuple(Line(target.name, steps, each) for target, each in zip(targets, trace, strict=True))
    else:
        lines = (Line("median", steps, np.median(trace, 0), trace.min(0), trace.max(0)),)
    band = "" if len(targets) <= _LINES else " The band goes from the lowest target to the highest."
    text = f"The score before each step, of the image as the recipe moved it about.{band}"
    return (Chart("The climb", text, "step", "score", lines),)
