"""R(I): what keeps an image that is made for a score from turning into noise. Functions of images N×C×H×W.

Each is one from the papers; `ascent` puts them together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad


def shrink(images: Tensor, centre: Tensor, share: float) -> Tensor:
    """A step down the slope of λ‖I − centre‖²: every distance to the centre colour shrinks by `share`.

    Simonyan, Vedaldi & Zisserman 2014, equation 1; θ_decay of Yosinski et al. 2015.
    """
    return centre + (1 - share) * (images - centre)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of `sigma` pixels, edges reflected: θ_b of Yosinski et al. 2015, section 3."""
    height, width = images.shape[2:]
    reach = min(math.ceil(3 * sigma), height - 1, width - 1)
    if reach < 1:
        return images
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    taps = (-(at**2) / (2 * sigma**2)).exp()
    taps = taps / taps.sum()
    planes = pad(images.flatten(0, 1)[:, None], [reach] * 4, mode="reflect")
    planes = conv2d(conv2d(planes, taps[None, None, :, None]), taps[None, None, None, :])
    return planes.view(images.shape)


def clip_small_norm(images: Tensor, centre: Tensor, share: float) -> Tensor:
    """The `share` of the pixels that differ least from the centre colour becomes it.

    θ_n of Yosinski et al. 2015, section 3: what does not show much should not show at all.
    """
    return _without(images, centre, (images - centre).norm(dim=1, keepdim=True), share)


def clip_small_contribution(images: Tensor, gradient: Tensor, centre: Tensor, share: float) -> Tensor:
    """The `share` of the pixels that contribute least to the score becomes the centre colour.

    θ_c of Yosinski et al. 2015, section 3: contribution is |Σ over the channels of I ∘ ∂score/∂I|, to first order what
    the score loses without the pixel.
    """
    contribution = ((images - centre) * gradient).sum(1, keepdim=True).abs()
    return _without(images, centre, contribution, share)


def _without(images: Tensor, centre: Tensor, worth: Tensor, share: float) -> Tensor:
    ranked = worth.flatten(1).sort(dim=1).values
    last = min(int(share * ranked.shape[1]), ranked.shape[1] - 1)
    return images.where(worth >= ranked[:, last, None, None, None], centre)


def total_variation_slope(images: Tensor) -> Tensor:
    """∂ Σ |I[p] − I[q]| / ∂ I over neighbouring pixels p, q: in each channel from −4 to 4.

    Anisotropic total variation (Rudin, Osher & Fatemi 1992; Mahendran & Vedaldi 2015 for images made from features).
    """
    slope = torch.zeros_like(images)
    across, down = images.diff(dim=3).sign(), images.diff(dim=2).sign()
    slope[..., 1:] += across
    slope[..., :-1] -= across
    slope[..., 1:, :] += down
    slope[..., :-1, :] -= down
    return slope


def centred(size: tuple[int, int], sigma: float) -> Tensor:
    """H×W weights of the gradient that fall from 1 at the middle, a Gaussian of `sigma` times the side.

    Centre-biased regularisation of Nguyen, Yosinski & Clune 2016, "Multifaceted Feature Visualization", section 2.3:
    one object in the middle instead of several everywhere.
    """
    across, down = (((torch.arange(side) + 0.5) / side - 0.5) ** 2 for side in (size[1], size[0]))
    return (-(down[:, None] + across[None, :]) / (2 * sigma**2)).exp()


def wobble(
    images: Tensor, generator: torch.Generator, *, jitter: float, scale: tuple[float, float], rotate: float
) -> Tensor:
    """The images moved, scaled and turned a little at random, all alike; borders are reflected.

    Transformation robustness: Mordvintsev et al. 2015 (jitter); Olah et al. 2017, section "Transformation Robustness".

    Args:
        images: N×C×H×W.
        generator: on the CPU; four numbers are drawn from it.
        jitter: the largest shift, as a share of the side.
        scale: the smallest and the largest factor.
        rotate: the largest angle, in degrees.
    """
    right, down, turn, size = (2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1).tolist()
    height, width = images.shape[2:]
    if scale == (1, 1) and not rotate:
        shifts = round(jitter * height * down), round(jitter * width * right)
        return images.roll(shifts, dims=(2, 3)) if any(shifts) else images
    angle, factor = math.radians(rotate * turn), scale[0] + (scale[1] - scale[0]) * (size + 1) / 2
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    where = torch.tensor(
        [[cosine, -sine * height / width, 2 * jitter * right], [sine * width / height, cosine, 2 * jitter * down]]
    )
    grid = affine_grid(where[None].to(images), [1, 1, height, width], align_corners=False)
    moved = grid_sample(images.flatten(0, 1)[None], grid, padding_mode="reflection", align_corners=False)
    return moved.view(images.shape)
