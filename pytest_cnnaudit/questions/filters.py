"""Are the filters more than noise, and are they those of other models?"""

from __future__ import annotations

from pytest_cnnaudit.audits.filter_banks import FilterBanksMeasurement, measure_filter_banks
from pytest_cnnaudit.audits.filters import FEWEST_KERNELS, FilterMeasurement, measure_filters
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.questions.asker import Asker
from pytest_cnnaudit.results import require


class FilterQuestions(Asker):
    """Of filters."""

    def filters(self, layer: str | None = None) -> FilterMeasurement:
        """Figures and pictures of a convolution's filters (the first one by default). See `FilterMeasurement`."""
        return self._measured(measure_filters, self.model, layer)

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

    def filter_banks(
        self, *others: AuditModel | tuple[AuditModel, str], layer: str | None = None
    ) -> FilterBanksMeasurement:
        """The filters of several models side by side, and how alike they are. See `FilterBanksMeasurement`.

        Needs no samples and makes no pass. The similarity is to be read beside what noise scores that is as smooth as
        the filters, ``assert found.similarity > found.smooth_noise``: any smooth filters resemble each other.

        Args:
            others: models, of which the first convolution is taken, or pairs of a model and the name of a layer. The
                audited layer itself is left out where it is among them, so that each of several models can be audited
                with the list of all.
            layer: name of an `nn.Conv2d` of the audited model; the first one where None.

        Raises:
            AuditError: there is nothing to compare with; a layer is no convolution, or one of 1×1 kernels; or the
                filters differ in their input channels.
        """
        return self._measured(measure_filter_banks, self.model, others, layer)
