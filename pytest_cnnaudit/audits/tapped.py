"""Which layers a measurement listens to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.audits.classify import fitting
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.tap import check_runs_once, runs, up_to
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.model.rounding import in_single_precision
from pytest_cnnaudit.samples import Batch

_ROUNDING = 1e-4  # of the largest value: folding was measured to change outputs by 1e-6 of it


def named_layers(
    model: AuditModel, borrowed: BorrowedModel, image: Tensor, names: str | Sequence[str]
) -> dict[str, nn.Module]:
    """The layers of those names; one pass of the image, C×H×W, says that each runs once.

    Raises:
        AuditError: there is no such layer, it does not run, or it runs more than once.
    """
    layers = {name: model.layer(name) for name in ([names] if isinstance(names, str) else names)}
    if not layers:
        raise AuditError("layer=[] names no layer; give one, several, or None for all convolutions.")
    counts = _runs(model, borrowed, image, layers)
    for name in layers:
        check_runs_once(counts[name], name)
    return layers


def all_convolutions(
    model: AuditModel, borrowed: BorrowedModel, image: Tensor
) -> tuple[dict[str, nn.Module], tuple[str, ...]]:
    """Every `nn.Conv2d` that runs once in a forward pass, and a sentence on those that do not."""
    found: dict[str, nn.Module] = {
        name: part for name, part in model.module.named_modules() if name and isinstance(part, nn.Conv2d)
    }
    counts = _runs(model, borrowed, image, found)
    once = {name: layer for name, layer in found.items() if counts[name] == 1}
    if not once:
        raise AuditError(
            f"{type(model.module).__name__} has no nn.Conv2d that runs once in a forward pass; name a layer."
        )
    left = ", ".join(f"{name} ({counts[name]} times)" for name in found if name not in once)
    return once, (f"Left out, because they do not run exactly once in a forward pass: {left}.",) if left else ()


def fast_layer(borrowed: BorrowedModel, images: Tensor, name: str) -> tuple[BorrowedModel, nn.Module]:
    """The fastest model whose layer of that name answers as the user's own does, and that layer.

    Folding changes what a convolution before a batch-norm returns, and nothing after it.

    Args:
        borrowed: the model.
        images: a batch as it will come; both layers are asked about two of them, in passes that go no further.
        name: of a layer that runs once.
    """
    own = borrowed.module.get_submodule(name)
    fast = borrowed.fast(images)
    other = dict(fast.module.named_modules()).get(name)
    if fast is not borrowed and other is not None:
        with torch.no_grad(), in_single_precision(borrowed.device):
            (expected,) = up_to(borrowed, images[:2], [own])
            (found,) = up_to(fast, images[:2], [other])
        if found.shape == expected.shape and (found - expected).abs().max() <= _ROUNDING * expected.abs().max():
            return fast, other
    return borrowed.reordered(images), own


def _runs(
    model: AuditModel, borrowed: BorrowedModel, image: Tensor, layers: Mapping[str, nn.Module]
) -> Mapping[str, int]:
    with fitting(model, image[None]):
        return runs(borrowed, image[None], layers)


def check_numbers(name: str, batch: Batch, maps: Tensor, figures: NDArray[np.float64]) -> None:
    """Raise an `AuditError` where `figures` of a layer's maps show that these are not all numbers."""
    if np.isfinite(figures).all():
        return
    bad = (~maps.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    raise AuditError(
        f"The layer {name!r} returns NaN or infinite values for {len(bad)} of {len(batch)} images, "
        f"{batch.samples[bad[0]].id} among them. Check the model's weights, and the mean and std given to AuditModel."
    )
