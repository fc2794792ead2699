"""How small a perturbation is enough?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_cnnaudit.attacks.cascade import AttackChoice
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.perturbation import PerturbationMeasurement, certain_verdicts, measure_min_perturbation
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.questions.asker import Asker
from pytest_cnnaudit.results import require


class PerturbationQuestions(Asker):
    """Of the smallest perturbations."""

    def min_perturbation(
        self, norm: Norm = "l2", attack: AttackChoice = "auto", *, eight_bit: bool = False, **options: Any
    ) -> PerturbationMeasurement:
        """For each sample the smallest perturbation that fools; see `measure_min_perturbation`."""
        return self._min_perturbation(norm, attack, eight_bit, options)

    def assert_min_perturbation(
        self,
        norm: Norm = "l2",
        *,
        median: float | None = None,
        quantiles: Mapping[float, float] | None = None,
        attack: AttackChoice = "auto",
        eight_bit: bool = False,
        **options: Any,
    ) -> PerturbationMeasurement:
        """It takes a perturbation of some size to fool the model.

        Stops as soon as the verdict for these samples is certain.

        Args:
            norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
            median: at least this, in pixel units, for half of the samples.
            quantiles: the least size by quantile: ``{0.05: 0.1}`` lets fewer than 5% of the samples fall by less than
                0.1.
            attack: see `measure_min_perturbation`.
            eight_bit: measure images rounded to 8 bits.
            options: go to the attack.

        Raises:
            AssertionError: a quantile is smaller.
            AuditError: there is no threshold, or two for the median; there is no such norm or attack, ….
        """
        quantiles = quantiles or {}
        if median is not None and 0.5 in quantiles:
            raise AuditError(
                f"median={median} and quantiles={{0.5: {quantiles[0.5]}}} are thresholds of the same figure; give one."
            )
        thresholds = {**({} if median is None else {0.5: median}), **quantiles}
        if not thresholds:
            raise AuditError("assert_min_perturbation needs median=, or quantiles= such as {0.05: 0.1}.")
        found = self._min_perturbation(norm, attack, eight_bit, options, thresholds)
        for q in certain_verdicts(found.per_sample["perturbation"], len(self.samples), thresholds):
            require(found.quantile(q), ">=", thresholds[q])
        return found

    def _min_perturbation(
        self,
        norm: Norm,
        attack: AttackChoice,
        eight_bit: bool,
        options: Mapping[str, Any],
        at_least: Mapping[float, float] | None = None,
    ) -> PerturbationMeasurement:
        return self._asked(
            measure_min_perturbation,
            norm=norm,
            attack=attack,
            eight_bit=eight_bit,
            at_least=at_least,
            options=options,
        )
