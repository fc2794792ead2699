"""Questions that make images: what the model wants to see, what it dreams of, and what it takes noise for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from pytest_cnnaudit.audits.dream import DreamMeasurement, Layers, measure_dream
from pytest_cnnaudit.audits.fooling_images import FoolingImagesMeasurement, measure_fooling_images
from pytest_cnnaudit.audits.targets import TargetLike, named_targets
from pytest_cnnaudit.audits.visualize import VisualizeMeasurement, measure_visualize
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.recipes import Recipe
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require
from pytest_cnnaudit.samples import Samples

Size = int | tuple[int, int]


class SynthesisQuestions(Asker):
    """Gradient ascent, DeepDream and fooling images."""

    def visualize(
        self,
        target: TargetLike | Iterable[TargetLike],
        *,
        recipe: str | Recipe | None = None,
        start: str | Tensor | None = None,
        size: Size | None = None,
        **settings: Any,
    ) -> VisualizeMeasurement:
        """Images made by gradient ascent for a class, a channel or a neuron, or for a list of them at once.

        Needs no samples, where the model's `input_size` or `size=` says how large the images are.

        Args:
            target: a class by number or name, ``("layer", channel)``, ``("layer", channel, (row, column))``, or a list.
            recipe: ``"olah"`` (the default: Fourier parametrisation, decorrelated colours, random moves),
                ``"simonyan"`` (L2, a little jitter), ``"yosinski"`` (blur and clipping), ``"nguyen"`` (mean start,
                centre bias, less and less blur), ``"plain"``, or a `Recipe`.
            start: ``"noise"``, ``"zero"``, ``"mean"``, or images in [0, 1]; the recipe's where None.
            size: a side in pixels, or (height, width).
            settings: of the recipe, changed: ``steps=256``, ``tv=0.01``, ….

        Raises:
            AuditError: there is no such target, recipe or setting, or the size is not known.
        """
        return self._measured(
            measure_visualize,
            self.model,
            self._samples,
            self._engine,
            target=target,
            recipe=recipe,
            start=start,
            size=size,
            settings=settings,
        )

    def assert_visualizes(
        self,
        target: TargetLike | Iterable[TargetLike],
        *,
        min_score: float | None = None,
        min_confidence: float | None = None,
        recipe: str | Recipe | None = None,
        start: str | Tensor | None = None,
        size: Size | None = None,
        **settings: Any,
    ) -> VisualizeMeasurement:
        """Gradient ascent reaches the score, for every target: what stands for something can be shown.

        With no threshold, every class must be seen as such in its own image. A channel or a neuron needs `min_score`: a
        dead one never answers more than 0.

        Args:
            min_score: of every final score: a logit, or the answer of the channel or neuron.
            min_confidence: of the softmax probability of every class in its image.

        Other arguments are those of `visualize`.

        Raises:
            AssertionError: a score is not reached.
            AuditError: there is no threshold for a channel, or none of the targets is a class, or as in `visualize`.
        """
        if min_confidence is not None:
            check_share("min_confidence", min_confidence)
        targets = list(named_targets(self.model, target))
        classes = sum(each.layer is None for each in targets)
        if min_confidence is not None and not classes:
            raise AuditError(
                f"min_confidence={min_confidence} is for classes, and none of the targets is one; give min_score."
            )
        if min_score is None and classes < len(targets):
            raise AuditError(
                "A channel or a neuron has no confidence to reach; give min_score, for example min_score=1."
            )
        found = self.visualize(targets, recipe=recipe, start=start, size=size, **settings)
        if min_score is not None:
            require(found.score, ">=", min_score)
        if min_confidence is not None:
            require(found.confidence, ">=", min_confidence)
        if min_score is None and min_confidence is None:
            require(found.reached, ">=", 1)
        return found

    def dream(self, images: Samples | Tensor | None, layer: Layers, **settings: Any) -> DreamMeasurement:
        """DeepDream: more of what a layer, or a mix of layers, sees in each image. To be looked at.

        Args:
            images: samples, or a tensor N×C×H×W or C×H×W, in [0, 1] or of bytes; all samples where None.
            layer: a name, a list of names, or a mapping from names to weights.
            settings: of `deep_dream`: ``octaves=4``, ``octave_scale=1.4``, ``steps=10``, ``step_size=1.5 / 255``,
                ``jitter=0.14``, ``tile=512``.

        Raises:
            AuditError: there is no such layer or setting, or the model does not take images of the octaves' sizes.
        """
        return self._measured(
            measure_dream,
            self.model,
            self.samples if images is None else images,
            self._engine,
            layer=layer,
            settings=settings,
        )

    def fooling_images(
        self,
        classes: TargetLike | Iterable[TargetLike] | None = None,
        *,
        noises: int = 3,
        confidence: float = 0.99,
        eps: float | None = 8 / 255,
        steps: int = 40,
        size: Size | None = None,
    ) -> FoolingImagesMeasurement:
        """Whether noise can be made to look like a class with certainty.

        Args:
            classes: by number or name; ten, drawn from all, where None.
            noises: how many different noises; each is tried for each class.
            confidence: the softmax probability that is certainty.
            eps: the most that a pixel may change (L∞), so that noise stays noise; None for no such limit.
            steps: up the gradient, at most.
            size: a side in pixels, or (height, width).

        Raises:
            AuditError: there is no such class, a limit does not do, or the size is not known.
        """
        return self._fooling_images(classes, noises, confidence, eps, steps, size)

    def assert_rejects_noise(
        self,
        classes: TargetLike | Iterable[TargetLike] | None = None,
        *,
        confidence: float = 0.99,
        max_share: float = 0.0,
        noises: int = 3,
        eps: float | None = 8 / 255,
        steps: int = 40,
        size: Size | None = None,
    ) -> FoolingImagesMeasurement:
        """The model is certain of no noise: neither as it is, nor within `eps` after `steps` up a class's gradient.

        Stops as soon as too many pairs are certain. That it passes is a statement about these noises, classes, steps
        and eps alone.

        Args:
            confidence: the softmax probability that no noise may reach.
            max_share: of the noises, and of the pairs of a noise and a class, that may reach it all the same.

        Other arguments are those of `fooling_images`.

        Raises:
            AssertionError: the model is certain of too much noise.
            AuditError: as in `fooling_images`.
        """
        check_share("max_share", max_share)
        found = self._fooling_images(classes, noises, confidence, eps, steps, size, max_share)
        require(found.certain, "<=", max_share)
        require(found.noise_certain, "<=", max_share)
        return found

    def _fooling_images(
        self,
        classes: TargetLike | Iterable[TargetLike] | None,
        noises: int,
        confidence: float,
        eps: float | None,
        steps: int,
        size: Size | None,
        at_most: float | None = None,
    ) -> FoolingImagesMeasurement:
        return self._measured(
            measure_fooling_images,
            self.model,
            self._samples,
            self._engine,
            classes=classes,
            noises=noises,
            confidence=confidence,
            eps=eps,
            steps=steps,
            size=size,
            at_most=at_most,
        )
