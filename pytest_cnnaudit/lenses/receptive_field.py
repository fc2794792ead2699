"""The receptive field: the box of pixels that a unit of a layer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.tap import tap

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Segment = tuple[int, int]
"""Rows, or columns, from the first to before the second."""


def receptive_fields(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    layers: Mapping[str, nn.Module],
    units: Mapping[str, Ints],
    *,
    at_once: int = 64,
) -> dict[str, Ints]:
    """The smallest box that holds every pixel which a unit can depend on, exactly, for units of several layers.

    NaN is put into rows (or columns) of the image: a unit is NaN after a plain forward pass if it sees one of them, and
    only then. So stride, padding, dilation, even kernels, ``ceil_mode``, residual branches and global mixing
    (squeeze-excite, attention) count as the model computes them, and whatever its weights: a weight of zero sees too.
    The gradient does not tell: after max-pooling it reaches only the winners.

    Where the rows begin and end is found by bisection, for all units at once; units that see no rows of each other
    share a pass. That takes 4 log₂ H passes for one unit, and at most 2 (H + W) for all units of all layers; none goes
    further than the last layer.

    What forgets NaN is not seen: ``torch.where(x > 0, x, 0)`` in place of a ReLU.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K, in eval mode.
        image: C×H×W, any that the model takes.
        layers: modules inside the model, by name, that run once and return maps N×c×h×w (or N×c).
        units: for each layer, U×3: channel, y and x of the units that are asked about.
        at_once: images in a pass.

    Returns:
        For each layer, U×4: top, left, bottom and right in pixels, inside the image; the last two are the first pixel
        outside. All are 0 for a unit that does not depend on the image.

    Raises:
        AuditError: a layer returns NaN for the image as it is, does not run, or returns no maps.
    """
    watch = _Watch(model, image, layers, units, at_once)
    height, width = image.shape[1:]
    everything = np.ones(sum(len(units[name]) for name in layers), dtype=bool)
    with _undisturbed(model):
        as_it_is, depends = watch([_Probe(0, []), _Probe(0, [(0, height)])], everything)
        if as_it_is.any():
            raise AuditError(
                "A layer returns NaN for the image as it is, or because another image of the batch holds NaN."
            )
        first, last = _extents(watch, (height, width), depends)
    boxes = np.where(depends[:, None], np.concatenate([first, last]).T, 0)
    return {name: boxes[part] for name, part in watch.parts.items()}


class _Probe(NamedTuple):
    """Where NaN is put: in segments of rows (axis 0) or of columns (axis 1)."""

    axis: int
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class _Watch:
    """Watches units turn NaN: those of all layers together, one after the other."""

    model: Callable[[Tensor], Tensor]
    image: Tensor
    layers: Mapping[str, nn.Module]
    units: Mapping[str, Ints]
    at_once: int

    @property
    def parts(self) -> dict[str, slice]:
        """Where the units of each layer stand among all."""
        ends = np.cumsum([len(self.units[name]) for name in self.layers])
        return {name: slice(end - len(self.units[name]), end) for name, end in zip(self.layers, ends, strict=True)}

    def __call__(self, probes: Sequence[_Probe], asked: Bools) -> Bools:
        """Which units turn NaN for each probe, P×U.

        The pass ends as soon as the layers with units that are `asked` about have answered; nothing is said of others.
        """
        parts = {name: part for name, part in self.parts.items() if asked[part].any()}
        layers = {name: self.layers[name] for name in parts}
        turned = np.zeros((len(probes), len(asked)), dtype=bool)
        for begin in range(0, len(probes), self.at_once):
            chunk = slice(begin, begin + self.at_once)

            def read(name: str, maps: Tensor, chunk: slice = chunk) -> None:
                channel, y, x = torch.from_numpy(self.units[name]).to(maps.device).T
                turned[chunk, parts[name]] = maps[:, channel, y, x].isnan().cpu().numpy()

            images = torch.stack([self._probed(*probe) for probe in probes[chunk]])
            tap(self.model, images, layers, read)
        return turned

    def _probed(self, axis: int, segments: Sequence[Segment]) -> Tensor:
        image = self.image.detach().clone()
        for begin, end in segments:
            image.narrow(1 + axis, begin, end - begin).fill_(torch.nan)
        return image


def _extents(watch: _Watch, lengths: tuple[int, int], depends: Bools) -> tuple[Ints, Ints]:
    """The first row and column that each unit sees, and the first after the last; both 2×U.

    Both ends are searched alike, the second in rows counted from the other side: an end lies between `low` and `high`,
    and in the nearer half if the unit turns NaN when NaN is there and nowhere else in what it may see.
    """
    length = np.array(lengths)[:, None]
    low = np.zeros((2, 2, len(depends)), dtype=np.int64)  # axes, ends, units
    high = np.where(depends, length[:, None] - 1, low)
    while (is_open := np.less(low, high)).any():
        middle = (low + high) // 2
        begin, end = low.copy(), middle + 1
        begin[:, 1], end[:, 1] = length - 1 - middle[:, 1], length - low[:, 1]
        probes: list[_Probe] = []
        asked = [np.nonzero(of_axis) for of_axis in is_open]  # ends, units
        answers = []
        for axis, (which, unit) in enumerate(asked):
            half = np.stack([begin[axis, which, unit], end[axis, which, unit]], axis=1)
            may_see = np.stack([low[axis, 0, unit], lengths[axis] - low[axis, 1, unit]], axis=1)
            shared, place = _shared(half, may_see)
            answers.append((len(probes) + place, unit))
            probes += [_Probe(axis, segments) for segments in shared]
        turned = watch(probes, np.asarray(is_open.any(axis=(0, 1))))
        hit = np.zeros_like(is_open)
        for axis, answer in enumerate(answers):
            hit[axis][is_open[axis]] = turned[answer]
        high = np.where(is_open & hit, middle, high)
        low = np.where(is_open & ~hit, middle + 1, low)
    return low[:, 0], length - low[:, 1]


def _shared(asked: Ints, may_see: Ints) -> tuple[list[list[Segment]], Ints]:
    """Few probes for many questions.

    Args:
        asked: Q×2, where each question wants NaN.
        may_see: Q×2, the rows that its unit may see: of these, no others may hold NaN.

    Returns:
        The segments of each probe, and the probe, Q, that answers each question.
    """
    distinct, which = np.unique(asked, axis=0, return_inverse=True)
    which = which.reshape(-1)
    begins, ends = np.full(len(distinct), np.iinfo(np.int64).max), np.zeros(len(distinct), dtype=np.int64)
    np.minimum.at(begins, which, may_see[:, 0])
    np.maximum.at(ends, which, may_see[:, 1])
    probes: list[list[Segment]] = []
    seen_to: list[int] = []  # by the units of each probe
    place = np.zeros(len(distinct), dtype=np.int64)
    for number, (begin, end) in enumerate(distinct.tolist()):  # in ascending order
        fits = (
            probe
            for probe, segments in enumerate(probes)
            if seen_to[probe] <= begin and segments[-1][1] <= begins[number]
        )
        place[number] = found = next(fits, len(probes))
        if found == len(probes):
            probes.append([])
            seen_to.append(0)
        probes[found].append((begin, end))
        seen_to[found] = max(seen_to[found], int(ends[number]))
    return probes, place[which]


@contextmanager
def _undisturbed(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within, convolutions compute each unit from its own pixels; after, NaN is in no buffer that the model updates.

    The fast algorithms of cuDNN and NNPACK (Winograd's, the Fourier transform) compute tiles of units from pixels that
    not all of them see, times zero in the end, which NaN survives.
    """
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()] if isinstance(model, nn.Module) else []
    with torch.backends.cudnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False), torch.no_grad():
        try:
            yield
        finally:
            for buffer, content in kept:
                buffer.copy_(content)
