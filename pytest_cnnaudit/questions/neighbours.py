"""Are images that the network finds alike of one kind?"""

from __future__ import annotations

from typing import Literal

from pytest_cnnaudit.audits.neighbours import NeighbourMeasurement, measure_neighbours
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require

CLOSER = 0.25
"""Default: the share of the way from what pixels agree to the most there can be. On CIFAR-10 and MNIST trained networks
come 0.36 to 0.82 of it, untrained ones -0.03 to 0, and one whose last stage was initialised anew 0.16."""


class NeighbourQuestions(Asker):
    """Of feature space."""

    def neighbours(self, layer: str | None = None, k: int = 5) -> NeighbourMeasurement:
        """The nearest neighbours of each sample in feature space and in pixel space; see `measure_neighbours`."""
        return self._asked(measure_neighbours, layer=layer, k=k)

    def assert_neighbours_agree(
        self,
        layer: str | None = None,
        k: int = 5,
        *,
        min_agreement: float | None = None,
        metric: Literal["l2", "cosine"] = "l2",
    ) -> NeighbourMeasurement:
        """Samples that are close together in feature space carry the same label.

        Args:
            layer: whose output the features are, its maps averaged over positions; what goes into the classifier where
                None.
            k: neighbours of each sample.
            min_agreement: the least mean share of the neighbours that carry the sample's label. It can be left out for
                what goes into the classifier: features must then agree more than pixels, by a quarter of what is left.
            metric: of feature space.

        Raises:
            AssertionError: fewer of them do.
            AuditError: the labels do not occur often enough for that, there are too few samples, no such layer, ….
        """
        if metric not in ("l2", "cosine"):
            raise AuditError(f"There is no metric {metric!r} of feature space; use 'l2' or 'cosine'.")
        if min_agreement is None and layer is not None:
            raise AuditError(f"min_agreement= is needed: no one threshold fits every layer, here {layer!r}.")
        if min_agreement is not None:
            check_share("min_agreement", min_agreement)
        found = self.neighbours(layer, k)
        if not found.feature_agreement.n:
            raise AuditError(
                f"No label occurs twice among the {len(found.ids)} samples of {self.samples.source}: no neighbour can "
                "carry the label of another; give more samples of each class."
            )
        if min_agreement is None:
            min_agreement = found.pixel_agreement + CLOSER * (found.best - found.pixel_agreement)
        if min_agreement > found.best:
            raise AuditError(
                f"min_agreement={min_agreement} cannot be reached: samples with fewer than k={k} others of their label "
                f"keep agreement at or below {found.best:.3g}; give more samples of each class, or a smaller k."
            )
        require(found.feature_agreement if metric == "l2" else found.cosine_agreement, ">=", min_agreement)
        return found
