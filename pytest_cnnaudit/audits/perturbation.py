"""How small a perturbation is enough to fool the model?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.attacks.cascade import AttackChoice, bind
from pytest_cnnaudit.attacks.norms import Norm, check_norm
from pytest_cnnaudit.audits.attacked import BATCHES, COLUMNS, told_figures
from pytest_cnnaudit.audits.every_sample import Told, counted, every_sample, with_tiles
from pytest_cnnaudit.audits.radii import radius
from pytest_cnnaudit.audits.settings import described, run_settings
from pytest_cnnaudit.audits.smallest import Smallest
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.results import Chart, Exhibit, Mark, Measurement, Metric
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.statistics import quantile, rank, share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PerturbationMeasurement(Measurement):
    """The smallest perturbations found, in pixel units. `per_sample`: label, correct, perturbation (0 where the model
    is wrong already, infinite where nothing was found), found_by (index into `attacks`), clean_prediction,
    clean_confidence, adversarial_prediction, adversarial_confidence.
    """

    median: Metric
    quantiles: Mapping[float, Metric]
    clean_accuracy: Metric
    fooled: Metric
    attacks: tuple[str, ...]

    def quantile(self, q: float) -> Metric:
        """The perturbation that the share `q` of the samples does not exceed."""
        known = {0.5: self.median, **self.quantiles}.get(q)
        return _quantile(self.per_sample["perturbation"], q, self.median.story) if known is None else known


def measure_min_perturbation(
    model: AuditModel,
    samples: Samples,
    engine: Engine,
    *,
    norm: Norm = "l2",
    attack: AttackChoice = "auto",
    eight_bit: bool = False,
    at_least: Mapping[float, float] | None = None,
    options: Mapping[str, Any],
) -> PerturbationMeasurement:
    """For each sample the smallest perturbation that any of the attacks finds.

    What an attack returns counts only once the model itself, as it was given, is seen to be fooled by it within [0, 1];
    where rounding keeps it on the right side of the boundary, it is pushed out a little. An upper bound, as from any
    attack: there may be smaller ones.

    Args:
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
        attack: ``"auto"`` (`nearest`), the name of an attack that looks for the smallest perturbation, any callable
            ``(model, images, labels) -> images``, or a sequence of those.
        eight_bit: measure what is left of it, and still fools, when the image is rounded to 8 bits.
        at_least: thresholds by quantile; stop as soon as it is certain for these samples that all are reached, or that
            one is missed: see `certain_verdicts`.
        options: further keyword arguments of the attack.
    """
    check_norm(norm)
    thresholds = dict(at_least or {})
    for q in thresholds:
        _check_quantile(q)
    attacks = bind(attack, norm=norm, eps=None, options=options)
    n = len(samples)
    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:
        search = Smallest(model, borrowed, attacks, norm, engine, engine.at_once(samples), eight_bit=eight_bit)

        def step(batch: Batch) -> Part:
            return _with_tiles(search(batch), batch, model, norm, tuple(each.name for each in attacks))

        found = engine.measure(
            samples,
            step,
            title=f"smallest perturbation {norm}",
            batches=BATCHES if at_least is None else 1,
            decided=lambda part: at_least is not None and _is_decided(part["perturbation"], n, thresholds),
        )
        cost = borrowed.cost
    size, names = found["perturbation"], tuple(each.name for each in attacks)
    run = described(attack, names)
    rounding = ", rounded to 8 bits" if eight_bit else ""
    never = int(np.isinf(size).sum())
    story = [f"attack: {run}, {norm}, pixel values in [0, 1]{rounding}, seed {engine.seed}"]
    if never:
        story.append(f"nothing was found for {never} of {len(found)} samples")
    if len(found) < n:
        story.append(f"stopped as soon as the verdict was certain: after {len(found)} of {n} samples")
    told = tuple(story)
    return PerturbationMeasurement(
        kind="min_perturbation",
        title="Smallest perturbation",
        settings={
            "norm": norm,
            "attack": run,
            **({"rounded": "8 bits"} if eight_bit else {}),
            **run_settings(engine, options),
        },
        ids=samples[found.positions].ids,
        per_sample=found.columns,
        complete=len(found) == n,
        cost=cost,
        notes=tuple(f"{line[0].upper()}{line[1:]}." for line in story[1:]),
        exhibits=(
            _distribution(size, samples[found.positions].ids, norm),
            *_exhibits(found),
            *every_sample(found, n),
        ),
        median=_quantile(size, 0.5, told),
        quantiles={q: _quantile(size, q, told) for q in sorted({0.05, 0.25, 0.75, 0.95, *thresholds} - {0.5})},
        clean_accuracy=share(
            found["correct"],
            name="clean accuracy",
            help="Share classified correctly without an attack.",
            column="correct",
        ),
        fooled=share(np.isfinite(size), name="fooled", higher_is_better=None, help="Share that anything fools at all."),
        attacks=names,
    )


def certain_verdicts(size: NDArray[np.floating], n: int, thresholds: Mapping[float, float]) -> dict[float, bool]:
    """Whether the perturbations of all `n` samples reach a threshold, where those not seen yet cannot change that.

    The quantile q of all is below a threshold exactly if as many as its rank are. What is certain of all holds for the
    quantile of those seen, too; of other thresholds the samples seen say nothing for certain.

    Args:
        size: the perturbations seen so far.
        n: how many samples there are.
        thresholds: least perturbations by quantile.

    Returns:
        By quantile, in the order of the thresholds: True where it is reached, False where it is missed.
    """
    seen, left = size.astype(np.float64), n - len(size)  # as the assertion compares: not rounded to the size's float32
    below = {q: int((seen < limit).sum()) for q, limit in thresholds.items()}
    return {q: count < rank(q, n) for q, count in below.items() if not count < rank(q, n) <= count + left}


def _is_decided(size: NDArray[np.floating], n: int, thresholds: Mapping[float, float]) -> bool:
    certain = certain_verdicts(size, n, thresholds)
    return len(certain) == len(thresholds) or not all(certain.values())


def _check_quantile(q: float) -> None:
    if not 0 < q < 1:
        raise AuditError(f"The quantile {q} is not between 0 and 1.")


def _quantile(size: NDArray[np.floating], q: float, story: tuple[str, ...]) -> Metric:
    _check_quantile(q)
    percent = f"{100 * q:.6g}%"
    name = "median perturbation" if q == 0.5 else f"{percent} quantile of the perturbation"
    text = f"At most {percent} of the samples are fooled by less; where the model is wrong already it is 0."
    return quantile(size, q, name=name, help=text, story=story, least=0, column="perturbation")


def _exhibits(found: Part) -> tuple[Exhibit, ...]:
    texts = {
        "nearest": ("Nearest to being fooled", "The smallest perturbations, smallest first."),
        "farthest": ("Farthest from being fooled", "The largest of the smallest perturbations, largest first."),
    }
    return tuple(
        Exhibit(
            title, f"{text} Both differences are signed and centred on grey.", found.kept[name].shown, columns=COLUMNS
        )
        for name, (title, text) in texts.items()
        if found.kept[name].rows
    )


def _with_tiles(found: Part, batch: Batch, model: AuditModel, norm: Norm, names: Sequence[str]) -> Part:
    """The same findings with a tile for each sample, the smallest perturbation first."""
    size = found["perturbation"]

    def tell(i: int) -> Told:
        status = "misclassified" if not found["correct"][i] else "robust" if np.isinf(size[i]) else ""  # as most are
        number = int(found["found_by"][i])
        return status, told_figures(model, norm, found, names[number] if number >= 0 else "", i)

    return with_tiles(found, batch, size, tell)


def _distribution(size: NDArray[np.floating], ids: Sequence[str], norm: Norm) -> Chart:
    """How many samples fall by how much; the last bin is for those that nothing fooled."""
    scale, unit = (255, " (1/255)") if norm == "linf" else (1, "")
    finite = size[np.isfinite(size)] * scale
    top = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    edges = np.linspace(0, top, 1 + (min(24, max(int(top), 6)) if norm == "l0" else 24))
    bars = counted(size * scale, edges, ids, open_ended=bool(np.isinf(size).any()))
    median = float(np.quantile(size, 0.5, method="inverted_cdf")) * scale
    name = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "values changed"}[norm]
    return Chart(
        "Distribution of the smallest perturbations",
        "How many samples it takes how much to fool; those at 0 are misclassified as they are.",
        f"{name}{unit}",
        "samples",
        (bars,),
        x_marks=(Mark(median, f"median {radius(median / scale, norm)}"),) if math.isfinite(median) else (),
    )
