"""How does the robust accuracy fall as the perturbation grows?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_cnnaudit.attacks.cascade import AttackChoice, Auto, Bound, bind
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.attacked import BATCHES, COLUMNS, Attacked
from pytest_cnnaudit.audits.classify import Clean, classify
from pytest_cnnaudit.audits.every_sample import Told, every_sample, in_turn, members, with_tiles
from pytest_cnnaudit.audits.radii import checked_radii, radius
from pytest_cnnaudit.audits.settings import check_auto, described, run_settings
from pytest_cnnaudit.audits.smallest import Smallest
from pytest_cnnaudit.engine import Engine, Kept, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Chart, Exhibit, Line, Measurement, Metric
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import mean, share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RobustnessCurve(Measurement):
    """Robust accuracy at each of `eps`, ascending. `per_sample`: label, correct, and falls (index of the smallest eps
    that fools the sample; as many as there are eps where none does, 0 where the model is wrong already).
    """

    mean_robust_accuracy: Metric
    clean_accuracy: Metric
    robust_accuracy: Mapping[float, Metric]
    eps: tuple[float, ...]

    def at(self, eps: float) -> Metric:
        """The robust accuracy at one of the radii, whatever its rounding in float32; an `AuditError` for another."""
        nearest = min(self.eps, key=lambda known: abs(known - eps))
        if abs(nearest - eps) <= 1e-6 * nearest:
            return self.robust_accuracy[nearest]
        raise AuditError(f"eps={eps} was not measured; the curve has {', '.join(map(str, self.eps))}.")


def measure_curve(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    norm: Norm = "linf",
    eps: Iterable[float],
    attack: AttackChoice = "auto",
    auto: Auto = "fast",
    options: Mapping[str, Any],
) -> RobustnessCurve:
    """Robust accuracy over several radii, for little more than the price of one.

    What fools a sample at one radius fools it at every larger one; and where an attack finds nothing at one radius,
    there is nothing for it to find at a smaller one, whose ball lies inside. So each sample is first searched for its
    smallest perturbation, and then attacked at the largest radius below it: mostly that settles all radii.

    Args:
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
        eps: radii in pixel units, in any order.
        attack: as for `measure_robustness`.
        auto: as for `measure_robustness`.
        options: further keyword arguments of the attack.
    """
    check_auto(auto, attack)
    radii = checked_radii(norm, eps)
    cascades = [bind(attack, norm=norm, eps=each, auto=auto, options=options) for each in radii]
    if attack == "auto":  # what it finds, the search for the smallest perturbation has found
        cascades = [tuple(each for each in cascade if each.name != "nearest") or cascade for cascade in cascades]
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        at_once = engine.at_once(samples)
        search = Smallest(model, borrowed, bind("auto", norm=norm, eps=None, options={}), norm, engine, at_once)
        settle = Attacked(model, borrowed, cascades[0], norm, radii[0], False, None, engine, at_once, drawn=False)
        step = _Step(search, settle, cascades, np.array(radii))
        found = engine.measure(samples, step, title=f"robustness curve {norm}", batches=BATCHES)
        cost = borrowed.cost
    names = tuple(dict.fromkeys(["nearest", *(each.name for each in cascades[0])]))
    run = described(attack, names, auto)
    story = f"attack: {run}, {norm}, eps {radius(radii[0], norm)} to {radius(radii[-1], norm)}, seed {engine.seed}"
    held = {each: found["falls"] > index for index, each in enumerate(radii)}
    share_held = np.mean(list(held.values()), axis=0)
    return RobustnessCurve(
        kind="robustness_curve",
        title="Robust accuracy over eps",
        settings={
            "norm": norm,
            "eps": ", ".join(radius(each, norm) for each in radii),
            "attack": run,
            **run_settings(engine, options),
        },
        ids=samples[found.positions].ids,
        per_sample={**found.columns, "share_held": share_held},
        cost=cost,
        exhibits=(
            _chart(model, found, samples[found.positions].ids, held, norm),
            *_rows(found),
            *every_sample(found, len(samples)),
        ),
        mean_robust_accuracy=mean(
            share_held,
            name="mean robust accuracy",
            column="share_held",
            story=(story,),
            help="The robust accuracy, averaged over the radii of the curve.",
        ),
        clean_accuracy=share(
            found["correct"],
            name="clean accuracy",
            help="Share classified correctly without an attack.",
            column="correct",
        ),
        robust_accuracy={
            each: share(values, name=f"robust accuracy at {radius(each, norm)}", story=(story,))
            for each, values in held.items()
        },
        eps=radii,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Places one batch on the curve."""

    search: Smallest
    settle: Attacked
    cascades: Sequence[tuple[Bound, ...]]
    eps: NDArray[np.floating]

    def __call__(self, batch: Batch) -> Part:
        settle = self.settle
        clean = classify(settle.model, settle.borrowed, batch, settle.at_once)
        nearest = self.search(batch, clean)
        falls = self._reached(nearest["perturbation"])
        holds = np.full(len(batch), -1)  # the largest radius at which the attack is known to find nothing
        while (open_ones := falls > holds + 1).any():
            index = int(falls[open_ones].max()) - 1  # just below what is known to fool
            chosen = np.flatnonzero(open_ones & (falls == index + 1))
            attacked = self._attack(batch, clean, chosen, index)
            fooled = attacked["broken_by"] >= 0
            holds[chosen[~fooled]] = index
            smaller = np.minimum(index, self._reached(attacked["perturbation"][fooled]))
            falls[chosen[fooled]] = smaller
        columns = {name: nearest[name] for name in ("label", "correct")} | {"falls": falls}
        return self._with_tiles(Part(batch.positions, columns, nearest.kept), batch, clean, nearest["perturbation"])

    def _with_tiles(self, found: Part, batch: Batch, clean: Clean, size: NDArray[np.floating]) -> Part:
        """The same findings with a tile for each sample, the smallest radius first."""
        falls, correct, model, norm = found["falls"], found["correct"], self.settle.model, self.settle.norm
        groups = [(correct & (falls == index), size) for index in range(len(self.eps) + 1)]
        prediction, confidence = clean.prediction.tolist(), clean.confidence.tolist()

        def tell(i: int) -> Told:
            figures = {
                "label": model.class_name(batch.samples[i].label),
                "prediction": f"{model.class_name(prediction[i])} {confidence[i]:.2f}",
            }
            if not correct[i]:
                return "misclassified", figures
            if falls[i] == len(self.eps):
                return "robust", figures
            return "fooled", {**figures, "falls at": radius(float(self.eps[falls[i]]), norm)}

        return with_tiles(found, batch, in_turn((~correct, 1 - clean.confidence.cpu().numpy()), *groups), tell)

    def _reached(self, size: NDArray[np.floating]) -> NDArray[np.int64]:
        """The index of the smallest radius that a perturbation fits in; as many as there are where none does."""
        return np.searchsorted(self.eps * (1 + 1e-6), size).astype(np.int64)

    def _attack(self, batch: Batch, clean: Clean, chosen: NDArray[np.int64], index: int) -> Part:
        part = torch.as_tensor(chosen, device=batch.images.device)
        samples = tuple(batch.samples[each] for each in chosen)
        few = Batch(np.arange(len(chosen)), samples, batch.images[part], batch.labels[part])
        return replace(self.settle, cascade=self.cascades[index], eps=float(self.eps[index]))(few, clean.of(part))


def _chart(
    model: AuditModel, found: Part, ids: Sequence[str], held: Mapping[float, NDArray[np.bool_]], norm: Norm
) -> Chart:
    correct = found["correct"]
    scale, unit = (255, " (1/255)") if norm == "linf" else (1, "")
    points = [
        (0.0, share(correct, name="")),
        *((each * scale, share(values, name="")) for each, values in held.items()),
    ]
    ends = [metric.ci95 or (metric, metric) for _, metric in points]
    line = Line(
        model.name,
        [x for x, _ in points],
        [float(metric) for _, metric in points],
        [float(low) for low, _ in ends],
        [float(high) for _, high in ends],
        members(np.where(correct, 1 + found["falls"], 0), ids, len(points)),
    )
    return Chart(
        "Robustness curve",
        "The share still classified correctly after the attack, with its 95% interval; at 0 without an attack."
        + (" A point counts the samples that fall there, and not before." if line.samples else ""),
        f"eps, {norm}{unit}",
        "robust accuracy",
        (line,),
        y_range=(0, 1),
    )


def _rows(found: Part) -> tuple[Exhibit, ...]:
    kept: Kept = found.kept["nearest"]
    text = "The smallest perturbations, smallest first. Both differences are signed and centred on grey."
    return (Exhibit("Nearest to being fooled", text, kept.shown, columns=COLUMNS),) if kept.rows else ()
