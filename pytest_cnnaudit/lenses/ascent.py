"""Gradient ascent: I* = argmax f(I) + R(I), for many targets at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses import regularisers
from pytest_cnnaudit.lenses.fourier import Fourier
from pytest_cnnaudit.lenses.objectives import Objective
from pytest_cnnaudit.lenses.recipes import Recipe
from pytest_cnnaudit.lenses.redirect import RedirectedRelu
from pytest_cnnaudit.lenses.scores import differentiating, gradient_at, plain


class Ascent(NamedTuple):
    """The images N×C×H×W in [0, 1], and their scores N×steps before each step, as the recipe moved them about."""

    images: Tensor
    scores: Tensor


_REDIRECTED = 16
"""Steps in which what a ReLU has switched off is shown a way up; as in lucid."""
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones


def ascend(objective: Objective, start: Tensor, *, recipe: Recipe, centre: Tensor, seed: int = 0) -> Ascent:
    """Images with a large score, made from `start` after a recipe.

    Simonyan, Vedaldi & Zisserman 2014, "Deep Inside Convolutional Networks", equation 1; Yosinski et al. 2015,
    "Understanding Neural Networks Through Deep Visualization"; Nguyen, Yosinski & Clune 2016, "Multifaceted Feature
    Visualization"; Olah, Mordvintsev & Schubert 2017, "Feature Visualization". The gradient of each image is divided by
    its root mean square, so that a rate means the same for every model and layer. Images of a batch are moved about
    alike, and do not know of one another (but for how a convolution rounds a batch in single precision, which many
    steps enlarge). Costs one forward and one backward pass an image and step; in the first steps two, while an image of
    the batch has no gradient and ReLUs are redirected.

    Args:
        objective: images to scores N, as from `class_objective` or `channel_objective`.
        start: N×C×H×W in [0, 1].
        recipe: parametrisation, steps and regularisers.
        centre: C, the colour in [0, 1] that stands for nothing; the mean that the model was trained with, usually.
        seed: of the random moves.

    Raises:
        AuditError: a gradient is not finite, or does not reach the image.
    """
    with differentiating():
        start, centre = plain(start), plain(centre).to(start)
        climb = _InSpectra if recipe.parametrisation == "fourier" else _InPixels
        climber = climb(start, centre, recipe)
        height, width = start.shape[2:]
        weights = regularisers.centred((height, width), recipe.centre_bias).to(start) if recipe.centre_bias else 1.0
        generator = torch.Generator().manual_seed(seed)
        scores = []
        for step in range(recipe.steps):
            images = climber.images()
            seen = images.detach().requires_grad_()  # where the slope is shaped before it goes on to the spectrum
            moved = regularisers.wobble(seen, generator, jitter=recipe.jitter, scale=recipe.scale, rotate=recipe.rotate)
            score, slope = _score_and_slope(objective, moved, seen, redirect=step < _REDIRECTED)
            upwards = _unit(slope, weights)
            if recipe.tv:
                upwards -= recipe.tv * regularisers.total_variation_slope(seen.detach())
            climber.step(step, images, slope, upwards)
            scores.append(score)
        return Ascent(climber.images().detach().clamp(0, 1).contiguous(), torch.stack(scores, 1))


def _score_and_slope(objective: Objective, moved: Tensor, seen: Tensor, *, redirect: bool) -> tuple[Tensor, Tensor]:
    """The scores N and their gradients at `seen`, which `moved` was made from; redirected where they are zero."""

    def answer() -> Tensor:
        return objective(moved.clone())  # a clone: a model may write into it

    score = answer()
    slope = _slope(score, seen, retain=redirect)
    if redirect and (stuck := ~slope.flatten(1).any(1)).any():
        with RedirectedRelu():
            redirected = answer()
        slope = slope.where(~stuck[:, None, None, None], _slope(redirected, seen))
    return score.detach(), slope  # without the graph: it would live on through the next step's pass


def _slope(score: Tensor, images: Tensor, *, retain: bool = False) -> Tensor:
    return gradient_at(score, images, "The target does not depend on the image", retain=retain)


def _unit(slope: Tensor, weights: Tensor | float) -> Tensor:
    """Each image's gradient, divided by its root mean square and weighted; zero stays zero."""
    largest = torch.linalg.vector_norm(slope, torch.inf, dim=(1, 2, 3), keepdim=True)
    if not largest.isfinite().all():
        raise AuditError("The gradient of the target's score is not finite; check the model's weights.")
    tiny = torch.finfo(slope.dtype).tiny
    scaled = slope / largest.clamp(min=tiny)  # so that squares neither overflow nor vanish
    size = torch.linalg.vector_norm(scaled, dim=(1, 2, 3), keepdim=True) / slope[0].numel() ** 0.5
    unit: Tensor = scaled * (weights / size.clamp(min=tiny))
    return unit


class _InPixels:
    """Ascent in the image itself, with what regularises pixels after the step."""

    def __init__(self, start: Tensor, centre: Tensor, recipe: Recipe) -> None:
        self._images, self._centre, self._recipe = start, centre[:, None, None], recipe

    def images(self) -> Tensor:
        return self._images

    def step(self, number: int, images: Tensor, slope: Tensor, upwards: Tensor) -> None:
        recipe, centre = self._recipe, self._centre
        climbed = (images + recipe.rate * (1 - number / recipe.steps) * upwards).clamp(0, 1)
        if recipe.l2:
            climbed = regularisers.shrink(climbed, centre, recipe.l2)
        if (number + 1) % recipe.blur_every == 0:
            sigma = recipe.blur[0] + (recipe.blur[1] - recipe.blur[0]) * number / max(recipe.steps - 1, 1)
            if sigma:
                climbed = regularisers.blur(climbed, sigma)
            if recipe.clip_norm:
                climbed = regularisers.clip_small_norm(climbed, centre, recipe.clip_norm)
            if recipe.clip_contribution:
                climbed = regularisers.clip_small_contribution(climbed, slope, centre, recipe.clip_contribution)
        self._images = climbed


class _InSpectra:
    """Ascent in the spectrum of decorrelated colours, by Adam (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, start: Tensor, centre: Tensor, recipe: Recipe) -> None:
        self._recipe = recipe
        self._fourier = Fourier((start.shape[2], start.shape[3]), centre)
        self._spectra = self._fourier.encode(start).requires_grad_()
        self._mean, self._square = torch.zeros_like(self._spectra), torch.zeros_like(self._spectra)

    def images(self) -> Tensor:
        return self._fourier.decode(self._spectra)

    def step(self, number: int, images: Tensor, slope: Tensor, upwards: Tensor) -> None:  # noqa: ARG002
        recipe = self._recipe
        (gradient,) = torch.autograd.grad(images, self._spectra, upwards)
        with torch.no_grad():  # in place: four passes over the spectra, where `attacks.adam` would take a dozen
            self._mean.lerp_(gradient, 1 - _BETA1)
            self._square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
            scale = self._square.sqrt().div_((1 - _BETA2 ** (number + 1)) ** 0.5).add_(_EPSILON)
            rate = recipe.rate * (1 - number / recipe.steps) / (1 - _BETA1 ** (number + 1))
            self._spectra.addcdiv_(self._mean, scale, value=rate)
            if recipe.l2:
                self._spectra.mul_(1 - recipe.l2)


def start_images(
    start: str, count: int, size: tuple[int, int], *, recipe: Recipe, centre: Tensor, seed: int = 0
) -> Tensor:
    """`count` equal images N×C×H×W of the centre colour, ``"zero"``, or of faint noise around it, ``"noise"``.

    Equal, so that what is made for a target does not depend on the other targets. The noise is that of the recipe's
    parametrisation: white in pixels, and 1/f in the spectrum.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    if start == "zero":
        image = centre[:, None, None].expand(-1, height, width)[None]
    elif recipe.parametrisation == "fourier":
        spectrum = 0.01 * torch.randn(1, len(centre), height, 2 * (width // 2 + 1), generator=generator)
        image = Fourier(size, centre).decode(spectrum.to(centre))
    else:
        noise = 0.05 * torch.randn(1, len(centre), height, width, generator=generator)
        image = (centre[:, None, None] + noise.to(centre)).clamp(0, 1)
    return image.expand(count, -1, -1, -1).contiguous()
