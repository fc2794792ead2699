"""Is the robustness real?"""

from __future__ import annotations

from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.masking import MaskingMeasurement, check_no_masking, measure_masking
from pytest_cnnaudit.questions.asker import Asker


class MaskingQuestions(Asker):
    """Of gradient masking."""

    def gradient_masking(
        self,
        norm: Norm = "linf",
        eps: float = 8 / 255,
        *,
        limit: int = 64,
        steps: int = 50,
        queries: int = 500,
        eot: int = 1,
    ) -> MaskingMeasurement:
        """The signs that robustness within `eps` is only apparent, each by a check; see `measure_masking`."""
        return self._asked(
            measure_masking,
            norm=norm,
            eps=eps,
            limit=limit,
            steps=steps,
            queries=queries,
            eot=eot,
        )

    def assert_no_gradient_masking(
        self,
        norm: Norm = "linf",
        eps: float = 8 / 255,
        *,
        limit: int = 64,
        steps: int = 50,
        queries: int = 500,
        eot: int = 1,
    ) -> MaskingMeasurement:
        """No check of the list raises the suspicion that attacks find less than there is; see `measure_masking`.

        Raises:
            AssertionError: checks fail; each is named, with what it means and what to do.
        """
        found = self.gradient_masking(norm, eps, limit=limit, steps=steps, queries=queries, eot=eot)
        check_no_masking(found)
        return found
