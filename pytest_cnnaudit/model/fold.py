"""A faster module with the same outputs: batch-norm folded into convolutions."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_FOLDS = {nn.BatchNorm1d: nn.Conv1d, nn.BatchNorm2d: nn.Conv2d, nn.BatchNorm3d: nn.Conv3d}


def folded(module: nn.Module) -> nn.Module | None:
    """A copy of the module with every batch-norm after a convolution folded into it; None where it cannot be had.

    In eval mode a batch-norm is an affine map, y = γ (x − μ) / σ + β, and so is the convolution before it: weights
    W γ / σ and bias (b − μ) γ / σ + β give the same outputs with one operation less, and without the tensor that its
    backward pass would keep. Measured on a ResNet-20 on a CPU: 0.7 of the time of a forward and backward pass.

    The copy has the parts and the forward pass of the module, with an identity in place of each batch-norm that was
    folded. Only what follows what is read off a traced graph: there is none where the forward pass depends on values.
    Nor is there a copy where there are hooks, which may know the module's own parts. Whoever uses it compares outputs
    and gradients first: tracing may have seen another way than the one that is taken.

    Args:
        module: in eval mode; left as it is.
    """
    if any(getattr(part, table, None) for part in module.modules() for table in _HOOKS):
        return None
    try:
        other = copy.deepcopy(module)
        for before, norm in list(_foldable(other)):
            convolution, after = other.get_submodule(before), other.get_submodule(norm)
            _replace(other, before, fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, after)))
            _replace(other, norm, nn.Identity())
    except Exception:  # noqa: BLE001  (tracing runs the user's code on symbols, and may raise anything)
        return None
    return other


def _foldable(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of convolutions and of the batch-norms after them, where each runs once and nothing else sees between."""
    tracer = fx.Tracer()
    try:
        graph = tracer.trace(module)
    finally:
        tracer.__dict__.clear()  # a function inside `trace` refers to itself and to it: the copy would not go with us
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    parts = dict(module.named_modules())
    for node in graph.nodes:
        norm = parts.get(node.target) if node.op == "call_module" else None
        if type(norm) not in _FOLDS or not norm.track_running_stats:  # type: ignore[union-attr]
            continue
        before = node.args[0] if node.args else None
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and type(parts[str(before.target)]) is _FOLDS[type(norm)]  # type: ignore[index]
            and len(before.users) == calls[before.target] == calls[node.target] == 1
        ):
            yield str(before.target), str(node.target)


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, part)
