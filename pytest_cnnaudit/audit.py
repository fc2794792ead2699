"""`Audit`: what a test holds in its hand. It measures, asserts, and keeps what it measured for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from pytest_cnnaudit.attacks.cascade import AttackChoice, Auto
from pytest_cnnaudit.attacks.norms import Norm
from pytest_cnnaudit.audits.curve import RobustnessCurve, measure_curve
from pytest_cnnaudit.audits.filters import FEWEST_KERNELS, FilterMeasurement, measure_filters
from pytest_cnnaudit.audits.fooling import FoolingMeasurement, measure_fooling
from pytest_cnnaudit.audits.masking import MaskingMeasurement, check_no_masking, measure_masking
from pytest_cnnaudit.audits.perturbation import PerturbationMeasurement, certain_verdicts, measure_min_perturbation
from pytest_cnnaudit.audits.robustness import AttackMeasurement, measure_robustness
from pytest_cnnaudit.audits.saliency import SCORES, Method, SaliencyMeasurement, Score, measure_saliency
from pytest_cnnaudit.engine import Engine, resolve_device
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, Precision
from pytest_cnnaudit.results import Measurement, require
from pytest_cnnaudit.samples import Samples

M = TypeVar("M", bound=Measurement)

GRID_ENERGY = 0.4
"""Default for Grad-CAM at the last stage on 2×2 grids: trained networks have 0.66 to 0.73, untrained 0.20 to 0.25."""


class Audit:
    """Measurements of one model on some samples, each with a named assertion.

    In a test it comes as the fixture `audit`; anywhere else, make one: ``Audit(model, samples)``. A plain measurement
    always runs to its end; an assertion may stop as soon as its verdict is certain, and returns its measurement.

    Args:
        model: the model under audit.
        samples: what it is measured on; None is enough for `filters`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        seed: every random draw follows from it, from `scope` and from the sample's id.
        scope: sets this audit's draws apart from those of others with the same seed: in a test, the test's id.
        batch_size: samples at a time; chosen by the size of an image where None, and halved when memory runs out.
        precision: of the passes that attacks make, ``"float32"`` or ``"bfloat16"``; what they find is always confirmed
            in the model's own.
        link: where the report of this audit will be, for failure messages.
    """

    def __init__(
        self,
        model: AuditModel,
        samples: Samples | None = None,
        *,
        device: str = "auto",
        seed: int = 0,
        scope: str = "",
        batch_size: int | None = None,
        precision: Precision = "float32",
        link: str = "",
    ) -> None:
        if not isinstance(model, AuditModel):
            raise AuditError(
                f"An audit needs an AuditModel, but was given {type(model).__name__}: "
                "wrap the model, AuditModel(model, mean=..., std=...)."
            )
        if samples is not None and not isinstance(samples, Samples):
            raise AuditError(
                f"An audit needs Samples, but was given {type(samples).__name__}: "
                "use Samples.from_folder, Samples.from_dataset or Samples.from_tensors."
            )
        if batch_size is not None and batch_size < 1:
            raise AuditError(f"batch_size={batch_size} is not a number of samples; give 1 or more, or None to choose.")
        if precision not in get_args(Precision):
            raise AuditError(f"There is no precision {precision!r}; use 'float32' or 'bfloat16'.")
        self.model = model
        self._samples = samples
        self.device = resolve_device(device)
        self.seed = seed
        self._engine = Engine(self.device, batch_size, seed, scope, precision)
        self.link = link
        self.measurements: list[Measurement] = []

    @property
    def samples(self) -> Samples:
        """The samples; an `AuditError` where none were given."""
        if self._samples is None:
            raise AuditError(
                "This measurement needs samples: define the fixture audit_samples, or pass Audit(model, samples)."
            )
        return self._samples

    def _keep(self, measurement: M) -> M:
        self.measurements.append(measurement.linked(self.link))
        return measurement

    # Filters -----------------------------------------------------------------------------------------------------

    def filters(self, layer: str | None = None) -> FilterMeasurement:
        """Figures and pictures of a convolution's filters (the first one by default). See `FilterMeasurement`."""
        return self._keep(measure_filters(self.model, layer))

    def assert_filters_smooth(
        self,
        layer: str | None = None,
        *,
        max_roughness: float | None = None,
        max_variance_entropy_ratio: float | None = None,
        min_structured: float | None = None,
        max_dead: float | None = None,
    ) -> FilterMeasurement:
        """The filters are more than noise.

        With thresholds, these are judged. With none, the layer is held against white noise of its own shape: at least a
        quarter of the live filters must be ones that noise would not produce, the variance-entropy ratio must be at
        most 0.95 (from 32 kernels on; filters of one input channel are not judged so), and at most a quarter may be
        dead.

        Args:
            layer: name of an `nn.Conv2d`; the first one where None.
            max_roughness: of the layer's median roughness; 0 is constant, 1 white noise.
            max_variance_entropy_ratio: against Gaussian kernels of the same shape; 1 is noise.
            min_structured: share of live filters that white noise would not produce (p < 0.01).
            max_dead: share of filters with a norm under 1% of the largest.

        Raises:
            AssertionError: a threshold is missed.
            AuditError: there is no such convolution, or it has 1×1 kernels.
        """
        found = self.filters(layer)
        if (max_roughness, max_variance_entropy_ratio, min_structured, max_dead) == (None,) * 4:
            max_dead = 0.25
            if found.judged_by_default:
                min_structured = 0.25
                max_variance_entropy_ratio = 0.95 if found.kernels >= FEWEST_KERNELS else None
        for metric, op, threshold in (
            (found.roughness, "<=", max_roughness),
            (found.structured, ">=", min_structured),
            (found.variance_entropy_ratio, "<=", max_variance_entropy_ratio),
            (found.dead, "<=", max_dead),
        ):
            if threshold is not None:
                require(metric, op, threshold)
        return found

    # Robustness --------------------------------------------------------------------------------------------------

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
        return self._keep(
            measure_robustness(
                self.model,
                self.samples,
                self._engine,
                norm=norm,
                eps=eps,
                attack=attack,
                auto=auto,
                targeted=targeted,
                target=target,
                options=options,
            )
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
        _check_share("min_accuracy", min_accuracy)
        found = self._keep(
            measure_robustness(
                self.model,
                self.samples,
                self._engine,
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
        return self._keep(
            measure_curve(
                self.model,
                self.samples,
                self._engine,
                norm=norm,
                eps=eps,
                attack=attack,
                auto=auto,
                options=options,
            )
        )

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
        return self._keep(
            measure_min_perturbation(
                self.model,
                self.samples,
                self._engine,
                norm=norm,
                attack=attack,
                eight_bit=eight_bit,
                at_least=at_least,
                options=options,
            )
        )

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
        return self._keep(
            measure_fooling(
                self.model,
                self.samples if images is None else images,
                self._engine,
                target=target,
                norm=norm,
                confidence=confidence,
                attack=attack,
                options=options,
            )
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

    # Saliency ----------------------------------------------------------------------------------------------------

    def saliency(
        self,
        method: Method = "grad_cam",
        target: int | Literal["predicted"] | None = None,
        *,
        layer: str | None = None,
        grid: int | None = None,
        **options: Any,
    ) -> SaliencyMeasurement:
        """Where the model looks, and how much of that is the object; see `measure_saliency`."""
        return self._keep(
            measure_saliency(
                self.model,
                self.samples,
                self._engine,
                method=method,
                target=target,
                layer=layer,
                grid=grid,
                options=options,
            )
        )

    def assert_saliency_localized(
        self,
        method: Method = "grad_cam",
        *,
        metric: Score | None = None,
        min_score: float | None = None,
        target: int | Literal["predicted"] | None = None,
        layer: str | None = None,
        grid: int | None = None,
        **options: Any,
    ) -> SaliencyMeasurement:
        """The model looks at the object.

        Args:
            method: ``"grad_cam"``, ``"gradient"``, or a callable ``(model, images, targets) -> attributions``.
            metric: ``"pointing_game"`` or ``"energy_in_box"``, which need boxes or masks, or
                ``"grid_pointing_game"``, which needs none; where None, the pointing game if there are boxes, else the
                grid pointing game.
            min_score: the threshold; can be left out for Grad-CAM in the 2×2 grid pointing game only, where 0.4 tells
                trained networks from untrained ones.
            target: the class that is explained; the label where None.
            layer: for Grad-CAM; the last layer with a map where None.
            grid: images a side of the grids, 2 by default.
            options: go to the method.

        Raises:
            AssertionError: the score is lower.
            AuditError: no boxes where the metric needs them, no such layer, ….
        """
        if metric is not None and metric not in SCORES:
            raise AuditError(f"There is no saliency metric {metric!r}; use one of {', '.join(map(repr, SCORES))}.")
        has_boxes = self.samples.located
        metric = metric or ("pointing_game" if has_boxes and grid is None else "grid_pointing_game")
        if metric == "grid_pointing_game":
            grid = grid or 2
        elif grid is not None:
            raise AuditError(f"grid={grid} does not go with metric={metric!r}; use 'grid_pointing_game'.")
        elif not has_boxes:
            raise AuditError(
                f"The metric {metric!r} needs to know where the object is, but {self.samples.source} has no boxes or "
                "masks: give Samples boxes= or masks=, or use metric='grid_pointing_game', which needs none."
            )
        if min_score is None:
            if (metric, method, grid) != ("grid_pointing_game", "grad_cam", 2):
                raise AuditError(f"min_score= is needed: no one threshold fits {metric!r} with this method.")
            min_score = GRID_ENERGY
        _check_share("min_score", min_score)
        found = self._keep(
            measure_saliency(
                self.model,
                self.samples,
                self._engine,
                method=method,
                target=target,
                layer=layer,
                grid=grid,
                at_least=(metric, min_score),
                options=options,
            )
        )
        require(getattr(found, metric), ">=", min_score)
        return found

    # Gradient masking --------------------------------------------------------------------------------------------

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
        return self._keep(
            measure_masking(
                self.model,
                self.samples,
                self._engine,
                norm=norm,
                eps=eps,
                limit=limit,
                steps=steps,
                queries=queries,
                eot=eot,
            )
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


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise AuditError(f"{name}={value} is not a share; give a number from 0 to 1.")
