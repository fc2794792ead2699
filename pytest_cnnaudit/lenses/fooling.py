"""Noise that a model calls a class with certainty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.scores import differentiating, gradient_at, plain


def fooling_images(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    *,
    confidence: float = 0.99,
    eps: float | None = None,
    steps: int = 40,
) -> Tensor:
    """Images near to `images` of which the model is sure that they show `classes`.

    Nguyen, Yosinski & Clune 2015, "Deep Neural Networks are Easily Fooled", section 3 on gradient ascent: steps up the
    log-probability of a class, which begin in noise and end as soon as the confidence is reached. Here each step has
    the size of eps / 4 in the direction of the gradient's signs. An image that is there leaves the batch: it costs the
    passes it needs, at most `steps` forward and backward.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: where to start, N×C×H×W: noise, for fooling images.
        classes: N, what the model shall see.
        confidence: the softmax probability to reach, below 1.
        eps: the most that a value may change (L∞); None for anywhere in [0, 1], in steps of 4/255.
        steps: at most.

    Returns:
        The images, N×C×H×W in [0, 1], those that do not get there as far as they came.

    Raises:
        AuditError: a gradient is not finite, or does not reach the image.
    """
    size = 4 / 255 if eps is None else eps / 4
    reach = 1.0 if eps is None else eps
    with differentiating():
        images, classes = plain(images), plain(classes)
        found, open_ones = images.clone(), torch.arange(len(images), device=images.device)
        for _ in range(steps):
            seen = found[open_ones].requires_grad_()
            # A clone: a model may write into its input.
            scores = model(seen.clone()).log_softmax(1).gather(1, classes[open_ones, None])[:, 0]
            below = scores.detach().exp() < confidence
            if not below.any():
                break
            slope = gradient_at(scores, seen, "The class scores do not depend on the image")
            if not slope.isfinite().all():
                raise AuditError("The gradient of a class score is not finite; check the model's weights.")
            open_ones, stepped = open_ones[below], (seen.detach() + size * slope.sign())[below]
            origin = images[open_ones]
            found[open_ones] = stepped.clamp(origin - reach, origin + reach).clamp(0, 1)
        return found
