"""The plain gradient of a class score with respect to the pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """∂ logit[target] / ∂ image: which pixels the score would follow.

    Simonyan, Vedaldi & Zisserman 2014, "Deep Inside Convolutional Networks", section 3 (the score is the one before the
    softmax). Costs one forward and one backward pass a sample.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.

    Returns:
        The signed gradient, N×C×H×W; the paper's map is the largest magnitude over the channels.
    """
    images = images.clone() if images.is_inference() else images.detach()
    images.requires_grad_()
    scores = model(images).gather(1, targets[:, None])
    return torch.autograd.grad(scores.sum(), images)[0]
