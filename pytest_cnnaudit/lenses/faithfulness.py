"""Is what a map calls important what the model needs? Pixels are deleted, or inserted, in the order of the map."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.baseline import Baseline, baseline_of
from pytest_cnnaudit.lenses.blocks import blocks
from pytest_cnnaudit.lenses.scores import class_scores, plain

_BLOCKS, _PLACE = 1000, 1001  # steps of the draws of blocks and places, apart from those of pixels


class Curves(NamedTuple):
    """Probabilities of the target as pixels are replaced, each orders×N×(S+1), from none of them to all.

    Attributes:
        deletion: from the image to the baseline; it should fall fast.
        insertion: from the blurred image to the image; it should rise fast.
    """

    deletion: Tensor
    insertion: Tensor


def deletion_curve(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    order: Tensor,
    *,
    steps: int,
    baseline: Baseline = 0.5,
    at_once: int | None = None,
) -> Tensor:
    """The probability of the target while pixels are replaced by the baseline, in an order.

    Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", section 4.2.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose probability is followed.
        order: N×HW, the pixels of each image, the first to be replaced first; see `pixel_order`.
        steps: S, in which all pixels are replaced; from 1 to HW.
        baseline: what pixels are replaced by.
        at_once: images in a pass of the model; N where None.

    Returns:
        N×(S+1) in [0, 1], at the shares of pixels `replaced_shares`. Costs S + 1 forward passes a sample.

    Raises:
        AuditError: steps, order or baseline do not fit the images.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        images = plain(images)
        blank = baseline_of(baseline, images)
        return _paths(model, [(images, blank)], plain(targets), plain(order)[None], steps, None, at_once)[0, 0]


def insertion_curve(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    order: Tensor,
    *,
    steps: int,
    sigma: float | None = None,
    at_once: int | None = None,
) -> Tensor:
    """The probability of the target while pixels of the image replace those of a blurred one, in an order.

    The same paper. Arguments, costs, values and errors as in `deletion_curve`; `sigma` as in `blurred`.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        images = plain(images)
        dim = blurred(images, sigma)
        return _paths(model, [(dim, images)], plain(targets), plain(order)[None], steps, None, at_once)[0, 0]


def faithfulness_curves(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    orders: Tensor,
    *,
    steps: int,
    baseline: Baseline = 0.5,
    sigma: float | None = None,
    intact: Tensor | None = None,
    at_once: int | None = None,
) -> Curves:
    """Deletion and insertion curves of several orders on the same images, which share their ends.

    Costs 2·orders·(S − 1) + 3 forward passes a sample: the image, the blank and the blurred one are seen once.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose probability is followed.
        orders: orders×N×HW; see `deletion_curve`.
        steps: S.
        baseline: what deleted pixels are replaced by.
        sigma: as in `blurred`.
        intact: N, the probability of the target in the image itself, where it is known: a pass less.
        at_once: images in a pass of the model; N where None.

    Raises:
        AuditError: steps, orders or baseline do not fit the images.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        images, targets = plain(images), plain(targets)
        paths = [(images, baseline_of(baseline, images)), (blurred(images, sigma), images)]
        return Curves(*_paths(model, paths, targets, plain(orders), steps, intact, at_once))


def _paths(
    model: Callable[[Tensor], Tensor],
    paths: list[tuple[Tensor, Tensor]],
    targets: Tensor,
    orders: Tensor,
    steps: int,
    intact: Tensor | None,
    at_once: int | None,
) -> Tensor:
    """Probabilities on the way from one image to another, paths×orders×N×(S+1)."""
    images = paths[0][0]
    size = (images.shape[2], images.shape[3])
    pixels = size[0] * size[1]
    if not 1 <= steps <= pixels:
        raise AuditError(f"steps={steps} does not fit images of {size[0]}×{size[1]}; give 1 to {pixels}.")
    if orders.shape[1:] != (len(images), pixels):
        raise AuditError(
            f"An order of shape {tuple(orders.shape[1:])} does not fit {len(images)} images of {size[0]}×{size[1]}; it "
            f"must be ({len(images)}, {pixels})."
        )
    place = orders.argsort(-1).view(len(orders), len(images), 1, *size)  # when each pixel's turn comes
    counts = replaced_pixels(steps, pixels).to(images.device)

    def sure(shown: Tensor, samples: slice, versions: int) -> Tensor:
        logits = model(shown)
        return class_scores(logits.softmax(1), targets[samples].repeat(versions)).view(versions, -1)

    ends: dict[int, Tensor] = {} if intact is None else {id(images): intact}  # paths have images in common
    for end in (end for path in paths for end in path):
        if id(end) not in ends:
            parts = [sure(end[group], group, 1)[0] for group, _ in blocks(len(images), 1, at_once)]
            ends[id(end)] = torch.cat(parts)
    whole = torch.stack([torch.stack([ends[id(start)], ends[id(end)]], -1) for start, end in paths])
    found = whole.new_empty(len(paths), len(orders), len(images), steps + 1)
    found[..., [0, -1]] = whole[:, None]
    inner = steps - 1
    for samples, versions in blocks(len(images), len(paths) * len(orders) * inner, at_once):
        number = torch.arange(versions.start, versions.stop)
        along, which, step = number // (len(orders) * inner), number // inner % len(orders), number % inner + 1
        replaced = place[which.to(place.device), samples] < counts[step.to(counts.device), None, None, None, None]
        starts, goals = (torch.stack([paths[each][side][samples] for each in along.tolist()]) for side in (0, 1))
        shown = torch.where(replaced, goals, starts).flatten(0, 1)
        found[along, which, samples, step] = sure(shown, samples, len(versions)).to(found)
    return found


def replaced_pixels(steps: int, pixels: int) -> Tensor:
    """How many pixels are replaced at each of S + 1 steps, from none to all.

    >>> replaced_pixels(4, 10)
    tensor([ 0,  2,  5,  7, 10])
    """
    return torch.arange(steps + 1) * pixels // steps


def area_under(curves: Tensor, pixels: int) -> Tensor:
    """The area under curves …×(S+1) over the share of pixels, by the trapezoid rule.

    >>> area_under(torch.tensor([1.0, 1.0, 0.0]), pixels=4)
    tensor(0.7500)
    """
    shares = replaced_pixels(curves.shape[-1] - 1, pixels).to(curves) / pixels
    return torch.trapezoid(curves, shares, dim=-1)


def pixel_order(maps: Tensor, seeds: Tensor, *, step: int = 0) -> Tensor:
    """The pixels of each map N×H×W, the largest value first, N×HW.

    Pixels of one value come in a random order that follows from N seeds, and is another one for another `step`: an
    upsampled or clamped map has many, and in the order of the memory they would be deleted from the top downwards.
    """
    values = maps.flatten(1)
    shuffled = random_order(seeds.to(maps.device), values.shape[1], step=step)
    by_value = values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return shuffled.gather(1, by_value)


def random_order(seeds: Tensor, pixels: int, *, step: int = 0) -> Tensor:
    """A random order of the pixels for each of N seeds, N×pixels; another one for another `step`."""
    return draw(seeds, torch.full_like(seeds, step), pixels).argsort(dim=1, stable=True)


def block_order(seeds: Tensor, size: tuple[int, int], cells: int) -> Tensor:
    """Blocks of a grid of cells×cells in a random order, N×HW, the pixels of each in a random order of their own."""
    values = draw(seeds, torch.full_like(seeds, _BLOCKS), cells * cells).view(-1, 1, cells, cells)
    return pixel_order(interpolate(values, size=size, mode="nearest")[:, 0], seeds)


def moved(maps: Tensor, seeds: Tensor) -> Tensor:
    """Each map N×H×W moved to a random place that follows from its seed; what leaves on one side enters on the other.

    It is as coarse, as smooth and as sparse as it was, and knows nothing of where things are: the random map to compare
    a map with. Curves depend on how coarse an order is more than on where it begins. Single pixels in a random order
    destroy an image faster than any sensible map, and large random patches bring it back faster than single pixels.
    """
    height, width = maps.shape[1:]
    drawn = draw(seeds.to(maps.device), torch.full_like(seeds, _PLACE).to(maps.device), 2)
    down, across = ((drawn[:, axis] * side).long() for axis, side in ((0, height), (1, width)))
    rows = (torch.arange(height, device=maps.device) + down[:, None]) % height
    columns = (torch.arange(width, device=maps.device) + across[:, None]) % width
    sample = torch.arange(len(maps), device=maps.device)[:, None, None]
    return maps[sample, rows[:, :, None], columns[:, None]]


def blurred(images: Tensor, sigma: float | None = None) -> Tensor:
    """The images under a Gaussian of `sigma` pixels, the border's pixels repeated beyond it.

    Where None, a sixteenth of the shorter side: the least after which two networks hardly recognised what they were
    shown (a ResNet-20 gave the label 0.12, a SqueezeNet less than 0.01).

    Raises:
        AuditError: sigma is not above 0.
    """
    sigma = min(images.shape[2:]) / 16 if sigma is None else sigma
    if not sigma > 0:
        raise AuditError(f"sigma={sigma} blurs nothing; give the width of the blur in pixels, above 0.")
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    taps = (-(offsets**2) / (2 * sigma**2)).exp()
    taps = (taps / taps.sum()).view(1, 1, 1, -1)
    maps = images.flatten(0, 1)[:, None]
    maps = conv2d(pad(maps, (reach, reach, 0, 0), mode="replicate"), taps)
    maps = conv2d(pad(maps, (0, 0, reach, reach), mode="replicate"), taps.mT)
    return maps.view_as(images)
