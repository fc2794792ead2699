"""Find layers: by name, the first convolution, the last one that still has a map."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError

if TYPE_CHECKING:
    from pytest_cnnaudit.model.borrow import BorrowedModel

_NO_FEATURES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.AdaptiveAvgPool2d)


def named(module: nn.Module, name: str) -> nn.Module:
    """The submodule called `name`, as in `module.named_modules()`."""
    found: dict[str, nn.Module] = dict(module.named_modules())
    if name in found and name:
        return found[name]
    close = (
        difflib.get_close_matches(name, filter(None, found), n=3, cutoff=0.3) or [each for each in found if each][:3]
    )
    raise AuditError(
        f"There is no layer {name!r} in {type(module).__name__}. "
        + (f"Did you mean {' or '.join(map(repr, close))}? " if close else "It has no layers. ")
        + "All names: [name for name, _ in module.named_modules()]."
    )


def first_conv(module: nn.Module, channels: int | None) -> str:
    """The name of the first `nn.Conv2d` that can take an image of `channels` channels (any, where None)."""
    convolutions: list[tuple[str, nn.Conv2d]] = [
        (name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d)
    ]
    for name, convolution in convolutions:
        if channels in (None, convolution.in_channels):
            return name
    if convolutions:
        return convolutions[0][0]
    raise AuditError(f"{type(module).__name__} has no nn.Conv2d: there are no filters to look at.")


def last_feature_layer(model: BorrowedModel, images: Tensor) -> str:
    """The name of the last layer in the forward pass that returns a map of features.

    A map is N×C×H×W with more than one position. Left out: layers that find nothing new (dropout, adaptive average
    pooling), layers that run more than once (a shared ReLU: which of its runs?), and maps with one channel a class,
    where their means are the logits (SqueezeNet): those are scores, not features. Of a block and its last
    part, the block, which ends later.
    """
    calls: Counter[str] = Counter()
    maps: list[tuple[str, Tensor]] = []

    def watch(name: str, part: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def after(_: nn.Module, __: Any, returned: Any) -> None:
            calls[name] += 1
            is_map = isinstance(returned, Tensor) and returned.ndim == 4 and returned.shape[2] * returned.shape[3] > 1
            if is_map and not isinstance(part, _NO_FEATURES):
                maps.append((name, returned.mean((2, 3))))

        return part.register_forward_hook(after)

    handles = [watch(name, part) for name, part in model.module.named_modules() if name]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    once = [(name, means) for name, means in maps if calls[name] == 1]
    if any(means.shape == logits.shape and torch.allclose(means.to(logits), logits, atol=1e-4) for _, means in once):
        once = [(name, means) for name, means in once if means.shape != logits.shape] or once
    features = [name for name, _ in once]
    if not features:
        raise AuditError(
            f"{type(model.module).__name__} has no layer that returns a feature map (N×C×H×W with H·W > 1) in "
            f"a forward pass on images of {images.shape[2]}×{images.shape[3]}; name one with layer=."
        )
    return features[-1]
