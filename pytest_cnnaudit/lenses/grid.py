"""Tile images into grids: an object's place is known without a box."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_cnnaudit.samples import Samples


def choose_grids(
    labels: NDArray[np.int64], confidences: NDArray[np.floating], cells: int, limit: int
) -> list[list[int]]:
    """Grids of `cells` images of distinct classes, the most confident images first.

    Böhle, Fritz & Schiele 2021, "Convolutional Dynamic Alignment Networks", section 4. Each image is used once.
    Every grid takes its images from the classes that have the most left, so that as many grids as possible are filled.

    Args:
        labels: N, the class of each candidate.
        confidences: N, how sure the model is of that class.
        cells: images a grid.
        limit: grids at most.

    Returns:
        Positions of the images of each grid.

    >>> choose_grids(np.array([0, 0, 1, 1, 2]), np.array([.9, .99, .8, .95, .7]), cells=2, limit=9)
    [[1, 3], [0, 2]]
    """
    waiting: dict[int, list[int]] = defaultdict(list)
    for position in np.argsort(confidences, kind="stable"):  # the most confident at the end of its list
        waiting[int(labels[position])].append(int(position))
    grids: list[list[int]] = []
    while len(grids) < limit:
        fullest = sorted(
            (label for label in waiting if waiting[label]), key=lambda label: (-len(waiting[label]), label)
        )
        if len(fullest) < cells:
            break
        grids.append([waiting[label].pop() for label in fullest[:cells]])
    return grids


def tile(samples: Samples, grids: list[list[int]], side: int) -> Samples:
    """One sample for each cell of each grid: the whole grid as image, the cell's class as label, the cell as mask.

    Args:
        samples: where the images come from.
        grids: positions of side² images each, as from `choose_grids`.
        side: images a row.
    """

    def load(position: int) -> tuple[torch.Tensor, int, None, torch.Tensor]:
        grid, cell = divmod(position, side * side)
        parts = [samples[each] for each in grids[grid]]
        rows = [torch.cat([part.image for part in parts[at : at + side]], dim=2) for at in range(0, side * side, side)]
        height, width = parts[0].image.shape[1:]
        top, left = cell // side * height, cell % side * width
        mask = torch.zeros(side * height, side * width, dtype=torch.bool)
        mask[top : top + height, left : left + width] = True
        return torch.cat(rows, dim=1), parts[cell].label, None, mask

    ids = [f"grid {number} cell {cell}" for number in range(len(grids)) for cell in range(side * side)]
    return Samples(
        load,
        ids,
        source=f"{len(grids)} grids of {side}×{side} of {samples.source}",
        class_names=samples.class_names,
        located=True,
        workers=0,
    )
