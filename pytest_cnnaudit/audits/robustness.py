"""How many samples are still classified correctly under attack?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.attacks.cascade import AttackChoice, Auto, bind
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.attacked import BATCHES, COLUMNS, Attacked
from pytest_cnnaudit.audits.every_sample import every_sample
from pytest_cnnaudit.audits.radii import checked_radius, radius
from pytest_cnnaudit.audits.settings import check_auto, described, run_settings
from pytest_cnnaudit.audits.verdicts import of_all, until_certain, until_confident
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Exhibit, Measurement, Metric, Table, TableRow, figure
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.statistics import share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AttackMeasurement(Measurement):
    """Accuracy under attack. `per_sample`: label, correct, robust, clean_prediction, clean_confidence,
    adversarial_prediction, adversarial_confidence, margin (of the label, after the last attack), perturbation (‖δ‖ of
    what fooled it, else NaN), broken_by (index into `attacks`, else −1), settled (False where an early verdict spared
    it the remaining attacks). `complete`: whether every sample has met every attack. Where an early verdict left it
    False, the figures are bounds: after a pass they count what was spared as fooled.
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
    auto: Auto = "fast",
    targeted: bool = False,
    target: int | None = None,
    at_least: float | None = None,
    confidence: float | None = None,
    options: Mapping[str, Any],
) -> AttackMeasurement:
    """Robust accuracy: the share of samples classified correctly that no attack in the cascade moves within `eps`.

    Attacks run one after the other, each on the samples still standing, on a model folded for speed. What an attack
    returns is believed only after a forward pass of its own through the model as it was given shows that it fools, and
    if it is within `eps` and [0, 1].

    Args:
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
        eps: radius in pixel units, as in ``8 / 255``; in L0 the number of values.
        attack: ``"auto"``, the name of an attack, any callable ``(model, images, labels) -> images``, or a sequence of
            those.
        auto: what ``"auto"`` stands for: ``"fast"``, or ``"standard"`` with the strength of AutoAttack.
        targeted: a sample falls only if it becomes the target class.
        target: the class wanted where `targeted`; a random other class for each sample where None.
        at_least: stop as soon as it is certain whether the robust accuracy of all samples reaches this.
        confidence: stop, too, when it is decided with this probability for the population that samples come from.
        options: further keyword arguments of the attack.
    """
    eps = checked_radius(norm, eps)
    if target is not None and not targeted:
        raise AuditError(f"target={target} was given without targeted=True.")
    check_auto(auto, attack)
    cascade = bind(attack, norm=norm, eps=eps, targeted=targeted, auto=auto, options=options)
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        at_once, total = engine.at_once(samples), len(cascade)
        step = Attacked(model, borrowed, cascade, norm, eps, targeted, target, engine, at_once, total=total)
        title = f"attack {norm} {radius(eps, norm)}"
        if at_least is None:
            verdict = of_all(engine.measure(samples, step, title=title, batches=BATCHES))
        elif confidence is None:
            verdict = until_certain(engine, samples, step, at_least, title=title)
        else:
            verdict = until_confident(engine, samples, step, at_least, confidence, title=title)
        cost = borrowed.cost
    found = verdict.found
    names = tuple(each.name for each in cascade)
    run = described(attack, names, auto)
    wanted = "" if not targeted else ", to a random class" if target is None else f", to {model.class_name(target)}"
    by_label = {int(label): verdict.holds[found["label"] == label] for label in np.unique(found["label"])}
    weakest = min(by_label, key=lambda label: by_label[label].mean())
    fooled_by = [(name, int(np.sum(found["broken_by"] == number))) for number, name in enumerate(names)]
    counts = ", ".join(f"{name} {count}" for name, count in fooled_by if count)
    weakest_name = f"{model.class_name(weakest)} {figure(by_label[weakest].mean())}"
    story = [
        f"attack: {run}, {norm}, eps {radius(eps, norm)}{wanted}, seed {engine.seed}",
        f"fooled first by: {counts or 'none'}; weakest class: {weakest_name}",
    ]
    notes = [f"{story[1]}."]
    if attack == "auto" and auto == "fast" and norm != "l0":
        notes.append(
            "auto='fast' leaves out APGD-CE, FAB-T and Square, which seldom change a verdict; auto='standard' has the "
            "strength of AutoAttack."
        )
    if verdict.stopped:
        story.append(verdict.stopped)
        notes.append(f"{verdict.stopped[0].upper()}{verdict.stopped[1:]}.")
    settings = {
        "norm": norm,
        "eps": radius(eps, norm),
        "attack": run,
        **({"target": wanted[5:]} if targeted else {}),
        **({"confidence": str(confidence)} if confidence is not None else {}),
        **run_settings(engine, options),
    }
    correct = found["correct"]
    counted = " What the early verdict spared counts as fooled." if (found["robust"] & ~verdict.holds).any() else ""
    return AttackMeasurement(
        kind="attack",
        title="Accuracy under attack",
        settings=settings,
        ids=samples[found.positions].ids,
        per_sample=found.columns,
        cost=cost,
        notes=tuple(notes),
        exhibits=(*_exhibits(found, fooled_by), *every_sample(found, len(samples))),
        robust_accuracy=Metric(
            verdict.held / verdict.n,
            name="robust accuracy",
            n=verdict.n,
            count=verdict.held,
            ci95=verdict.interval,
            higher_is_better=True,
            bounds=(0, 1),
            help=f"Share of samples that are classified correctly and stay so under attack.{counted}",
            story=tuple(story),
            column="" if verdict.stopped else "robust",
            statistic="" if verdict.stopped else "share",
        ),
        clean_accuracy=share(
            correct, name="clean accuracy", help="Share classified correctly without an attack.", column="correct"
        ),
        attack_success_rate=share(
            ~verdict.holds[correct],
            name="attack success rate",
            higher_is_better=False,
            help=f"Share of the correctly classified samples that were fooled.{counted}",
        ),
        attacks=names,
        complete=not verdict.stopped,
        per_class=_per_class(model, by_label, f"Share that held of its samples looked at.{counted}", tuple(story)),
    )


def _per_class(
    model: AuditModel, held_by_label: Mapping[int, NDArray[np.bool_]], help: str, story: tuple[str, ...]
) -> dict[str, Metric]:
    """Robust accuracy by class name; of classes that share a name, by name and number."""
    times = Counter(map(model.class_name, held_by_label))
    names = {
        label: name if times[name := model.class_name(label)] == 1 else f"{name} ({label})" for label in held_by_label
    }
    return {
        names[label]: share(held, name=f"robust accuracy of {names[label]}", help=help, story=story)
        for label, held in held_by_label.items()
    }


def _exhibits(found: Part, fooled_by: Sequence[tuple[str, int]]) -> tuple[Exhibit | Table, ...]:
    texts = {
        "fooled": (
            "Fooled by the least",
            "The smallest perturbations that fooled come first. Both differences are signed and centred on grey.",
        ),
        "robust": ("Held out", "Still classified correctly after every attack, the least certain first."),
    }
    rows = tuple(
        Exhibit(*texts[name], rows=found.kept[name].shown, columns=COLUMNS) for name in texts if found.kept[name].rows
    )
    if len(fooled_by) == 1:
        return rows
    n = len(found)
    wrong = int((~found["correct"]).sum())
    held, spared = (int((found["robust"] & met).sum()) for met in (found["settled"], ~found["settled"]))
    stages = [("no attack (misclassified as it is)", wrong), *fooled_by, ("nothing", held)]
    stages += [("nothing yet: spared, as the verdict was certain", spared)] if spared else []
    table = Table(
        "Which attack fooled whom",
        "Each attack meets only what those above it have left standing.",
        ("fooled first by", "samples", "share"),
        tuple(TableRow((name, str(count), figure(count / n))) for name, count in stages),
    )
    return (*rows, table)
