"""How many samples are still classified correctly under attack?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.attacks.cascade import AttackChoice, Bound, bind
from pytest_cnnaudit.attacks.goal import reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, length
from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.audits.classify import classify
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Cost, Exhibit, Measurement, Metric, Picture, Row, figure
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import is_decided, share

_SHOWN = 16
_SLACK = 1e-5  # rounding of x + δ − x, and of an attack's own projection
_COLUMNS = ("clean", "adversarial", "difference", "10× difference")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AttackMeasurement(Measurement):
    """Accuracy under attack. `per_sample`: correct, robust, clean_prediction, adversarial_prediction,
    adversarial_confidence, perturbation (‖δ‖ of what fooled it, else NaN), broken_by (index into `attacks`, else −1).
    """

    robust_accuracy: Metric
    clean_accuracy: Metric
    attack_success_rate: Metric
    attacks: tuple[str, ...]
    per_class: Mapping[str, Metric]


def measure_robustness(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    norm: Norm = "linf",
    eps: float | None = None,
    attack: AttackChoice = "auto",
    targeted: bool = False,
    target: int | None = None,
    at_least: float | None = None,
    options: Mapping[str, Any],
) -> AttackMeasurement:
    """Robust accuracy: the share of samples classified correctly that no attack in the cascade moves within `eps`.

    Attacks run one after the other, each on the samples still standing. What an attack returns is believed only after a
    forward pass of its own shows that it fools, and if it is within `eps` and [0, 1].

    Args:
        norm: ``"linf"`` or ``"l2"``.
        eps: radius in pixel units, as in ``8 / 255``.
        attack: ``"auto"`` (fgsm, then pgd), ``"fgsm"``, ``"pgd"``, any callable ``(model, images, labels) -> images``,
            or a sequence of those.
        targeted: a sample falls only if it becomes the target class.
        target: the class wanted where `targeted`; a random other class for each sample where None.
        at_least: stop as soon as it is certain whether the robust accuracy of all samples reaches this.
        options: further keyword arguments of the attack.
    """
    check_norm(norm)
    if not (isinstance(eps, int | float) and 0 < eps < float("inf")):
        raise AuditError(f"eps={eps!r} is not a radius; give a positive number in pixel units, for example 4 / 255.")
    if target is not None and not targeted:
        raise AuditError(f"target={target} was given without targeted=True.")
    cascade = bind(attack, norm=norm, eps=eps, targeted=targeted, options=options)
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        step = _Step(model, borrowed, cascade, norm, eps, targeted, target, engine)
        n = len(samples)
        found = engine.measure(
            samples,
            step,
            title=f"attack {norm} {_eps(eps)}",
            decided=lambda part: at_least is not None and is_decided(part["robust"].sum(), len(part), n, at_least),
        )
        cost = borrowed.cost
    names = tuple(each.name for each in cascade)
    return _measurement(
        model,
        samples,
        found,
        cost=cost,
        names=names,
        norm=norm,
        eps=eps,
        seed=engine.seed,
        attack=attack,
        targeted=targeted,
        target=target,
        options=options,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Attacks one batch."""

    model: AuditModel
    borrowed: BorrowedModel
    cascade: Sequence[Bound]
    norm: Norm
    eps: float
    targeted: bool
    target: int | None
    engine: Engine

    def __call__(self, batch: Batch) -> Part:
        clean = classify(self.model, self.borrowed, batch)
        seeds = torch.tensor([self.engine.draw_seed(sample.id) for sample in batch.samples])
        correct = clean.prediction == batch.labels
        goal = self._goal(batch, seeds, clean.classes)
        adversarial, prediction, confidence = batch.images.clone(), clean.prediction.clone(), clean.confidence.clone()
        broken_by = torch.full_like(batch.labels, -1)
        standing = correct.nonzero()[:, 0]
        for number, attack in enumerate(self.cascade):
            if not len(standing):
                break
            images = batch.images[standing]
            candidates = attack.run(self.borrowed, images, goal[standing], seeds[standing.cpu()])
            self._check(attack.name, candidates, images)
            candidates = candidates.detach()
            with torch.no_grad():
                logits = self.borrowed(candidates)
            fooled = reached(logits, goal[standing], targeted=self.targeted)
            adversarial[standing] = candidates
            confidence[standing], prediction[standing] = logits.softmax(1).max(1)
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
        }
        found = Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})
        return Part(found.positions, found.columns, self._rows(batch, found, adversarial))

    def _goal(self, batch: Batch, seeds: Tensor, classes: int) -> Tensor:
        """The labels to leave or, where targeted, the classes to reach: never the label itself."""
        if not self.targeted:
            return batch.labels
        if self.target is None:
            away = 1 + seeds.to(batch.labels) % (classes - 1)
            return (batch.labels + away) % classes
        if not 0 <= self.target < classes:
            raise AuditError(f"target={self.target} is not a class: the model has {classes}, numbered from 0.")
        already = np.flatnonzero((batch.labels == self.target).cpu())
        if len(already):
            raise AuditError(
                f"target={self.target} is already the label of {batch.samples[already[0]].id}; leave such samples out."
            )
        return torch.full_like(batch.labels, self.target)

    def _check(self, name: str, candidates: object, images: Tensor) -> None:
        if not isinstance(candidates, Tensor):
            raise AuditError(f"The attack {name} returned {type(candidates).__name__}, not a tensor of images.")
        if candidates.shape != images.shape:
            raise AuditError(
                f"The attack {name} returned {tuple(candidates.shape)} for images of {tuple(images.shape)}."
            )
        size = float(length(candidates - images, self.norm).max())
        if not size <= self.eps + _SLACK:
            raise AuditError(
                f"The attack {name} left the ball: ‖δ‖ is {size:.6g} in {self.norm}, but eps is {self.eps:.6g}."
            )
        low, high = (float(value) for value in candidates.aminmax())
        if low < 0 or high > 1:
            raise AuditError(f"The attack {name} returned values from {low:.3g} to {high:.3g}; images are in [0, 1].")

    def _rows(self, batch: Batch, found: Part, adversarial: Tensor) -> dict[str, Kept]:
        """The samples fooled with most confidence, and those that hold with least."""
        fooled, held = found["broken_by"] >= 0, found["robust"]
        confidence = found["adversarial_confidence"]

        def draw(status: str) -> Callable[[int], Row]:
            return lambda i: self._row(batch, found, adversarial, i, status)

        return {
            "fooled": Kept.lowest(_SHOWN, fooled, -confidence, batch.positions, draw("fooled")),
            "robust": Kept.lowest(_SHOWN // 4, held, confidence, batch.positions, draw("robust")),
        }

    def _row(self, batch: Batch, found: Part, adversarial: Tensor, i: int, status: str) -> Row:
        sample, attacked = batch.samples[i], adversarial[i]
        change = attacked - batch.images[i]

        def said(which: str) -> str:
            return (
                f"{self.model.class_name(int(found[f'{which}_prediction'][i]))} {found[f'{which}_confidence'][i]:.2f}"
            )

        shown = (
            Picture(pictures.image(batch.images[i]), said("clean"), f"{sample.id}, clean"),
            Picture(pictures.image(attacked), said("adversarial"), f"{sample.id}, adversarial"),
            Picture(pictures.difference(change), "", f"{sample.id}, difference"),
            Picture(pictures.difference(change, 10), "", f"{sample.id}, difference ten times enlarged"),
        )
        figures = {
            "label": self.model.class_name(sample.label),
            "‖δ‖": _eps(float(length(change[None], self.norm)), self.norm),
        }
        if status == "fooled":
            figures["by"] = self.cascade[found["broken_by"][i]].name
        return Row(sample.id, shown, status, figures)


def _measurement(
    model: AuditModel,
    samples: Samples,
    found: Part,
    *,
    cost: Cost,
    names: tuple[str, ...],
    norm: Norm,
    eps: float,
    seed: int,
    attack: AttackChoice,
    targeted: bool,
    target: int | None,
    options: Mapping[str, Any],
) -> AttackMeasurement:
    wanted = "" if not targeted else ", to a random class" if target is None else f", to {model.class_name(target)}"
    described = f"auto ({', '.join(names)})" if attack == "auto" else ", ".join(names)
    fooled_by = [
        f"{name} {count}" for number, name in enumerate(names) if (count := int(np.sum(found["broken_by"] == number)))
    ]
    held_by_label = {int(label): found["robust"][found["label"] == label] for label in np.unique(found["label"])}
    weakest = min(held_by_label, key=lambda label: held_by_label[label].mean())
    weakest_name = f"{model.class_name(weakest)} {figure(held_by_label[weakest].mean())}"
    story: tuple[str, ...] = (
        f"attack: {described}, {norm}, eps {_eps(eps, norm)}{wanted}, seed {seed}",
        f"fooled first by: {', '.join(fooled_by) or 'none'}; weakest class: {weakest_name}",
    )
    notes = [f"{story[1]}."]
    if len(found) < len(samples):
        held, lost = int(found["robust"].sum()), int((~found["robust"]).sum())
        stopped = (
            f"stopped as soon as the verdict was certain: after {len(found)} of {len(samples)} samples, "
            f"{held} held and {lost} did not"
        )
        story, notes = (*story, stopped), [*notes, f"{stopped[0].upper()}{stopped[1:]}."]
    correct = found["correct"]
    settings = {
        "norm": norm,
        "eps": _eps(eps, norm),
        "attack": described,
        "seed": str(seed),
        **({"target": wanted[5:]} if targeted else {}),
        **{key: str(value) for key, value in options.items()},
    }
    return AttackMeasurement(
        kind="attack",
        title="Accuracy under attack",
        settings=settings,
        ids=samples[found.positions].ids,
        per_sample=found.columns,
        cost=cost,
        notes=tuple(notes),
        exhibits=_exhibits(found),
        robust_accuracy=share(
            found["robust"],
            name="robust accuracy",
            story=story,
            help="Share of samples that are classified correctly and stay so under attack.",
        ),
        clean_accuracy=share(correct, name="clean accuracy", help="Share classified correctly without an attack."),
        attack_success_rate=share(
            ~found["robust"][correct],
            name="attack success rate",
            higher_is_better=False,
            help="Share of the correctly classified samples that were fooled.",
        ),
        attacks=names,
        per_class=_per_class(model, held_by_label, story),
    )


def _per_class(
    model: AuditModel, held_by_label: Mapping[int, NDArray[np.bool_]], story: tuple[str, ...]
) -> dict[str, Metric]:
    """Robust accuracy by class name; of classes that share a name, by name and number."""
    times = Counter(map(model.class_name, held_by_label))
    names = {
        label: name if times[name := model.class_name(label)] == 1 else f"{name} ({label})" for label in held_by_label
    }
    return {
        names[label]: share(held, name=f"robust accuracy of {names[label]}", story=story)
        for label, held in held_by_label.items()
    }


def _exhibits(found: Part) -> tuple[Exhibit, ...]:
    texts = {
        "fooled": (
            "Most confidently fooled",
            "The attacks' most certain successes first. Both differences are signed and centred on grey.",
        ),
        "robust": ("Held out", "Still classified correctly after every attack, the least certain first."),
    }
    return tuple(
        Exhibit(*texts[name], rows=kept.shown, columns=_COLUMNS) for name, kept in found.kept.items() if kept.rows
    )


def _eps(eps: float, norm: Norm = "linf") -> str:
    """Radii as people write them: 4/255 in linf, plain numbers in l2."""
    steps = eps * 255
    return f"{steps:.3g}/255" if norm == "linf" else f"{eps:.3g}"
