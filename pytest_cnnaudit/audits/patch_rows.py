"""Patches as pictures: cut from their images, a row for each channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_cnnaudit.audits import pictures
from pytest_cnnaudit.results import Exhibit, Picture, Row, figure
from pytest_cnnaudit.samples import Samples

_LARGEST = 128  # pixels of a patch on the page: nine of them stand in a row
_GREY = 0.5


@dataclass(frozen=True, slots=True)
class Patch:
    """What a unit sees of an image.

    Attributes:
        sample: the id of the image.
        position: of the sample among the samples.
        activation: of the unit.
        unit: y and x in the channel's map.
        box: top, left, bottom and right in pixels, inside the image; the last two are the first pixel outside.
        field: height and width of what a unit of this channel sees where no border cuts it off.
    """

    sample: str
    position: int
    activation: float
    unit: tuple[int, int]
    box: tuple[int, int, int, int]
    field: tuple[int, int]

    def cut(self, image: Tensor) -> Tensor:
        """The patch of an image C×H×W, as large as the field: grey where it reaches beyond the image."""
        top, left, bottom, right = self.box
        height, width = image.shape[1:]
        vertical = _beyond(top, bottom, height, self.field[0])
        horizontal = _beyond(left, right, width, self.field[1])
        patch = torch.nn.functional.pad(image[:, top:bottom, left:right], (*horizontal, *vertical), value=_GREY)
        return patch if patch.numel() else torch.full((len(image), 1, 1), _GREY)


def _beyond(begin: int, end: int, length: int, field: int) -> tuple[int, int]:
    """How much of a field lies before and behind an image of that length, when the rest is from `begin` to `end`."""
    missing = max(field - (end - begin), 0)
    return (missing, 0) if begin == 0 else (0, missing) if end == length else (0, 0)


def patch_exhibits(samples: Samples, patches: Mapping[str, Mapping[int, Sequence[Patch]]]) -> tuple[Exhibit, ...]:
    """A row of patches for each channel, an exhibit for each layer; each image is loaded once."""
    of_image: dict[int, set[Patch]] = defaultdict(set)
    for channels in patches.values():
        for each in channels.values():
            for patch in each:
                of_image[patch.position].add(patch)
    drawn: dict[Patch, Picture] = {}
    for position, sample in zip(sorted(of_image), samples[sorted(of_image)], strict=True):
        drawn.update((patch, _picture(patch, sample.image)) for patch in of_image[position])
    return tuple(_exhibit(name, channels, drawn) for name, channels in patches.items())


def _picture(patch: Patch, image: Tensor) -> Picture:
    alt = f"{patch.sample}, unit {patch.unit[0]}, {patch.unit[1]}: activation {figure(patch.activation)}"
    return Picture(pictures.image(shrunk(patch.cut(image), _LARGEST)), alt=alt)


def shrunk(images: Tensor, longest: int) -> Tensor:
    """Images C×H×W, made smaller where a side is longer than that."""
    height, width = images.shape[1:]
    by = longest / max(height, width)
    if by >= 1:
        return images
    size = (max(1, round(height * by)), max(1, round(width * by)))
    return torch.nn.functional.interpolate(images[None], size=size, mode="bilinear", antialias=True)[0]


def _exhibit(name: str, channels: Mapping[int, Sequence[Patch]], drawn: Mapping[Patch, Picture]) -> Exhibit:
    fields = sorted({patch.field for patches in channels.values() for patch in patches})
    sizes = f"{_sides(fields[0])}" + (f" to {_sides(fields[-1])}" if len(fields) > 1 else "")
    return Exhibit(
        title=f"Patches that activate {name} most",
        text="A row is a channel, the strongest patch first, one of each image: what the unit sees, "
        f"{sizes} pixels. What the patches of a row have in common is what the channel looks for. Grey lies outside of "
        "the image.",
        rows=tuple(_row(channel, patches, drawn) for channel, patches in channels.items()),
    )


def _row(channel: int, patches: Sequence[Patch], drawn: Mapping[Patch, Picture]) -> Row:
    strongest, weakest = patches[0].activation, patches[-1].activation
    return Row(
        f"channel {channel}",
        tuple(drawn[patch] for patch in patches),
        "" if strongest > 0 else "never above zero",
        {"activation": figure(strongest) if len(patches) == 1 else f"{figure(strongest)} to {figure(weakest)}"},
    )


def _sides(sides: Iterable[int]) -> str:
    return "×".join(map(str, sides))
