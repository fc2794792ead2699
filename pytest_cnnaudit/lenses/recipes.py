"""The recipes of the papers for making an image: how it is written, where it starts, and what R(I) is."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from pytest_cnnaudit.errors import AuditError

Start = Literal["noise", "zero", "mean"]


def _count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def _share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_number, value))


_SETTINGS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("parametrisation", lambda it: it in ("fourier", "pixels"), "'fourier' or 'pixels'"),
    ("start", lambda it: it in ("noise", "zero", "mean"), "'noise', 'zero', 'mean', or images"),
    ("steps", _count, "a number of steps, 1 or more"),
    ("rate", lambda it: _number(it) and it > 0, "a step above 0"),
    ("l2", _share, "a share from 0 to below 1"),
    ("tv", _number, "a strength of 0 or more"),
    ("blur", _pair, "two widths in pixels, for the first and last step"),
    ("blur_every", _count, "a number of steps, 1 or more"),
    ("clip_norm", _share, "a share from 0 to below 1"),
    ("clip_contribution", _share, "a share from 0 to below 1"),
    ("jitter", _share, "a share of the side from 0 to below 1"),
    ("scale", lambda it: _pair(it) and 0 < it[0] <= it[1], "the smallest factor and the largest"),
    ("rotate", _number, "the largest angle in degrees"),
    ("centre_bias", _number, "a share of the side, or 0 for none"),
)
"""What each setting must be, in words as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to climb, and the regularisers that are on; each of them is explained in `regularisers`.

    Attributes:
        parametrisation: ``"fourier"`` climbs in the spectrum of decorrelated colours with Adam, ``"pixels"`` in the
            image itself with steps along the gradient, back into [0, 1] after each.
        start: ``"noise"`` around the centre colour, ``"zero"`` for that colour, ``"mean"`` for the mean of samples.
        steps: one forward and one backward pass each.
        rate: the length of a step; it falls to 0 evenly. In pixels, about the change of a pixel of [0, 1].
        l2: the share by which every step shrinks all distances to the centre colour.
        tv: how strong the slope of the total variation is beside that of the score.
        blur: the Gaussian's width in pixels at the first step and at the last.
        blur_every: steps from one blur, or clipping, to the next.
        clip_norm: the share of pixels to clip by their norm.
        clip_contribution: the share of pixels to clip by what they contribute.
        jitter: the largest random shift, as a share of the side.
        scale: the smallest and the largest random factor of the size.
        rotate: the largest random turn, in degrees.
        centre_bias: width of the Gaussian that weights the gradient, as a share of the side; 0 for none.
    """

    parametrisation: Literal["fourier", "pixels"] = "pixels"
    start: Start = "noise"
    steps: int = 128
    rate: float = 0.05
    l2: float = 0.0
    tv: float = 0.0
    blur: tuple[float, float] = (0.0, 0.0)
    blur_every: int = 4
    clip_norm: float = 0.0
    clip_contribution: float = 0.0
    jitter: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    centre_bias: float = 0.0

    def __post_init__(self) -> None:
        for name in ("blur", "scale"):
            if isinstance(getattr(self, name), list):  # as from a file
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, holds, wanted in _SETTINGS:
            if not holds(getattr(self, name)):
                raise AuditError(f"{name}={getattr(self, name)!r} does not do for gradient ascent; give {wanted}.")
        if self.parametrisation == "fourier" and (any(self.blur) or self.clip_norm or self.clip_contribution):
            raise AuditError("blur= and clipping change pixels; they go with parametrisation='pixels'.")

    def words(self) -> dict[str, str]:
        """The settings that are not off, for people."""
        off = {each.name: each.default for each in fields(self)}
        always = {"parametrisation", "start", "steps", "rate"}
        return {name: str(getattr(self, name)) for name in off if name in always or getattr(self, name) != off[name]}


RECIPES: Mapping[str, Recipe] = {
    # Olah et al. 2017. Jitter, scale and rotation as in lucid, stronger; steps that grow shorter tame the colours.
    "olah": Recipe(parametrisation="fourier", jitter=0.125, scale=(0.8, 1.25), rotate=10.0),
    # The same for a single neuron, which answers for one place: what moves far leaves its receptive field.
    "olah-neuron": Recipe(parametrisation="fourier", jitter=0.03, scale=(0.9, 1.1), rotate=10.0),
    # Simonyan et al. 2014, section 2: from the zero image (the mean colour), L2. The jitter is not theirs: without it a
    # SqueezeNet gives specks, with it outlines of objects.
    "simonyan": Recipe(start="zero", rate=0.03, l2=0.01, jitter=0.03),
    # Yosinski et al. 2015, section 3: decay, blur and clipping together.
    "yosinski": Recipe(rate=0.2, l2=0.0001, blur=(1.5, 0.5), clip_norm=0.3, clip_contribution=0.2),
    # Nguyen et al. 2016: from a mean image, blurred less and less, the gradient weighted towards the middle.
    "nguyen": Recipe(start="mean", rate=0.3, tv=0.01, blur=(1.5, 0.3), blur_every=1, jitter=0.04, centre_bias=0.3),
    # No R(I): what the papers start from, and what shows why it is needed.
    "plain": Recipe(rate=0.02),
}


def recipe_of(recipe: str | Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of that name, or the one given, with `settings` changed.

    Raises:
        AuditError: there is no such recipe or setting, or a setting does not do.
    """
    if not isinstance(recipe, str | Recipe):
        raise AuditError(f"recipe is a {type(recipe).__name__}; give {', '.join(map(repr, RECIPES))}, or a Recipe.")
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise AuditError(f"There is no recipe {recipe!r}; use {', '.join(map(repr, RECIPES))}, or make a Recipe.")
        recipe = RECIPES[recipe]
    known = [each.name for each in fields(Recipe)]
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
            raise AuditError(f"Gradient ascent has no setting {name!r}. Did you mean {' or '.join(map(repr, close))}?")
    return replace(recipe, **settings)
