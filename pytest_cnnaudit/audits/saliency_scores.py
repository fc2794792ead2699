"""What maps score, beside what the image's centre and chance score on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.engine import Part
from pytest_cnnaudit.lenses.box_accuracy import THRESHOLDS
from pytest_cnnaudit.results import Metric, Table, TableRow, figure
from pytest_cnnaudit.statistics import mean, share

Score = Literal["pointing_game", "energy_in_box", "iou", "max_box_acc", "grid_pointing_game"]
SCORES: tuple[Score, ...] = ("pointing_game", "energy_in_box", "iou", "max_box_acc", "grid_pointing_game")

FITS = 0.5  # the IoU from which on a box is right: the δ of MaxBoxAcc

NAMES: Mapping[str, str] = {
    "pointing_game": "pointing game",
    "energy_in_box": "energy in box",
    "iou": "IoU",
    "max_box_acc": "MaxBoxAcc",
}
_HELP: Mapping[str, str] = {
    "pointing_game": "Share of maps whose largest value lies on the object.",
    "energy_in_box": "Mean share of the map that lies on the object.",
    "iou": "Mean overlap (IoU) of the box around the map's largest part with the object's, at the best threshold.",
    "max_box_acc": "Share of boxes with an IoU of 0.5 or more, at the threshold where most have (MaxBoxAcc).",
}
_MEANS: Mapping[str, tuple[str, str]] = {
    "pointing_game": ("the centre's pixel", "a random pixel"),
    "energy_in_box": ("a Gaussian in the middle", "an even map"),
    "iou": ("a Gaussian in the middle", "a map of coarse noise"),
    "max_box_acc": ("a Gaussian in the middle", "a map of coarse noise"),
}


class Baseline(NamedTuple):
    """What maps that know nothing of the model score on the same samples: one at the image's centre, and chance."""

    centre: float
    random: float


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Of the samples whose object's place is known: by score, the values of the maps, of the centre and of chance.

    There must be such samples.

    Attributes:
        maps: N each.
        centre: the same for what always points at the centre.
        random: the same for chance.
        threshold: of the map, for ``"iou"`` and ``"max_box_acc"``: the best for the maps, the same for all samples.
    """

    maps: Mapping[str, NDArray[np.floating]]
    centre: Mapping[str, NDArray[np.floating]]
    random: Mapping[str, NDArray[np.floating]]
    threshold: Mapping[str, float]

    @classmethod
    def of(cls, found: Part) -> Scored:
        """The scores of what `saliency_step.SaliencyStep` found, of samples with boxes or masks."""
        known = found["scored"]

        def boxes(of: str) -> dict[str, NDArray[np.floating]]:
            overlaps = found[f"{of}_overlaps"][known]
            right = (overlaps >= FITS).astype(float)
            return {"iou": overlaps[:, _best(overlaps)], "max_box_acc": right[:, _best(right)]}

        def of(hit: str, energy: str, overlaps: str) -> dict[str, NDArray[np.floating]]:
            values = {"pointing_game": found[hit][known].astype(float), "energy_in_box": found[energy][known]}
            return {**values, **boxes(overlaps)}

        overlaps = found["map_overlaps"][known]
        return cls(
            of("hit", "energy", "map"),
            of("centre", "centre_energy", "centre"),
            of("near", "area", "random"),
            {
                "iou": float(THRESHOLDS[_best(overlaps)]),
                "max_box_acc": float(THRESHOLDS[_best(overlaps >= FITS)]),
            },
        )

    def baseline(self, score: str) -> Baseline:
        """What the centre and chance come to, in the mean."""
        return Baseline(float(self.centre[score].mean()), float(self.random[score].mean()))

    def metric(self, score: str, story: tuple[str, ...]) -> Metric:
        """A score with its interval, and with its baselines in the story."""
        values, name = self.maps[score], NAMES[score]
        story = (story[0], self.words(score), *story[1:])
        if score in ("pointing_game", "max_box_acc"):
            return share(values > 0, name=name, story=story, help=_HELP[score], column=score)
        return mean(values, name=name, story=story, help=_HELP[score], column=score)

    def words(self, score: str) -> str:
        """One line on what the score is to be held against."""
        centre, chance = _MEANS[score]
        found = self.baseline(score)
        at = f" (at {self.threshold[score]:.2g} of the map's largest value)" if score in self.threshold else ""
        return f"on the same samples {centre} scores {figure(found.centre)}, {chance} {figure(found.random)}{at}"

    def over_centre(self, story: tuple[str, ...]) -> Metric:
        """By how much the maps point at the object more often than the centre's pixel, sample by sample."""
        return mean(
            self.maps["pointing_game"] - self.centre["pointing_game"],
            name="over the centre",
            bounds=(-1, 1),
            story=story,
            help="The pointing game less that of the image's centre, sample by sample: 0 is no better than the centre.",
        )

    def table(self) -> Table:
        """Every score beside its baselines."""
        rows = []
        for score in self.maps:
            metric, beside = self.metric(score, ("",)), self.baseline(score)
            low, high = metric.ci95 or (np.nan, np.nan)
            interval = f" ({figure(low)} to {figure(high)})" if metric.ci95 else ""
            worse = float(metric) <= max(beside)
            cells = (metric.name, f"{figure(metric)}{interval}", figure(beside.centre), figure(beside.random))
            rows.append(TableRow(cells, "note" if worse else ""))
        return Table(
            title="Beside the baselines",
            text="What the maps score with the 95% interval, beside the image's centre and chance on the same samples. "
            "A score that these reach, too, says nothing about the model.",
            columns=("score", "maps", "always the centre", "chance"),
            rows=tuple(rows),
        )


def _best(values: NDArray[np.floating] | NDArray[np.bool_]) -> int:
    """The threshold with the largest mean, of N×T; of equal ones the first."""
    return int(values.mean(0).argmax())
