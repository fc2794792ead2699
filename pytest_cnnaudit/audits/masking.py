"""Is the robustness real, or do the attacks only fail to find what is there?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pytest_cnnaudit.attacks.apgd import apgd
from pytest_cnnaudit.attacks.cascade import Attack
from pytest_cnnaudit.attacks.eot import expectation
from pytest_cnnaudit.attacks.goal import ascent, reached
from pytest_cnnaudit.attacks.norms import Norm, check_norm, uniform
from pytest_cnnaudit.attacks.pgd import STRIDE, pgd
from pytest_cnnaudit.attacks.square import square
from pytest_cnnaudit.audits.classify import classify
from pytest_cnnaudit.audits.masking_checks import Check, judge
from pytest_cnnaudit.audits.masking_probes import (
    Model,
    answers_twice,
    differentiable,
    optimising,
    probabilities,
    without_gradient,
)
from pytest_cnnaudit.audits.radii import checked_radius, radius
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.results import Measurement, Metric, Table, TableRow, figure, require
from pytest_cnnaudit.samples import Batch, Samples

_NOISES = 10  # draws of noise for each sample
_UNBOUNDED_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MaskingMeasurement(Measurement):
    """The checklist: `checks` in order, and the figure of each by name. Every figure is a share that should be 0.

    `per_sample`: label, correct, robust (stood against every attack along the gradient), gained (fooled by the longer
    PGD and not by the shorter), and one column of bools for each check, by the name of its figure.
    """

    checks_passed: Metric
    unbounded_attack: Metric
    more_steps: Metric
    black_box: Metric
    random_noise: Metric
    zero_gradients: Metric
    saturated_loss: Metric
    randomised_forward: Metric
    softmax_output: Metric
    test_time_optimisation: Metric
    checks: tuple[Check, ...]


def measure_masking(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    norm: Norm = "linf",
    eps: float = 8 / 255,
    limit: int = 64,
    steps: int = 50,
    queries: int = 500,
    eot: int = 1,
) -> MaskingMeasurement:
    """The signs of gradient masking, each by a check of its own.

    Carlini et al. 2019, "On Evaluating Adversarial Robustness", section 5 (and Athalye, Carlini & Wagner 2018,
    "Obfuscated Gradients Give a False Sense of Security", section 3.1), with the flags that AutoAttack raises (Croce &
    Hein 2020). Attacks begin with the samples that are classified correctly, the gradient-free ones with those that the
    gradient left standing.

    Args:
        norm: ``"linf"`` or ``"l2"``.
        eps: radius in pixel units at which the model is claimed to be robust.
        limit: how many of the samples are looked at, evenly spread over all.
        steps: of APGD, and of the longer PGD; the shorter takes a fifth, which are five times as long.
        queries: of Square, for a sample: a tenth of a full attack's, enough where only the gradient is hidden.
        eot: passes that attacks average over, see `expectation`; for models that draw random numbers.
    """
    check_norm(norm, ("linf", "l2"), "The gradient masking checklist")
    eps = checked_radius(norm, eps)
    if limit < 1 or steps < 5 or queries < 1:
        raise AuditError(
            f"The gradient masking checklist was given limit={limit}, steps={steps} and queries={queries}; it needs "
            "limit ≥ 1, steps ≥ 5 and queries ≥ 1."
        )
    count = min(limit, len(samples))
    chosen = samples[np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()]
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        step = _Step(model, borrowed, engine, norm, eps, steps, queries, eot)
        found = engine.measure(chosen, step, title=f"gradient masking {norm}")
        cost = borrowed.cost
    correct = found["correct"]
    if not correct.any():
        raise AuditError(
            f"The model {model.name!r} classifies none of the {count} samples correctly, so there is nothing to attack."
        )
    size = radius(eps, norm)
    settings = {
        "norm": norm,
        "eps": size,
        "white box": f"pgd, {steps // 5} and {steps} steps; apgd-ce, {steps} steps",
        "black box": f"square, {queries} queries",
        **({"eot": str(eot)} if eot > 1 else {}),
        "seed": str(engine.seed),
    }
    checks = judge(found, f"{norm}, eps {size}, seed {engine.seed}", steps=steps, queries=queries, noises=_NOISES)
    failed = [check.name for check in checks if not check.passed]
    robust, right = int(found["robust"].sum()), int(correct.sum())
    notes = [
        f"{robust} of {right} correctly classified samples stood against the gradient.",
        f"Not passed: {', '.join(failed)}." if failed else "All checks passed.",
    ]
    if count < len(samples):
        notes.append(f"Looked at {count} of {len(samples)} samples, evenly spread.")
    passed = Metric(
        (len(checks) - len(failed)) / len(checks),
        name="checks passed",
        n=len(checks),
        of="check",
        count=len(checks) - len(failed),
        higher_is_better=True,
        bounds=(0, 1),
        help="Share of the checklist against gradient masking that raised no suspicion.",
        story=tuple(check.meaning for check in checks if not check.passed),
    )
    figures: dict[str, Any] = {check.column: check.metric for check in checks}
    return MaskingMeasurement(
        kind="gradient_masking",
        title="Gradient masking",
        settings=settings,
        ids=chosen[found.positions].ids,
        per_sample=found.columns,
        complete=True,
        cost=cost,
        notes=tuple(notes),
        exhibits=(_table(checks),),
        checks=checks,
        checks_passed=passed,
        **figures,
    )


def check_no_masking(measurement: MaskingMeasurement) -> None:
    """Hold every check's figure against its limit.

    Raises:
        AssertionError: some are over it; each is named, with what it means.
    """
    failures = []
    for check in measurement.checks:
        try:
            require(check.metric, "<=", check.limit)
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        raise AssertionError("\n".join(failures))


@dataclass(frozen=True, slots=True)
class _Step:
    """Puts one batch through the checklist."""

    model: AuditModel
    borrowed: BorrowedModel
    engine: Engine
    norm: Norm
    eps: float
    steps: int
    queries: int
    eot: int

    def __call__(self, batch: Batch) -> Part:
        images, labels = batch.images, batch.labels
        correct = classify(self.model, self.borrowed, batch).prediction == labels
        logits, optimises = optimising(self.borrowed, images)
        blind, vanishing = (
            without_gradient(self.borrowed, images, objective)
            for objective in (
                lambda logits: ascent(logits, labels, targeted=False),
                lambda logits: cross_entropy(logits, labels, reduction="none"),
            )
        )
        attacked = correct.nonzero()[:, 0]
        seeds = torch.tensor([self.engine.draw_seed(sample.id) for sample in batch.samples])[attacked.cpu()]
        columns = {
            "label": labels,
            "correct": correct,
            "zero_gradients": blind,
            "saturated_loss": vanishing & ~blind & correct,
            "randomised_forward": answers_twice(self.borrowed, images, logits),
            "softmax_output": probabilities(logits),
            "test_time_optimisation": torch.full_like(correct, optimises),
        }
        under_attack = self._attacked(images[attacked], labels[attacked], seeds)
        columns |= {name: _among(correct, verdict) for name, verdict in under_attack.items()}
        return Part(batch.positions, {name: values.cpu().numpy() for name, values in columns.items()})

    def _attacked(self, images: Tensor, labels: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        """What the attacks tell of samples that are classified correctly, N bool a name."""
        model, norm, eps = differentiable(expectation(self.borrowed, self.eot)), self.norm, self.eps
        # From the image itself: a random start anywhere in the box fools most samples without any gradient.
        whole = 1.0 if norm == "linf" else float(images.shape[1:].numel() ** 0.5)
        free = _fools(pgd, model, images, labels, norm=norm, eps=whole, steps=_UNBOUNDED_STEPS, random_start=False)
        few, many = (
            _fools(pgd, model, images, labels, norm=norm, eps=eps, steps=steps, seeds=seeds)
            for steps in (self.steps // 5, self.steps)
        )
        standing = ~few & ~many
        left, label, seed = images[standing], labels[standing], seeds[standing.cpu()]
        held = ~_fools(apgd, model, left, label, norm=norm, eps=eps, steps=self.steps, seeds=seed)
        standing = _among(standing, held)
        left, label, seed = left[held], label[held], seed[held.cpu()]
        noisy = torch.zeros_like(label, dtype=torch.bool)
        for number in range(_NOISES):
            noisy |= _fools(_noise, model, left, label, norm=norm, eps=eps, seeds=seed + number * STRIDE)
        squared = _fools(square, model, left, label, norm=norm, eps=eps, queries=self.queries, seeds=seed)
        return {
            "robust": standing,
            "unbounded_attack": ~free,
            "more_steps": few & ~many,
            "gained": many & ~few,
            "black_box": _among(standing, squared),
            "random_noise": _among(standing, noisy),
        }


def _fools(attack: Attack, model: Model, images: Tensor, labels: Tensor, **settings: Any) -> Tensor:
    """Whether an attack fools each sample, by a forward pass of its own, N bool."""
    if not len(labels):
        return labels.bool()
    candidates = attack(model, images, labels, **settings)
    with torch.no_grad():
        return reached(model(candidates), labels, targeted=False)


def _noise(_model: Model, images: Tensor, _labels: Tensor, *, norm: Norm, eps: float, seeds: Tensor) -> Tensor:
    """A random point of the ball, as an attack."""
    return (images + uniform(images, norm, eps, seeds)).clamp(0, 1)


def _among(some: Tensor, verdicts: Tensor) -> Tensor:
    """`verdicts` at the samples where `some` (N bool) holds, False elsewhere; N bool."""
    return torch.zeros_like(some).masked_scatter_(some, verdicts)


def _table(checks: tuple[Check, ...]) -> Table:
    rows = (
        TableRow(
            (check.name, f"{check.metric!r}", f"≤ {figure(check.limit)}", check.meaning),
            "passed" if check.passed else "failed",
        )
        for check in checks
    )
    return Table(
        "Signs of gradient masking",
        "Where a check fails, the accuracy under attack says more about the attack than about the model.",
        ("check", "figure", "limit", "what it means"),
        tuple(rows),
    )
