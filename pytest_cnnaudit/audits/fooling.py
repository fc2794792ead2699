"""What is the smallest change that turns an elephant into a koala?"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_cnnaudit.attacks.cascade import AttackChoice, bind
from pytest_cnnaudit.attacks.norms import Norm, check_norm
from pytest_cnnaudit.audits.attacked import BATCHES, COLUMNS
from pytest_cnnaudit.audits.radii import radius
from pytest_cnnaudit.audits.settings import run_settings
from pytest_cnnaudit.audits.smallest import Smallest
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Exhibit, Measurement, Metric
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.statistics import quantile, share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FoolingMeasurement(Measurement):
    """The smallest changes found, in pixel units. `per_sample`: label (what the model says of an image without one),
    correct, perturbation (0 for images that are the target already, infinite where it was not reached),
    clean_prediction, clean_confidence, adversarial_prediction, adversarial_confidence, found_by.
    """

    smallest: Metric
    median: Metric
    fooled: Metric


def measure_fooling(
    model: AuditModel,
    images: Samples | Tensor,
    engine: Engine,
    *,
    target: int | str,
    norm: Norm = "l2",
    confidence: float | None = None,
    attack: AttackChoice = "auto",
    options: Mapping[str, Any],
) -> FoolingMeasurement:
    """For each image the smallest change found after which the model sees `target`.

    Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.1 (the problem; they solve it with
    L-BFGS); found here by `nearest`, aimed at the target, and confirmed by the model itself.

    Args:
        images: samples, or images without labels: a tensor N×C×H×W, or C×H×W, in [0, 1] or of bytes.
        target: the class to reach, by its number or name.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
        confidence: the softmax probability that the target must reach; None is more than any other class.
        attack: ``"auto"`` or another search for the smallest perturbation that can aim.
        options: further keyword arguments of the attack.
    """
    check_norm(norm)
    samples = images if isinstance(images, Samples) else _unlabelled(images)
    wanted = _class_number(model, target)
    if confidence is not None:
        if not 0 < confidence < 1:
            raise AuditError(f"confidence={confidence} is not a probability between 0 and 1.")
        options = {**options, "confidence": confidence}
    attacks = bind(attack, norm=norm, eps=None, targeted=True, options=options)
    if confidence is not None and any(each.name == "carlini-wagner" for each in attacks):
        raise AuditError(
            "The confidence of carlini-wagner is a difference of logits, not a probability; with confidence= use "
            "attack='auto'."
        )
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        at_once = engine.at_once(samples)
        step = Smallest(model, borrowed, attacks, norm, engine, at_once, target=wanted, confidence=confidence)
        found = engine.measure(samples, step, title=f"fool {norm}", batches=BATCHES)
        cost = borrowed.cost
    rows = found.kept["nearest"].shown
    if samples is not images:  # there are no labels: what the model says of an image counts as its own
        found = found.with_column("label", found["clean_prediction"]).with_column("correct", np.ones(len(found), bool))
        rows = tuple(replace(row, figures={k: v for k, v in row.figures.items() if k != "label"}) for row in rows)
    size, name = found["perturbation"], model.class_name(wanted)
    described = ", ".join(each.name for each in attacks)
    moved, fooled = size[size > 0], np.isfinite(size)
    surely = "" if confidence is None else f" with confidence {confidence:g}"
    never = int(np.isinf(size).sum())
    already = len(size) - len(moved)
    story = [f"to {name}{surely}: {described}, {norm}, seed {engine.seed}"]
    if len(moved) and math.isfinite(moved.min()):
        easiest = int(np.flatnonzero(size == moved.min())[0])
        story.append(f"least for {samples[found.positions].ids[easiest]}: {radius(float(moved.min()), norm)}")
    notes = [f"{already} of {len(size)} images were {name}{surely} from the start."] if already else []
    notes += [f"{never} of {len(size)} images were never {name}{surely}."] if never else []
    text = f"The smallest changes after which the model sees {name}, smallest first. Both differences are signed."
    return FoolingMeasurement(
        kind="fool",
        title=f"Fooled to see {name}",
        settings={
            "norm": norm,
            "target": name,
            "attack": described,
            **run_settings(engine, options),
        },
        ids=samples[found.positions].ids,
        per_sample={**found.columns, "change": np.where(size > 0, size, np.nan), "fooled": fooled},
        cost=cost,
        notes=tuple(notes),
        exhibits=(Exhibit(f"Into {name}", text, rows, columns=("original", "fooled", *COLUMNS[2:])),) if rows else (),
        smallest=Metric(
            float(moved.min()) if len(moved) else math.nan,
            name="smallest fooling change",
            n=len(moved),
            of="image",
            higher_is_better=True,
            help=f"The least that turns any of the images into {name}.",
            story=tuple(story),
        ),
        median=quantile(moved, 0.5, name="median fooling change", story=tuple(story), least=0, column="change"),
        fooled=share(fooled, name="fooled", higher_is_better=False, of="image", column="fooled"),
    )


def _unlabelled(images: object) -> Samples:
    """Samples of a tensor of images; no label is asked for, so all have the one that every model has."""
    if not isinstance(images, Tensor) or images.ndim not in (3, 4):
        given = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise AuditError(
            "Images to fool are Samples (samples[3:4] for one of them), or a tensor N×C×H×W or C×H×W in [0, 1] (see "
            f"torch.stack and torch.from_numpy), not {given}."
        )
    batch = images.detach() if images.ndim == 4 else images.detach()[None]
    return Samples.from_tensors(batch, torch.zeros(len(batch), dtype=torch.long))


def _class_number(model: AuditModel, target: int | str) -> int:
    if not isinstance(target, str):
        try:
            return operator.index(target)
        except TypeError:
            raise AuditError(f"target={target!r} is not a class; give its number or its name.") from None
    names = model.class_names or ()
    matching = [number for number, name in enumerate(names) if name == target]
    if len(matching) != 1:
        found = "none" if not matching else f"{len(matching)} (numbers {', '.join(map(str, matching))})"
        raise AuditError(
            f"target={target!r} should be the name of one class of {model.name!r}, but {found} of its {len(names)} "
            "class names match; give class_names to AuditModel, or the number of the class."
        )
    return matching[0]
