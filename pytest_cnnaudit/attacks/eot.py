"""Expectation over transformation: attack what a random model says on average."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError


def expectation(model: Callable[[Tensor], Tensor], times: int) -> Callable[[Tensor], Tensor]:
    """The model whose logits are the mean over `times` passes of the given one, each with draws of its own.

    Athalye, Engstrom, Ilyas & Kwok 2018, "Synthesizing Robust Adversarial Examples", section 2.1. Its gradient is the
    mean of the gradients, so what a single draw adds to them averages out, in any attack. A pass then costs `times`
    passes, and as much more memory; passes are made one by one, because a model may draw once for a whole batch.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        times: passes; 1 gives the model back as it is.

    >>> noisy = lambda images: images.flatten(1) + torch.randn(len(images), 3)
    >>> steady = expectation(noisy, 1000)
    >>> bool(steady(torch.zeros(2, 3, 1, 1)).abs().max() < 0.2)
    True
    """
    if times < 1:
        raise AuditError(f"eot={times} is no number of passes; give 1 for none, or for example 20 for a random model.")
    if times == 1:
        return model

    def mean(images: Tensor) -> Tensor:
        return torch.stack([model(images) for _ in range(times)]).mean(0)

    return mean
