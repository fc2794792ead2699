"""The grids of the grid pointing game, from the images a model is surest of."""

from __future__ import annotations

import torch

from pytest_cnnaudit.audits.classify import classify
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.engine.measure import out_of_memory
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.grid import choose_grids, tile
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.samples import Batch, Samples

_LIMIT = 64


def confident_grids(model: AuditModel, borrowed: BorrowedModel, samples: Samples, engine: Engine, side: int) -> Samples:
    """Grids of the images that the model classifies correctly with most confidence (Böhle et al. 2021)."""

    def confident(batch: Batch) -> Part:
        clean = classify(model, borrowed, batch)
        columns = {"label": batch.labels, "confidence": clean.confidence, "correct": clean.prediction == batch.labels}
        return Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})

    found = engine.measure(samples, confident, title="confident images")
    right = found.positions[found["correct"]]
    grids = choose_grids(found["label"][right], found["confidence"][right], side * side, _LIMIT)
    if not grids:
        raise AuditError(
            f"A grid of {side}×{side} needs correctly classified images of {side * side} distinct classes; of "
            f"{len(samples)} samples {len(right)} are classified correctly, in {len(set(found['label'][right]))} "
            "classes. Give more samples."
        )
    tiled = tile(samples, [[int(right[each]) for each in grid] for grid in grids], side)
    image = tiled[0].image[None].to(engine.device)
    try:
        with torch.no_grad():
            borrowed(image)
    except (AuditError, RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        height, width = image.shape[2:]
        raise AuditError(
            f"The model {model.name!r} does not take {height}×{width} images, so it cannot be shown {side}×{side} "
            "grids. Give Samples boxes= or masks= and use the pointing game."
        ) from None
    return tiled
