"""A faster model with the same outputs: batch-norm folded into convolutions, tensors in channels-last order."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

_TOLERANCE = 1e-4
"""Largest change of a logit, relative to the largest logit, that counts as rounding (measured: 1e-6)."""


def fold(module: nn.Module, example: Tensor) -> nn.Module:
    """The module with every batch-norm after a convolution folded into it, where that is exact; else the module itself.

    In eval mode a batch-norm is an affine map, y = γ (x − μ) / σ + β, and so is the convolution before it: weights
    W γ / σ and bias (b − μ) γ / σ + β give the same outputs with one operation less, and without the tensor that its
    backward pass would keep. The user's module is left alone: what is folded is a copy of its graph.

    Args:
        module: in eval mode.
        example: a batch as the module takes it. Whatever cannot be traced, has hooks, or answers this batch
            differently once folded, is used as it is.
    """
    if not _foldable(module):
        return module
    try:
        folded = fuse(module)
        with torch.no_grad():
            before, after = module(example), folded(example.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001  (tracing runs the user's code on symbols, and may raise anything)
        return module
    if not (isinstance(before, Tensor) and isinstance(after, Tensor) and before.shape == after.shape):
        return module
    scale = before.abs().amax().clamp(min=torch.finfo(before.dtype).tiny)
    if not (after - before).abs().amax() <= _TOLERANCE * scale:
        return module
    return folded.to(memory_format=torch.channels_last)


def _foldable(module: nn.Module) -> bool:
    """Hooks would run while the graph is traced, and never again."""
    return not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in module.modules())
