"""Are images that the network finds alike of one kind? Nearest neighbours in feature space and in pixel space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.audits.every_sample import TILES, Told, are_shown, every_sample, with_tiles
from pytest_cnnaudit.audits.neighbour_rows import Agreement, neighbour_exhibits, weakest_label
from pytest_cnnaudit.audits.tapped import named_layers
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.features import features_from, features_into, last_linear
from pytest_cnnaudit.lenses.neighbours import (
    Nearest,
    Points,
    block_size,
    check_neighbours,
    directions,
    nearest_neighbours,
)
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.model.layers import last_feature_layer
from pytest_cnnaudit.results import Cost, Exhibit, Measurement, Metric, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import mean

_IMAGES = 2**29  # bytes of images in memory; of a larger set, blocks are loaded again


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NeighbourMeasurement(Measurement):
    """How many of the nearest neighbours of a sample carry its label, in feature space and in pixel space.

    `per_sample`: feature, cosine and pixel (the share of the sample's neighbours that carry its label), label, scored
    (whether any other sample carries it; the metrics are over these).

    Attributes:
        feature_agreement: mean share, by Euclidean distance of the features.
        cosine_agreement: the same by the angle between features.
        pixel_agreement: the same by Euclidean distance of the images.
        chance: what neighbours drawn at random would agree.
        best: the largest agreement there can be; below 1 where samples have fewer than k others of their label.
        gain: feature agreement less pixel agreement, over the same samples.
        nearest: the neighbours, by ``"feature"``, ``"cosine"`` and ``"pixel"``; positions as in `ids`.
    """

    feature_agreement: Metric
    cosine_agreement: Metric
    pixel_agreement: Metric
    chance: Metric
    gain: Metric
    best: float
    nearest: Mapping[str, Nearest]


def measure_neighbours(
    model: AuditModel, samples: Samples, engine: Engine, *, layer: str | None = None, k: int = 5
) -> NeighbourMeasurement:
    """The `k` nearest neighbours of each sample among all others, in feature space and in pixel space.

    Krizhevsky et al. 2012, "ImageNet Classification with Deep CNNs", section 6.1 and figure 4 (right): images whose
    features are close together are alike in meaning, though not in their pixels. The features take one pass over the
    samples and stay in memory. Images do not: beyond half a GiB they are loaded again, block by block.

    Args:
        layer: whose output the features are, its maps averaged over positions; where None, what goes into the
            classifier, or, if that is no `nn.Linear`, the last layer with a map.
        k: neighbours of each sample.

    Raises:
        AuditError: there is no such layer, it does not run exactly once, or it returns no maps or vectors; or there are
            too few samples.
    """
    check_neighbours(k, len(samples))
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        step = _step(model, borrowed, samples[0].image.to(engine.device), layer)
        found = engine.measure(samples, step, title="features")
        cost = borrowed.cost
    features = found["features"]
    nearest = {
        "feature": _nearest(features, k, engine),
        "cosine": _nearest(features, k, engine, unit=True),
        "pixel": _nearest_images(samples, k, engine),
    }
    agreement = Agreement.of(found["label"], nearest)
    return _measurement(model, samples, engine, agreement, features, described=step.described, cost=cost)


@dataclass(frozen=True, slots=True)
class _Step:
    """One pass of a batch, no further than where the features are.

    Attributes:
        name: of the layer.
        before: whether the features are what goes into it, and not what comes out.
    """

    model: AuditModel
    borrowed: BorrowedModel
    name: str
    layer: nn.Module
    before: bool

    @property
    def described(self) -> str:
        return f"input of {self.name}" if self.before else self.name

    def __call__(self, batch: Batch) -> Part:
        read = features_into if self.before else features_from
        with fitting(self.model, batch.images):
            features = read(self.borrowed.reordered(batch.images), batch.images, self.layer, self.name).cpu()
        finite = features.isfinite().all(1)
        if not finite.all():
            first = batch.samples[int((~finite).nonzero()[0])].id
            raise AuditError(
                f"The features of {first} ({self.described}) are NaN or infinite. Check the model's weights, and the "
                "mean and std given to AuditModel."
            )
        labels = np.array([sample.label for sample in batch.samples])
        return Part(batch.positions, {"features": features.numpy(), "label": labels})


def _step(model: AuditModel, borrowed: BorrowedModel, image: Tensor, layer: str | None) -> _Step:
    """Where the features are; `image` C×H×W goes through the model once or twice to find out."""
    if layer is not None:
        return _Step(model, borrowed, layer, named_layers(model, borrowed, image, layer)[layer], before=False)
    with fitting(model, image[None]):
        name = last_linear(borrowed, image[None])
        if name is not None:
            return _Step(model, borrowed, name, model.module.get_submodule(name), before=True)
        name = last_feature_layer(borrowed, image[None])
    return _Step(model, borrowed, name, model.layer(name), before=False)


def _nearest(features: Points, k: int, engine: Engine, *, unit: bool = False) -> Nearest:
    def load(begin: int, end: int) -> Points:
        return directions(features[begin:end]) if unit else features[begin:end]

    at_once = block_size(features.shape[1] + unit, 8, _IMAGES)
    return nearest_neighbours(load, len(features), k, at_once=at_once, device=engine.device, unit=unit)


def _nearest_images(samples: Samples, k: int, engine: Engine) -> Nearest:
    """By Euclidean distance of the pixels; images are held for two blocks at most."""
    first = samples[0].image
    width, count = first.numel(), len(samples)
    at_once = block_size(width, first.element_size(), _IMAGES)
    loads = sum(count - begin for begin in range(0, count, at_once))
    with tqdm(total=loads, desc="pixel neighbours", unit="img", disable=None, delay=2, leave=False) as progress:

        def load(begin: int, end: int) -> Points:
            images = np.empty((end - begin, width), first.new_empty(0).numpy().dtype)
            for row, sample in zip(images, samples[begin:end], strict=True):
                row[:] = sample.image.flatten().numpy()
            progress.update(end - begin)
            return images

        return nearest_neighbours(load, count, k, at_once=at_once, device=engine.device)


def _measurement(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    found: Agreement,
    features: Points,
    *,
    described: str,
    cost: Cost,
) -> NeighbourMeasurement:
    n, k = found.nearest["feature"].positions.shape
    scored = found.scored
    peers, shares = found.peers[scored], {space: each[scored] for space, each in found.shares.items()}
    chance, best = np.nan, np.nan
    story = [f"features: {described}, {features.shape[1]} numbers; k {k}, {n} samples of {samples.source}"]
    if len(peers):
        chance, best = float(peers.mean() / (n - 1)), float(np.minimum(peers / k, 1).mean())
        story += [f"pixels agree {figure(shares['pixel'].mean())}, chance {figure(chance)}"]
        story += weakest_label(model, found)
    notes = _notes(found, k, best, features)
    story += notes

    def agreement(space: str, name: str, help: str) -> Metric:
        return mean(shares[space], name=name, story=tuple(story), help=help, column=f"{space}_agreement")

    columns = {f"{space}_agreement": np.where(scored, each, np.nan) for space, each in found.shares.items()}
    columns["gain"] = columns["feature_agreement"] - columns["pixel_agreement"]
    return NeighbourMeasurement(
        kind="neighbours",
        title="Nearest neighbours",
        settings={"features": described, "k": str(k)},
        ids=samples.ids,
        per_sample={**found.shares, **columns, "label": found.labels, "scored": scored},
        cost=cost,
        notes=notes,
        exhibits=(*neighbour_exhibits(model, samples, found), *_every_sample(model, samples, engine, found)),
        feature_agreement=agreement(
            "feature",
            "feature agreement",
            f"Mean share of the {k} samples nearest in feature space (L2) that carry the sample's label.",
        ),
        cosine_agreement=agreement(
            "cosine",
            "feature agreement (cosine)",
            "The same, by the angle between features; their length plays no part.",
        ),
        pixel_agreement=agreement("pixel", "pixel agreement", "The same, by the L2 distance of the pixels."),
        chance=Metric(
            chance,
            name="chance",
            n=len(peers),
            bounds=(0, 1),
            help="What neighbours drawn at random would agree.",
        ),
        gain=mean(
            shares["feature"] - shares["pixel"],
            name="gain over pixels",
            story=tuple(story),
            bounds=(-1, 1),
            help="Feature agreement less pixel agreement, sample by sample.",
            column="gain",
        ),
        best=best,
        nearest=found.nearest,
    )


def _every_sample(model: AuditModel, samples: Samples, engine: Engine, found: Agreement) -> tuple[Exhibit, ...]:
    """A tile for each sample, those that agree least with their neighbours first; their images are loaded again."""
    nearest, shares = found.nearest["feature"], found.shares
    k = nearest.positions.shape[1]
    rank = np.where(found.scored, shares["feature"], np.inf)
    worst = np.sort(np.argsort(rank, kind="stable")[:TILES])
    if not found.scored.any() or not are_shown(len(worst)):
        return ()

    def step(batch: Batch) -> Part:
        places = worst[batch.positions]

        def tell(i: int) -> Told:
            place = places[i]
            figures = {"label": model.class_name(int(found.labels[place]))}
            if not found.scored[place]:
                return "", figures
            figures |= {
                f"{space}s agree": f"{round(shares[space][place] * k)} of {k}" for space in ("feature", "pixel")
            }
            return "hit" if found.labels[nearest.positions[place, 0]] == found.labels[place] else "miss", figures

        return with_tiles(Part(batch.positions, {}), batch, rank[places], tell)

    return every_sample(engine.measure(samples[worst], step, title="every sample"), len(samples))


def _notes(found: Agreement, k: int, best: float, features: Points) -> tuple[str, ...]:
    notes = []
    n, alone = len(found.peers), int((~found.scored).sum())
    if alone:
        notes.append(f"{alone} of {n} samples are the only ones of their label, and are not scored.")
    if best < 1:
        few = int((found.peers[found.scored] < k).sum())
        notes.append(
            f"{few} of {n} samples have fewer than {k} others of their label: agreement is at most {figure(best)}."
        )
    if (features == features[0]).all():
        notes.append("The features of all samples are the same: neighbours follow from the order of the samples alone.")
    elif not features.any(1).all():
        notes.append(f"{int((~features.any(1)).sum())} of {n} samples have features that are all zero.")
    return tuple(notes)
