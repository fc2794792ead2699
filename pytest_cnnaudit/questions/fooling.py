"""What turns one class into another?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_cnnaudit.attacks.cascade import AttackChoice
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.fooling import FoolingMeasurement, measure_fooling
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.questions.asker import Asker
from pytest_cnnaudit.results import require
from pytest_cnnaudit.samples import Samples


class FoolingQuestions(Asker):
    """Of the change that it takes to see another class."""

    def fool(
        self,
        images: Samples | Tensor | None,
        target: int | str,
        norm: Norm = "l2",
        *,
        confidence: float | None = None,
        attack: AttackChoice = "auto",
        **options: Any,
    ) -> FoolingMeasurement:
        """The smallest change after which the model sees `target` in each of `images`; see `measure_fooling`.

        Args:
            images: samples; or a tensor of images N×C×H×W, or of one C×H×W, in [0, 1] or of bytes; all samples of the
                audit where None.
            target: the class to reach, by its number or name.
            norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.
            confidence: softmax probability that the target must reach; None is more than any other class.
            attack: a search for the smallest perturbation that can aim.
            options: go to the attack.

        Raises:
            AuditError: `images` are something else, there is no such class or attack, ….
        """
        return self._measured(
            measure_fooling,
            self.model,
            self.samples if images is None else images,
            self._engine,
            target=target,
            norm=norm,
            confidence=confidence,
            attack=attack,
            options=options,
        )

    def assert_fooling_needs(
        self,
        images: Samples | Tensor | None,
        target: int | str,
        norm: Norm = "l2",
        *,
        at_least: float,
        confidence: float | None = None,
        attack: AttackChoice = "auto",
        **options: Any,
    ) -> FoolingMeasurement:
        """No image can be turned into `target` by a change smaller than `at_least`, in pixel units.

        Raises:
            AssertionError: a smaller change does it.
            AuditError: all images are `target` as they are, or anything that `fool` raises.
        """
        found = self.fool(images, target, norm, confidence=confidence, attack=attack, **options)
        if not found.smallest.n:
            raise AuditError(
                f"Nothing is left to turn into {found.settings['target']}: all {len(found.ids)} images are that from "
                "the start. Give images of other classes, or another target."
            )
        require(found.smallest, ">=", at_least)
        return found
