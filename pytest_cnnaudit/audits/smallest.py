"""The smallest perturbation of each sample in a batch that gets an attack what it wants, confirmed by the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.attacks.cascade import Bound
from pytest_cnnaudit.attacks.goal import reached
from pytest_cnnaudit.attacks.norms import Norm, length
from pytest_cnnaudit.audits.attacked import SHOWN, attacked_row, check_images, check_target
from pytest_cnnaudit.audits.classify import Clean, classify, outputs
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.samples import Batch

_PUSHES = (1.0, 1.001, 1.004, 1.016, 1.064)
"""How far beyond what was found a sample may be pushed: by rounding, it may lie on the wrong side of the boundary."""

_ROUNDED_PUSHES = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 16.0)
"""The same for images of 8 bits, where a change of less than half a level is no change at all."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """Searches one batch with each attack, and keeps the nearest image found: a step for `Engine.measure`.

    Attributes:
        attacks: searches for the smallest perturbation.
        target: the class to reach; None is any but the label.
        confidence: softmax probability that the target must reach; None is more than any other class.
        eight_bit: whether images must fool as they would be saved: rounded to 8 bits.
        at_once: samples in a pass of the model.
    """

    model: AuditModel
    borrowed: BorrowedModel
    attacks: Sequence[Bound]
    norm: Norm
    engine: Engine
    at_once: int
    target: int | None = None
    confidence: float | None = None
    eight_bit: bool = False

    def __call__(self, batch: Batch, clean: Clean | None = None) -> Part:
        """The smallest that is found; `clean` saves the pass without an attack where its outcome is known."""
        clean = clean or classify(self.model, self.borrowed, batch, self.at_once)
        if self.target is not None:
            check_target(self.target, clean.classes)
        goal = batch.labels if self.target is None else torch.full_like(batch.labels, self.target)
        seeds = torch.tensor([self.engine.draw_seed(sample.id) for sample in batch.samples])
        there = self._succeeds(clean.logits, goal)
        at_stake = (~there).nonzero()[:, 0]
        size = torch.where(there, 0.0, torch.inf).to(batch.images.device)
        adversarial, found_by = batch.images.clone(), torch.full_like(batch.labels, -1)
        fast = self.borrowed.fast(batch.images[: self.at_once], self.engine.precision)
        for number, attack in enumerate(self.attacks if len(at_stake) else ()):
            images = batch.images[at_stake]
            found = attack.run(fast, images, goal[at_stake], seeds[at_stake.cpu()], self.at_once)
            found = check_images(attack.name, found, images)
            confirmed, holds = self._confirmed(images, found, goal[at_stake])
            new = length(confirmed - images, self.norm)
            better = holds & (new < size[at_stake])
            index = at_stake[better]
            adversarial[index], size[index], found_by[index] = confirmed[better], new[better].to(size.dtype), number
        logits = outputs(self.borrowed, adversarial, self.at_once)
        confidence, prediction = logits.softmax(1).max(1)
        columns = {
            "label": batch.labels,
            "correct": clean.prediction == batch.labels,
            "clean_prediction": clean.prediction,
            "clean_confidence": clean.confidence,
            "adversarial_prediction": prediction,
            "adversarial_confidence": confidence,
            "perturbation": size,
            "found_by": found_by,
        }
        part = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})
        return Part(part.positions, part.columns, self._rows(batch, part, adversarial))

    def _succeeds(self, logits: Tensor, goal: Tensor) -> Tensor:
        hit = reached(logits, goal, targeted=self.target is not None)
        if self.confidence is not None:
            hit &= logits.softmax(1).gather(1, goal[:, None])[:, 0] >= self.confidence
        return hit

    def _confirmed(self, images: Tensor, found: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """What was found, as far out as the model itself needs it (and rounded, if wanted); and whether it does it."""
        result, holds = found.clone(), torch.zeros(len(found), dtype=torch.bool, device=found.device)
        left = ((found != images).flatten(1).any(1)).nonzero()[:, 0]
        for push in _ROUNDED_PUSHES if self.eight_bit else _PUSHES:
            if not len(left):
                break
            tried = (images[left] + push * (found[left] - images[left])).clamp(0, 1)
            if self.eight_bit:
                tried = (tried * 255).round() / 255
            succeeds = self._succeeds(outputs(self.borrowed, tried, self.at_once), goal[left])
            result[left[succeeds]], holds[left[succeeds]] = tried[succeeds], True
            left = left[~succeeds]
        return result, holds

    def _rows(self, batch: Batch, part: Part, adversarial: Tensor) -> dict[str, Kept]:
        """The samples that take the least, and those that take the most."""
        size = part["perturbation"]
        moved = (size > 0) & np.isfinite(size)
        by = [self.attacks[number].name if number >= 0 else "" for number in part["found_by"].tolist()]
        draw = partial(attacked_row, self.model, self.norm, batch, part, adversarial, by)
        return {
            "nearest": Kept.lowest(SHOWN, moved, size, batch.positions, partial(draw, "near")),
            "farthest": Kept.lowest(SHOWN // 4, moved, -size, batch.positions, partial(draw, "far")),
        }
