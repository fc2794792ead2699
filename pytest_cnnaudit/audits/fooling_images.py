"""Can noise be made to look like a class with certainty?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.audits.starts import Size, channels_of, image_size
from pytest_cnnaudit.audits.targets import Target, TargetLike, check_targets, named_targets
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.fooling import fooling_images
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Cost, Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import mean, share

CLASSES = 10  # of a model with more, so many are drawn
_SHOWN = 24
_MARGIN = 0.01  # of the doubt: what the model for many passes has rounded must not be taken back by the one as given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FoolingImagesMeasurement(Measurement):
    """What a model sees in noise. `ids` are pairs of a noise and a class. `per_sample`: noise_prediction,
    noise_confidence and noise_certain (of the noise as it is), confidence (in the class, after the steps), certain
    (whether it reaches what was asked for), change (L∞). All are what the model as given says of the image in a pass of
    its own.

    Attributes:
        certain: the share of the pairs in which the class was reached with certainty.
        confidence: the mean confidence in the class.
        noise_certain: the share of the noises of which the model is certain as they are, whatever it sees.
    """

    certain: Metric
    confidence: Metric
    noise_certain: Metric


def measure_fooling_images(
    model: AuditModel,
    samples: Samples | None,
    engine: Engine,
    *,
    classes: TargetLike | Iterable[TargetLike] | None = None,
    noises: int = 3,
    confidence: float = 0.99,
    eps: float | None = 8 / 255,
    steps: int = 40,
    size: int | Size | None = None,
    at_most: float | None = None,
) -> FoolingImagesMeasurement:
    """Uniform noise, and what a few steps up the gradient make of it for each class; see `fooling_images`.

    Args:
        samples: for the size alone; may be None.
        classes: by number or name; ten, drawn from all, where None.
        noises: how many different noises; each is tried for each class.
        confidence: the softmax probability that is certainty.
        eps: the most that a pixel may change (L∞), so that it stays noise; None for no such limit.
        steps: at most, a forward and a backward pass each.
        size: a side or (height, width); the model's `input_size` or that of the samples where None.
        at_most: a share; stop as soon as more pairs than that are certain.

    Raises:
        AuditError: there is no such class, a limit does not do, or the size is not known.
    """
    _check(noises, confidence, eps, steps)
    height, width = image_size(model, samples, size)
    channels = channels_of(model, samples)

    def noise(number: int) -> Tensor:
        generator = torch.Generator().manual_seed(engine.draw_seed(f"noise {number}"))
        return torch.rand(channels, height, width, generator=generator)

    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        targets = _classes(model, borrowed, engine, noise(0).to(engine.device), classes)
        pairs = Samples(
            lambda place: (noise(place // len(targets)), targets[place % len(targets)].channel, None, None),
            [f"noise {number} as {target.name}" for number in range(noises) for target in targets],
            source="uniform noise",
            workers=0,
        )
        step = _Step(model, borrowed, len(targets), confidence, eps, steps)

        def decided(found: Part) -> bool:
            return at_most is not None and int(found["certain"].sum()) / len(pairs) > at_most

        found = engine.measure(pairs, step, title="fooling images", decided=decided)
        cost = borrowed.cost
    limits = {
        "noises": str(noises),
        "classes": str(len(targets)),
        "confidence": f"{confidence:g}",
        "eps": "none" if eps is None else f"{eps * 255:.3g}/255",
        "steps": str(steps),
        "size": f"{height}×{width}",
        "seed": str(engine.seed),
    }
    stopped = len(found) < len(pairs)
    return _measurement(model, pairs, found, limits, cost, len(targets), stopped=stopped)


def _check(noises: int, confidence: float, eps: float | None, steps: int) -> None:
    for name, value, holds, wanted in (
        ("noises", noises, isinstance(noises, int) and noises >= 1, "a number of noises, 1 or more"),
        ("confidence", confidence, 0 < confidence < 1, "a probability between 0 and 1"),
        ("eps", eps, eps is None or eps > 0, "a radius in pixel units, for example 8 / 255, or None for no limit"),
        ("steps", steps, isinstance(steps, int) and steps >= 1, "a number of steps, 1 or more"),
    ):
        if not holds:
            raise AuditError(f"{name}={value!r} does not do for fooling images; give {wanted}.")


def _classes(
    model: AuditModel,
    borrowed: BorrowedModel,
    engine: Engine,
    image: Tensor,
    wanted: TargetLike | Iterable[TargetLike] | None,
) -> tuple[Target, ...]:
    if wanted is None:
        with fitting(model, image[None]), torch.no_grad():
            count = borrowed(image[None]).shape[1]
        drawn = np.random.default_rng(engine.draw_seed("classes")).permutation(count)[:CLASSES]
        return named_targets(model, sorted(drawn.tolist()))
    targets = named_targets(model, wanted)
    for target in targets:
        if target.layer is not None:
            raise AuditError(f"The target {target.name!r} is not a class; fooling images are made for classes.")
    check_targets(model, borrowed, targets, image)
    return targets


@dataclass(frozen=True, slots=True)
class _Step:
    """Makes the fooling images of one batch of pairs."""

    model: AuditModel
    borrowed: BorrowedModel
    classes: int
    confidence: float
    eps: float | None
    steps: int

    def __call__(self, batch: Batch) -> Part:
        made = fooling_images(
            self.borrowed.fast(batch.images),
            batch.images,
            batch.labels,
            confidence=self.confidence + _MARGIN * (1 - self.confidence),
            eps=self.eps,
            steps=self.steps,
        )
        # Pairs with one noise follow each other, so each noise of a batch takes one pass.
        _, first, of_pair = np.unique(batch.positions // self.classes, return_index=True, return_inverse=True)
        with torch.no_grad():
            noises = self.borrowed(batch.images[first.tolist()]).softmax(1)
            noise_confidence, noise_prediction = noises[of_pair.tolist()].max(1)
            reached = self.borrowed(made).softmax(1).gather(1, batch.labels[:, None])[:, 0]
        columns = {
            "noise_prediction": noise_prediction,
            "noise_confidence": noise_confidence,
            "noise_certain": noise_confidence >= self.confidence,
            "confidence": reached,
            "certain": reached >= self.confidence,
            "change": (made - batch.images).abs().flatten(1).amax(1),
        }
        found = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})
        everything = np.ones(len(batch), bool)

        def draw(i: int) -> Row:
            return self._row(batch, found, made, i)

        surest = Kept.lowest(_SHOWN, everything, -found["confidence"], batch.positions, draw)
        return Part(found.positions, found.columns, {"surest": surest})

    def _row(self, batch: Batch, found: Part, made: Tensor, i: int) -> Row:
        name = batch.samples[i].id
        said = f"{self.model.class_name(int(found['noise_prediction'][i]))} {found['noise_confidence'][i]:.2f}"
        says = f"{self.model.class_name(batch.samples[i].label)} {found['confidence'][i]:.2f}"
        change = made[i] - batch.images[i]
        shown = (
            Picture(pictures.image(batch.images[i]), said, f"{name}, the noise", "numbers"),
            Picture(pictures.image(made[i]), says, f"{name}, after the steps", "numbers"),
            Picture(pictures.difference(change), "", f"{name}, difference"),
            Picture(pictures.difference(change, 10), "", f"{name}, difference ten times enlarged"),
        )
        largest = f"{float(found['change'][i]) * 255:.3g}/255"
        return Row(name, shown, "certain" if found["certain"][i] else "", {"largest change": largest})


def _measurement(
    model: AuditModel,
    pairs: Samples,
    found: Part,
    limits: dict[str, str],
    cost: Cost,
    classes: int,
    *,
    stopped: bool,
) -> FoolingImagesMeasurement:
    first = np.unique(found.positions // classes, return_index=True)[1]  # of each noise
    noise = found["noise_confidence"][first]
    loudest = int(noise.argmax())
    seen = model.class_name(int(found["noise_prediction"][first][loudest]))
    story = (
        ", ".join(f"{name} {value}" for name, value in limits.items()),
        f"of noise as it is, the model is surest that it shows {seen} ({figure(noise[loudest])})",
    )
    notes = ("More steps, or another search, may reach what these did not.",)
    if stopped:
        notes = (f"Stopped as soon as the verdict was certain: after {len(found)} of {len(pairs)} pairs.",)
    return FoolingImagesMeasurement(
        kind="fooling_images",
        title="Noise that is called a class",
        settings=limits,
        ids=pairs[found.positions].ids,
        per_sample=found.columns,
        complete=not stopped,
        cost=cost,
        notes=notes,
        exhibits=(
            Exhibit(
                "Fooling images",
                "Uniform noise, and what steps up the gradient of a class made of it, the surest first. A person sees "
                "noise in both.",
                found.kept["surest"].shown,
                columns=("noise", "fooling image", "difference", "10× difference"),
            ),
        ),
        certain=share(
            found["certain"],
            name="certain of noise",
            of="pair",
            higher_is_better=False,
            story=(*story, *notes),
            help=f"Share of noises and classes where the confidence came to {limits['confidence']} or more.",
            column="certain",
        ),
        confidence=mean(
            found["confidence"],
            name="confidence in noise",
            groups=found.positions // classes,
            higher_is_better=False,
            help="Mean softmax probability of the class that the noise was changed towards.",
            column="confidence",
        ),
        noise_certain=share(
            found["noise_certain"][first],
            name="certain of noise as it is",
            of="noise",
            higher_is_better=False,
            story=story,
            help=f"Share of noises, unchanged, in which some class is seen with {limits['confidence']} or more.",
        ),
    )
