"""How many samples hold within eps?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_cnnaudit.attacks.cascade import AttackChoice, Auto
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.curve import RobustnessCurve, measure_curve
from pytest_cnnaudit.audits.robustness import AttackMeasurement, measure_robustness
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require


class RobustnessQuestions(Asker):
    """Of accuracy under attack."""

    def attack(
        self,
        norm: Norm = "linf",
        eps: float | None = None,
        attack: AttackChoice = "auto",
        targeted: bool = False,
        *,
        auto: Auto = "fast",
        target: int | None = None,
        **options: Any,
    ) -> AttackMeasurement:
        """Accuracy under attack within `eps`; see `measure_robustness`.

        Further keywords go to the attack, as in ``audit.attack("linf", 4 / 255, attack="pgd", steps=20)``.
        """
        return self._asked(
            measure_robustness,
            norm=norm,
            eps=eps,
            attack=attack,
            auto=auto,
            targeted=targeted,
            target=target,
            options=options,
        )

    def assert_robust(
        self,
        norm: Norm = "linf",
        eps: float | None = None,
        *,
        min_accuracy: float,
        confidence: float | None = None,
        attack: AttackChoice = "auto",
        auto: Auto = "fast",
        targeted: bool = False,
        target: int | None = None,
        **options: Any,
    ) -> AttackMeasurement:
        """At least `min_accuracy` of the samples are classified correctly and stay so within `eps`.

        Stops as soon as the verdict for these samples is certain: what it did not need to settle then counts against
        the model. With `confidence`, it may stop earlier, as soon as the verdict is decided with that probability for
        the population that the samples are drawn from.

        Raises:
            AssertionError: the robust accuracy is lower.
            AuditError: there is no such norm or attack, a label is out of range, ….
        """
        check_share("min_accuracy", min_accuracy)
        found = self._asked(
            measure_robustness,
            norm=norm,
            eps=eps,
            attack=attack,
            auto=auto,
            targeted=targeted,
            target=target,
            at_least=min_accuracy,
            confidence=confidence,
            options=options,
        )
        require(found.robust_accuracy, ">=", min_accuracy)
        return found

    def robustness_curve(
        self,
        norm: Norm = "linf",
        eps: Iterable[float] = (),
        attack: AttackChoice = "auto",
        *,
        auto: Auto = "fast",
        **options: Any,
    ) -> RobustnessCurve:
        """Robust accuracy over several `eps`, for little more than the price of one; see `measure_curve`."""
        return self._asked(
            measure_curve,
            norm=norm,
            eps=eps,
            attack=attack,
            auto=auto,
            options=options,
        )
