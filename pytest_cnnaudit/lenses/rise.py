"""RISE: the average of random masks, weighted by how sure the model is of the image behind each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pytest_cnnaudit.draws import draw
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.blocks import blocks
from pytest_cnnaudit.lenses.scores import class_scores, plain


def rise(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    masks: int = 1000,
    cells: int = 7,
    p: float = 0.5,
    centred: bool = True,
    seeds: Tensor | None = None,
    at_once: int | None = None,
) -> Tensor:
    """Σᵢ (fᵢ − f̄) Mᵢ / (E[M] · masks), fᵢ = f(x ⊙ Mᵢ) being the probability of the target after the softmax.

    Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", equation 6, with
    the masks of section 3.2: a grid of cells, each shown with probability p, upsampled bilinearly to more than the
    image and cut out at a random offset; what is hidden is black. Every sample has masks of its own. The paper takes
    4,000 to 8,000 masks.

    Equation 6 has fᵢ in place of fᵢ − f̄: a pixel without influence then has the mean f̄, not 0, which most of the map is
    made of, and there is more of the noise of the masks. ``centred=False`` gives it as it stands.

    No gradients; costs `masks` forward passes a sample. Masks are drawn as they are needed, and never held together.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        masks: N of the paper.
        cells: cells of the grid down and across; h and w of the paper.
        p: the share of cells that are shown.
        centred: whether the mean f̄ is taken off.
        seeds: N integers that the masks of each sample follow from; 0, 1, 2, … where None.
        at_once: images in a pass of the model; N where None.

    Returns:
        Maps N×1×H×W: signed, a positive value speaks for the class; 0 and above where not centred.

    Raises:
        AuditError: a setting is out of range.
    """
    if masks < 1 or cells < 1 or not 0 < p < 1:
        raise AuditError(f"rise was given masks={masks}, cells={cells}, p={p}; it needs ≥ 1, ≥ 1 and within (0, 1).")
    with torch.inference_mode(mode=False), torch.no_grad():
        images, targets = plain(images), plain(targets)
        drawn_from = (torch.arange(len(images)) if seeds is None else plain(seeds)).to(images.device)
        sums, shares = (images.new_zeros(len(images), 1, *images.shape[2:]) for _ in range(2))
        total = images.new_zeros(len(images), 1, 1, 1)
        for samples, versions in blocks(len(images), masks, at_once):
            shown = images[samples]
            seed = drawn_from[samples].repeat(len(versions))
            step = torch.arange(versions.start, versions.stop, device=images.device).repeat_interleave(len(shown))
            drawn = random_masks(seed, step, (images.shape[2], images.shape[3]), cells=cells, p=p).to(shown)
            drawn = drawn.view(len(versions), len(shown), 1, *images.shape[2:])
            logits = model((shown * drawn).flatten(0, 1))
            sure = class_scores(logits.softmax(1), targets[samples].repeat(len(versions))).to(shown)
            sure = sure.view(len(versions), len(shown), 1, 1, 1)
            sums[samples] += (sure * drawn).sum(0)
            shares[samples] += drawn.sum(0)
            total[samples] += sure.sum(0)
        return (sums - total / masks * shares if centred else sums) / (p * masks)


def random_masks(seeds: Tensor, steps: Tensor, size: tuple[int, int], *, cells: int, p: float) -> Tensor:
    """Masks N×1×H×W in [0, 1] of RISE's section 3.2, which follow from N seeds and N steps.

    >>> random_masks(torch.tensor([7]), torch.tensor([0]), (2, 4), cells=2, p=0.5)[0, 0].shape
    torch.Size([2, 4])
    """
    numbers = draw(seeds, steps, 2 + cells * cells)
    cell = [-(-side // cells) for side in size]
    grids = (numbers[:, 2:] < p).float().view(-1, 1, cells, cells)
    larger = [(cells + 1) * each for each in cell]
    maps = interpolate(grids, size=larger, mode="bilinear", align_corners=False)
    offset = [(numbers[:, axis] * cell[axis]).long() for axis in (0, 1)]
    rows, columns = (offset[axis][:, None] + torch.arange(size[axis], device=seeds.device) for axis in (0, 1))
    sample = torch.arange(len(seeds), device=seeds.device)[:, None, None]
    return maps[sample, 0, rows[:, :, None], columns[:, None]][:, None]
