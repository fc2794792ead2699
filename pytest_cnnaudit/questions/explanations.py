"""Can an attribution method be believed?"""

from __future__ import annotations

from typing import Any

from pytest_cnnaudit.audits.explainer import Method, Target
from pytest_cnnaudit.audits.faithfulness import FaithfulnessMeasurement, Reference, measure_faithfulness
from pytest_cnnaudit.audits.sanity import SanityMeasurement, measure_sanity
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.baseline import Baseline
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require

SIMILARITY = 0.75
"""Default. With all layers re-initialised, the maps of ten methods on three networks had up to 0.51 (Eigen-CAM, which
asks for no class, up to 0.66); those of an edge detector have 1."""


class ExplanationQuestions(Asker):
    """Of attribution methods, with this model."""

    def saliency_faithfulness(
        self,
        method: Method = "grad_cam",
        target: Target = None,
        *,
        layer: str | None = None,
        steps: int = 20,
        baseline: Baseline | None = None,
        sigma: float | None = None,
        reference: Reference = "moved",
        **options: Any,
    ) -> FaithfulnessMeasurement:
        """Insertion and deletion in the order of the map, beside a random order; see `measure_faithfulness`."""
        return self._asked(
            measure_faithfulness,
            method=method,
            target=target,
            layer=layer,
            steps=steps,
            baseline=baseline,
            sigma=sigma,
            reference=reference,
            options=options,
        )

    def assert_saliency_faithful(
        self,
        method: Method = "grad_cam",
        *,
        min_insertion: float | None = None,
        max_deletion: float | None = None,
        target: Target = None,
        layer: str | None = None,
        steps: int = 20,
        baseline: Baseline | None = None,
        sigma: float | None = None,
        reference: Reference = "moved",
        **options: Any,
    ) -> FaithfulnessMeasurement:
        """What the map calls important is what the model needs.

        Without a threshold: the map's order beats the random one both in insertion and in deletion, with the lower end
        of the 95% interval of the paired difference above 0. That holds of objects in the middle and a map that always
        points there, too.

        Args:
            method: one of `lenses.methods.METHODS` by name, an attribution of captum, or a callable ``(model, images,
                targets) -> attributions``.
            min_insertion: the area under the insertion curve is this or more. Areas depend on the model's confidence
                and on `steps`, `baseline` and `sigma`: take the figure from a run of your own.
            max_deletion: the area under the deletion curve is this or less.
            target: the class that is explained; the label where None.
            layer: for the methods that look at one; the last layer with a map where None.
            steps: in which all pixels are replaced.
            baseline: what deleted pixels become: by default the mean that the model normalises with, or grey.
            sigma: of the blur that pixels are inserted into, in pixels.
            reference: the random order: the same map ``"moved"`` to a random place, ``"blocks"`` or ``"pixels"``.
            options: go to the method.

        Raises:
            AssertionError: a threshold is missed, or the random order is as good.
            AuditError: there is no such method or layer, a setting does not fit the images, ….
        """
        for name, limit in (("min_insertion", min_insertion), ("max_deletion", max_deletion)):
            if limit is not None:
                check_share(name, limit)
        found = self._asked(
            measure_faithfulness,
            method=method,
            target=target,
            layer=layer,
            steps=steps,
            baseline=baseline,
            sigma=sigma,
            reference=reference,
            min_insertion=min_insertion,
            max_deletion=max_deletion,
            options=options,
        )
        if min_insertion is not None:
            require(found.insertion, ">=", min_insertion)
        if max_deletion is not None:
            require(found.deletion, "<=", max_deletion)
        if min_insertion is None and max_deletion is None:
            for gain in (found.insertion_over_random, found.deletion_under_random):
                if gain.ci95 is None:
                    raise AuditError("One sample is too few to tell the map's order from a random one; give more.")
                require(gain.ci95[0], ">", 0)
        return found

    def saliency_sanity(
        self,
        method: Method = "grad_cam",
        target: Target = None,
        *,
        layer: str | None = None,
        stages: int = 8,
        **options: Any,
    ) -> SanityMeasurement:
        """How alike the maps stay as the network's layers are re-initialised; see `measure_sanity`."""
        return self._asked(
            measure_sanity,
            method=method,
            target=target,
            layer=layer,
            stages=stages,
            options=options,
        )

    def assert_saliency_sane(
        self,
        method: Method = "grad_cam",
        *,
        max_similarity: float = SIMILARITY,
        target: Target = None,
        layer: str | None = None,
        stages: int = 8,
        **options: Any,
    ) -> SanityMeasurement:
        """The map follows from what was learnt: it is another one once the whole network is re-initialised.

        It shows that a method looks at the weights at all, as an edge detector does not; it does not show that it looks
        at the right ones. See the stages for a method that hardly minds what the last layers are.

        Args:
            method: one of `lenses.methods.METHODS` by name, an attribution of captum, or a callable ``(model, images,
                targets) -> attributions`` that looks at the `model` which it is given, and at no other.
            max_similarity: of the mean rank correlation of both maps.
            target: the class that is explained throughout; the label where None.
            layer: for the methods that look at one; the last layer with a map where None.
            stages: at most so many.
            options: go to the method.

        Raises:
            AssertionError: the maps are more alike, or more than half of them are constant and cannot be compared.
            AuditError: there is no such method or layer, the module cannot be copied, ….
        """
        check_share("max_similarity", max_similarity)
        found = self.saliency_sanity(method, target, layer=layer, stages=stages, **options)
        require(found.compared, ">=", 0.5)
        require(found.similarity, "<=", max_similarity)
        return found
