"""Does the model look at the object?"""

from __future__ import annotations

from typing import Any

from pytest_cnnaudit.audits.explainer import Method, Target
from pytest_cnnaudit.audits.saliency import SCORES, SaliencyMeasurement, Score, measure_saliency
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.questions.asker import Asker, check_share
from pytest_cnnaudit.results import require

GRID_ENERGY = 0.4
"""Default for Grad-CAM at the last stage on 2×2 grids: trained networks have 0.66 to 0.73, untrained 0.20 to 0.25."""


class SaliencyQuestions(Asker):
    """Of attribution."""

    def saliency(
        self,
        method: Method = "grad_cam",
        target: Target = None,
        *,
        layer: str | None = None,
        grid: int | None = None,
        tolerance: float = 0,
        **options: Any,
    ) -> SaliencyMeasurement:
        """Where the model looks, and how much of that is the object; see `measure_saliency`."""
        return self._asked(
            measure_saliency,
            method=method,
            target=target,
            layer=layer,
            grid=grid,
            tolerance=tolerance,
            options=options,
        )

    def assert_saliency_localized(
        self,
        method: Method = "grad_cam",
        *,
        metric: Score | None = None,
        min_score: float | None = None,
        target: Target = None,
        layer: str | None = None,
        grid: int | None = None,
        tolerance: float = 0,
        **options: Any,
    ) -> SaliencyMeasurement:
        """The model looks at the object.

        The score stands beside that of the image's centre and of chance on the same samples: a high one that these
        reach, too, says nothing.

        Args:
            method: one of `lenses.methods.METHODS` by name, an attribution of captum, or a callable ``(model, images,
                targets) -> attributions``.
            metric: ``"pointing_game"``, ``"energy_in_box"``, ``"iou"`` or ``"max_box_acc"``, which need boxes or
                masks, or ``"grid_pointing_game"``, which needs none; where None, the pointing game if there are boxes,
                else the grid pointing game.
            min_score: the threshold; can be left out for Grad-CAM in the 2×2 grid pointing game only, where 0.4 tells
                trained networks from untrained ones.
            target: the class that is explained; the label where None.
            layer: for the methods that look at one; the last layer with a map where None.
            grid: images a side of the grids, 2 by default.
            tolerance: pixels by which the largest value may miss the object in the pointing game.
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
        check_share("min_score", min_score)
        found = self._asked(
            measure_saliency,
            method=method,
            target=target,
            layer=layer,
            grid=grid,
            tolerance=tolerance,
            at_least=(metric, min_score),
            options=options,
        )
        require(getattr(found, metric), ">=", min_score)
        return found
