"""A cascade of attacks on a batch: what falls, what stands, and the pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.attacks.cascade import Bound
from pytest_cnnaudit.attacks.goal import margin, reached
from pytest_cnnaudit.attacks.norms import Norm, length
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import Clean, classify, outputs
from pytest_cnnaudit.audits.every_sample import Told, in_turn, with_tiles
from pytest_cnnaudit.audits.radii import radius
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Picture, Row
from pytest_cnnaudit.samples import Batch

BATCHES = 4
"""Batches that an attack gets at a time, so that waiting samples can take the places of those that leave."""

SHOWN = 16
COLUMNS = ("clean", "adversarial", "difference", "10× difference")
_SLACK = 1e-5  # rounding of x + δ − x, and of an attack's own projection


@dataclass(frozen=True, slots=True)
class Attacked:
    """Attacks one batch with a cascade: a step for `Engine.measure`.

    Attributes:
        cascade: the attacks, in order, each for what still stands.
        at_once: samples in a pass of the model; a batch may hold several times as many.
        first: the number of the first attack, where others have been tried before.
        total: how many attacks there are in all: what stands before the last of them has not held yet.
        drawn: whether to keep rows and tiles of what is found.
    """

    model: AuditModel
    borrowed: BorrowedModel
    cascade: Sequence[Bound]
    norm: Norm
    eps: float
    targeted: bool
    target: int | None
    engine: Engine
    at_once: int
    first: int = 0
    total: int = 1
    drawn: bool = True

    def __call__(self, batch: Batch, clean: Clean | None = None) -> Part:
        """What the cascade finds; `clean` saves the pass without an attack where its outcome is known."""
        clean = clean or classify(self.model, self.borrowed, batch, self.at_once)
        seeds = torch.tensor([self.engine.draw_seed(sample.id) for sample in batch.samples])
        correct = clean.prediction == batch.labels
        goal = self._goal(batch, seeds, clean.classes)
        adversarial, prediction, confidence = batch.images.clone(), clean.prediction.clone(), clean.confidence.clone()
        broken_by = torch.full_like(batch.labels, -1)
        held_by = -margin(clean.logits, batch.labels)
        standing = correct.nonzero()[:, 0]
        fast = self.borrowed.fast(batch.images[: self.at_once], self.engine.precision)
        for number, attack in enumerate(self.cascade, self.first):
            if not len(standing):
                break
            images = batch.images[standing]
            candidates = attack.run(fast, images, goal[standing], seeds[standing.cpu()], self.at_once)
            candidates = self._checked(attack.name, candidates, images)
            logits = outputs(self.borrowed, candidates, self.at_once)
            fooled = reached(logits, goal[standing], targeted=self.targeted)
            adversarial[standing] = candidates
            confidence[standing], prediction[standing] = logits.softmax(1).max(1)
            held_by[standing] = -margin(logits, batch.labels[standing])
            broken_by[standing[fooled]] = number
            standing = standing[~fooled]
        lost = broken_by >= 0
        perturbation = length(adversarial - batch.images, self.norm).where(lost, torch.nan)
        columns = {
            "label": batch.labels,
            "correct": correct,
            "robust": correct & ~lost,
            "broken_by": broken_by,
            "clean_prediction": clean.prediction,
            "clean_confidence": clean.confidence,
            "adversarial_prediction": prediction,
            "adversarial_confidence": confidence,
            "perturbation": perturbation,
            "margin": held_by,
            "settled": torch.ones_like(correct),
        }
        found = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})
        return self._drawn(batch, found, adversarial) if self.drawn else found

    def _goal(self, batch: Batch, seeds: Tensor, classes: int) -> Tensor:
        """The labels to leave or, where targeted, the classes to reach: never the label itself."""
        if not self.targeted:
            return batch.labels
        if self.target is None:
            away = 1 + seeds.to(batch.labels) % (classes - 1)
            return (batch.labels + away) % classes
        check_target(self.target, classes)
        already = np.flatnonzero((batch.labels == self.target).cpu())
        if len(already):
            raise AuditError(
                f"target={self.target} is already the label of {batch.samples[already[0]].id}; leave such samples out."
            )
        return torch.full_like(batch.labels, self.target)

    def _checked(self, name: str, candidates: object, images: Tensor) -> Tensor:
        checked = check_images(name, candidates, images)
        size = float(length(checked - images, self.norm).max())
        if not size <= self.eps + _SLACK * max(1, self.eps):
            raise AuditError(
                f"The attack {name} left the ball: ‖δ‖ is {size:.6g} in {self.norm}, but eps is {self.eps:.6g}."
            )
        return checked

    def _drawn(self, batch: Batch, found: Part, adversarial: Tensor) -> Part:
        """The samples that take the smallest perturbation, and those that hold with least confidence; and all."""
        names = {number: attack.name for number, attack in enumerate(self.cascade, self.first)}
        by = [names.get(number, "") for number in found["broken_by"].tolist()]
        draw = partial(attacked_row, self.model, self.norm, batch, found, adversarial, by)
        fooled, size, confidence = found["broken_by"] >= 0, found["perturbation"], found["adversarial_confidence"]
        rows = {
            "fooled": Kept.lowest(SHOWN, fooled, size, batch.positions, partial(draw, "fooled")),
            "robust": Kept.lowest(SHOWN // 4, found["robust"], confidence, batch.positions, partial(draw, "robust")),
        }
        correct, robust = found["correct"], found["robust"]
        met_all = self.first + len(self.cascade) >= self.total
        nobody = np.zeros_like(robust)
        held, spared = (robust, nobody) if met_all else (nobody, robust)

        def tell(i: int) -> Told:
            status = "fooled" if fooled[i] else "misclassified" if not correct[i] else "robust" if met_all else "spared"
            return status, told_figures(self.model, self.norm, found, by[i], i)

        # In this order a sample never comes later for what the next attacks find of it: see `with_tiles`.
        rank = in_turn(
            (fooled, size), (~correct, 1 - found["clean_confidence"]), (held, confidence), (spared, confidence)
        )
        return with_tiles(Part(found.positions, found.columns, rows), batch, rank, tell)


def told_figures(model: AuditModel, norm: Norm, found: Part, by: str, i: int) -> dict[str, str]:
    """What is told of sample `i` of a batch under attack; `by` is the attack that fooled it, empty where none did."""
    figures = {"label": model.class_name(int(found["label"][i])), "prediction": _said(model, found, "clean", i)}
    if by:
        size = radius(float(found["perturbation"][i]), norm)
        figures |= {"attacked": _said(model, found, "adversarial", i), "‖δ‖": size, "by": by}
    return figures


def _said(model: AuditModel, found: Part, which: str, i: int) -> str:
    return f"{model.class_name(int(found[f'{which}_prediction'][i]))} {found[f'{which}_confidence'][i]:.2f}"


def check_target(target: int, classes: int) -> None:
    """Raise an `AuditError` for a target that is none of the model's classes."""
    if not 0 <= target < classes:
        raise AuditError(f"target={target} is not a class: the model has {classes}, numbered from 0.")


def check_images(name: str, found: object, images: Tensor) -> Tensor:
    """What an attack returned, in the images' precision; an `AuditError` where it is not as many images in [0, 1]."""
    if not isinstance(found, Tensor):
        raise AuditError(f"The attack {name} returned {type(found).__name__}, not a tensor of images.")
    if found.shape != images.shape:
        raise AuditError(f"The attack {name} returned {tuple(found.shape)} for images of {tuple(images.shape)}.")
    low, high = (float(value) for value in found.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise AuditError(f"The attack {name} returned values from {low:.3g} to {high:.3g}; images are in [0, 1].")
    return found.detach().to(images.dtype)


def attacked_row(
    model: AuditModel,
    norm: Norm,
    batch: Batch,
    found: Part,
    adversarial: Tensor,
    by: Sequence[str],
    status: str,
    i: int,
) -> Row:
    """Sample `i` of a batch: clean, attacked (of `adversarial`, N×C×H×W), their difference, and ten times that.

    Args:
        model: names the classes.
        norm: of the perturbation that is told.
        batch: the samples as they were.
        found: the predictions and confidences, clean and adversarial.
        adversarial: the images as the attack left them.
        by: the attack that fooled each sample, N; empty where none did.
        status: of the row.
        i: which of the batch.
    """
    sample, clean, attacked = batch.samples[i], batch.images[i], adversarial[i]
    change = attacked - clean
    before, after = (_said(model, found, which, i) for which in ("clean", "adversarial"))
    shown = (
        Picture(pictures.image(clean), before, f"{sample.id}, clean", "numbers"),
        Picture(pictures.image(attacked), after, f"{sample.id}, adversarial", "numbers"),
        Picture(pictures.difference(change), "", f"{sample.id}, difference"),
        Picture(pictures.difference(change, 10), "", f"{sample.id}, difference ten times enlarged"),
    )
    size = radius(float(length(change[None], norm)), norm)
    figures = {"label": model.class_name(sample.label), "‖δ‖": size, **({"by": by[i]} if by[i] else {})}
    exact = attacked.to(torch.promote_types(attacked.dtype, torch.float32))  # numpy knows no bfloat16
    arrays = {"adversarial": exact.cpu().numpy().copy()}  # not the whole batch
    return Row(sample.id, shown, status, figures, arrays)
