"""Does a map lie on the object? Scores of maps N×H×W against regions N×H×W."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor


def saliency_maps(attributions: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps N×H×W, 0 and above, of attributions N×C×h×w (or N×h×w).

    Several channels are pixels' channels: the largest magnitude counts (Simonyan et al. 2014, section 3.1). One channel
    is a map already: its positive part counts.
    """
    if attributions.ndim == 3:
        attributions = attributions[:, None]
    maps = attributions.clamp(min=0) if attributions.shape[1] == 1 else attributions.abs().amax(1, keepdim=True)
    if maps.shape[2:] != size:
        maps = torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return maps[:, 0].detach()


def pointing_game(maps: Tensor, regions: Tensor) -> Tensor:
    """Whether the largest value of each map lies in its region, N bool.

    Zhang et al. 2016, "Top-Down Neural Attention by Excitation Backprop", section 4.1; for their tolerance of 15
    pixels, give regions `widened` by as much. A constant map points nowhere: a miss. If several positions hold the
    maximum, half of them must lie inside.
    """
    flat, inside = maps.flatten(1), regions.flatten(1)
    top = flat == flat.amax(1, keepdim=True)
    constant = flat.amax(1) == flat.amin(1)
    return ((top & inside).sum(1) * 2 >= top.sum(1)) & ~constant


def widened(regions: Tensor, tolerance: float) -> Tensor:
    """The regions and what lies within `tolerance` pixels of them, N×H×W bool on the CPU; empty ones stay empty."""
    if tolerance == 0:
        return regions
    near = [
        torch.from_numpy(ndimage.distance_transform_edt(~region.numpy()) <= tolerance) if region.any() else region
        for region in regions.cpu()
    ]
    return torch.stack(near)


def energy_in_region(maps: Tensor, regions: Tensor) -> Tensor:
    """The share of each map's sum that lies in its region, N in [0, 1].

    Wang et al. 2020, "Score-CAM", section 4 (energy-based pointing game). A map of zeros has no energy anywhere: 0.
    """
    flat, inside = maps.flatten(1).cpu().double(), regions.flatten(1).cpu()  # not every device has double precision
    total = flat.sum(1)
    within = (flat * inside).sum(1)
    return torch.where(total > 0, within / total.clamp(min=torch.finfo(torch.float64).tiny), torch.zeros_like(total))
