"""Does the box around a map's largest part fit the object's? IoU and MaxBoxAcc (Choe et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Boxes = NDArray[np.float64]
"""x0, y0, x1, y1 in pixels along the last axis; the last two are the first pixel outside."""

THRESHOLDS: NDArray[np.float64] = (np.arange(30) / 30) ** 2
"""Of a map between its smallest value, 0, and its largest, 1; close together near 0, where the boxes of maps with few
large values change. Against the paper's thousand, four methods on 120 boxed images lost at most 0.025 of MaxBoxAcc
and 0.011 of the mean IoU; twenty evenly spaced ones lost 0.25 and 0.2."""
_TOUCHING = np.ones((3, 3))  # by an edge or a corner, as in OpenCV's findContours


def box_overlaps(maps: NDArray[np.floating], truths: Sequence[Boxes]) -> NDArray[np.float64]:
    """The IoU of the box around each map's largest part with the object's box, at each of `THRESHOLDS`, N×T.

    Choe, Oh, Lee, Chun, Akata & Shim 2020, "Evaluating Weakly Supervised Object Localization Methods Right", section
    3.3: BoxAcc(τ, δ) is the share of samples with an IoU of at least δ at the threshold τ, and MaxBoxAcc(δ) its largest
    value over τ, one τ for all samples. As in their code, of several objects the one that fits best counts.

    Args:
        maps: N×H×W.
        truths: for each sample B×4; an IoU of 0 where there are none, and where the map is constant.
    """
    found = np.zeros((len(maps), len(THRESHOLDS)))
    for row, values, truth in zip(found, maps, truths, strict=True):
        if np.ptp(values) > 0:
            row[:] = best_overlap(largest_boxes(values), truth)
    return found


def best_overlap(boxes: Boxes, truths: Boxes) -> NDArray[np.float64]:
    """The IoU of each of T boxes with the one of B true boxes that it fits best, T; 0 where there are none."""
    low = np.maximum(boxes[:, None, :2], truths[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truths[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, truths)]
    overlaps: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1][None, :] - shared)
    best: NDArray[np.float64] = overlaps.max(1, initial=0)
    return best


def largest_boxes(values: NDArray[np.floating]) -> Boxes:
    """The box around the largest connected part of {s ≥ τ} of a map H×W, from 0 to 1, at each of `THRESHOLDS`, T×4.

    The largest is the one with the most pixels; of equal ones, the first row by row.
    """
    scaled = (values - values.min()) / np.ptp(values)
    boxes = np.zeros((len(THRESHOLDS), 4))
    for number, threshold in enumerate(THRESHOLDS):
        above = scaled >= threshold
        ((left, top, right, bottom),) = box_around(above).astype(int)  # what is above a larger threshold is in there
        parts, _ = ndimage.label(above[top:bottom, left:right], _TOUCHING)
        largest = parts == np.bincount(parts[parts > 0]).argmax()
        boxes[number] = box_around(largest)[0] + np.array([left, top, left, top])
    return boxes


def box_around(region: NDArray[np.bool_]) -> Boxes:
    """The box around a region H×W, 1×4; 0×4 where it is empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return np.zeros((0, 4))
    return np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=np.float64)


def centred_map(height: int, width: int) -> NDArray[np.float64]:
    """A Gaussian in the middle, H×W, a quarter of the sides wide: the centre-Gaussian baseline of Choe et al. 2020."""
    down, across = (((np.arange(side) + 0.5) / side - 0.5) ** 2 for side in (height, width))
    gaussian: NDArray[np.float64] = np.exp(-(down[:, None] + across[None, :]) / (2 * 0.25**2))
    return gaussian
