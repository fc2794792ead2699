"""One batch of a saliency audit: explained, scored, and drawn where it is worth showing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import Clean, classify
from pytest_cnnaudit.audits.every_sample import Told, in_turn, with_tiles
from pytest_cnnaudit.audits.explainer import Explainer, Target, explained
from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.engine import Kept, Part
from pytest_cnnaudit.lenses.box_accuracy import (
    Boxes,
    best_overlap,
    box_around,
    box_overlaps,
    centred_map,
    largest_boxes,
)
from pytest_cnnaudit.lenses.localization import energy_in_region, pointing_game, widened
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Form, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Sample

_SHOWN = 12
_COARSE = 7  # cells a side of the random map: as coarse as the last map of many networks


@dataclass(frozen=True, slots=True)
class SaliencyStep:
    """Explains a batch and scores its maps.

    Attributes:
        model: for names.
        borrowed: the model that is explained.
        explains: the method.
        target: the class that is explained.
        in_grid: whether the samples are the cells of grids.
        tolerance: of the pointing game, in pixels.
    """

    model: AuditModel
    borrowed: BorrowedModel
    explains: Explainer
    target: Target
    in_grid: bool
    tolerance: float

    def __call__(self, batch: Batch) -> Part:
        clean = None if self.in_grid else classify(self.model, self.borrowed, batch)
        targets = batch.labels if clean is None else explained(self.target, batch, clean)
        maps = self.explains.maps(batch, targets)
        regions = torch.stack([_region(sample) for sample in batch.samples])
        near = widened(regions, self.tolerance)
        height, width = regions.shape[1:]
        columns = {
            "scored": regions.flatten(1).any(1),
            "hit": pointing_game(maps, near.to(maps.device)),
            "energy": energy_in_region(maps, regions.to(maps.device)),
            "area": regions.flatten(1).double().mean(1),
            "near": near.flatten(1).double().mean(1),
            "centre": near[:, height // 2, width // 2],
            "flat": maps.flatten(1).amax(1) == maps.flatten(1).amin(1),
            "correct": torch.ones(len(batch)) > 0 if clean is None else clean.prediction == batch.labels,
        }
        found = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})
        if not self.in_grid:
            found = self._beside_boxes(batch, found, maps, regions)
        found = Part(found.positions, found.columns, self._rows(batch, found, maps, regions, targets))
        return self._with_tiles(batch, found, regions, clean)

    def _with_tiles(self, batch: Batch, found: Part, regions: Tensor, clean: Clean | None) -> Part:
        """The same findings with a tile for each sample, the misses first; of a grid, what is in its cell."""
        hit, energy, scored = found["hit"], found["energy"], found["scored"]
        said = [] if clean is None else zip(clean.prediction.tolist(), clean.confidence.tolist(), strict=True)
        predictions = [f"{self.model.class_name(prediction)} {confidence:.2f}" for prediction, confidence in said]

        def tell(i: int) -> Told:
            figures = {"label": self.model.class_name(batch.samples[i].label)}
            if predictions:
                figures["prediction"] = predictions[i]
            if not scored[i]:
                return "", figures
            return "hit" if hit[i] else "miss", {**figures, self._energy: figure(energy[i])}

        rank = in_turn((scored & ~hit, energy), (scored & hit, energy))
        return with_tiles(found, batch, rank, tell, images=_cells(batch.images, regions) if self.in_grid else None)

    @property
    def _energy(self) -> str:
        return f"energy in {'cell' if self.in_grid else 'box'}"

    def _beside_boxes(self, batch: Batch, found: Part, maps: Tensor, regions: Tensor) -> Part:
        """What boxes around the maps, around one of the centre and around random ones share with the object's."""
        truths = [_boxes(sample, region) for sample, region in zip(batch.samples, regions, strict=True)]
        height, width = regions.shape[1:]
        seeds = torch.tensor([self.explains.engine.draw_seed(f"random map\0{sample.id}") for sample in batch.samples])
        coarse = draw(seeds, torch.zeros_like(seeds), _COARSE**2).view(-1, 1, _COARSE, _COARSE)
        noise = interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[:, 0]
        centred = centred_map(height, width)
        middle = largest_boxes(centred)
        energy = energy_in_region(torch.from_numpy(centred).expand(len(batch), -1, -1), regions)
        more = {
            "map_overlaps": box_overlaps(maps.cpu().numpy(), truths),
            "centre_overlaps": np.stack([best_overlap(middle, truth) for truth in truths]),
            "random_overlaps": box_overlaps(noise.numpy(), truths),
            "centre_energy": energy.numpy(),
        }
        return Part(found.positions, {**found.columns, **more})

    def _rows(self, batch: Batch, found: Part, maps: Tensor, regions: Tensor, targets: Tensor) -> dict[str, Kept]:
        """The samples with the least energy on the object, and those with the most."""

        def row(i: int) -> Row:
            return self._row(batch, found, maps, regions, targets, i)

        scored, energy = found["scored"], found["energy"]
        return {
            "worst": Kept.lowest(_SHOWN, scored, energy, batch.positions, row),
            "best": Kept.lowest(_SHOWN // 3, scored, -energy, batch.positions, row),
        }

    def _row(self, batch: Batch, found: Part, maps: Tensor, regions: Tensor, targets: Tensor, i: int) -> Row:
        sample, name = batch.samples[i], self.model.class_name(int(targets[i]))
        picture, heated = pictures.image(batch.images[i]), pictures.heat(maps[i])
        shown = [pictures.outlined(each, regions[i]) for each in (picture, heated, pictures.overlay(picture, heated))]
        captions = (f"looking for {name}", "", "")
        alts = (f"{sample.id}", f"map of {name} in {sample.id}", f"map of {name} over {sample.id}")
        figures = {self._energy: figure(found["energy"][i])}
        status = "hit" if found["hit"][i] else "miss"
        forms: tuple[Form, ...] = ("numbers", pictures.form(heated), pictures.form(heated))
        return Row(sample.id, tuple(map(Picture, shown, captions, alts, forms)), status, figures)


def _cells(images: Tensor, regions: Tensor) -> Tensor:
    """What lies in the regions H×W of images N×C×H×W, rectangles of one size: N×C×h×w."""
    inside = [image[:, region] for image, region in zip(images, regions.to(images.device), strict=True)]
    return torch.stack(inside).view(*images.shape[:2], -1, int(regions[0].any(0).sum()))


def _region(sample: Sample) -> Tensor:
    known = sample.region()
    return torch.zeros(sample.image.shape[1:], dtype=torch.bool) if known is None else known


def _boxes(sample: Sample, region: Tensor) -> Boxes:
    """The sample's boxes inside the image, B×4; the one around its mask where it has none."""
    if sample.boxes is None or sample.mask is not None:
        return box_around(region.numpy())
    height, width = sample.image.shape[1:]
    boxes = np.clip(np.array(sample.boxes, dtype=np.float64).reshape(-1, 4), 0, (width, height, width, height))
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
