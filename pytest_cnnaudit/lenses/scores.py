"""The score that is explained, a class's logit, and how it follows what it was computed from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pytest_cnnaudit.errors import AuditError


@contextmanager
def differentiating() -> Iterator[None]:
    """Within: gradients are recorded, also where the caller's `no_grad` or `inference_mode` is on."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def plain(tensor: Tensor) -> Tensor:
    """The same values in a tensor without history, which may be made to require gradients."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def class_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit, before the softmax, of each sample's target: N of N×K and N."""
    return logits.gather(1, plain(targets)[:, None])[:, 0]


def slope(logits: Tensor, targets: Tensor, source: Tensor, name: str) -> Tensor:
    """∂ logit[target] / ∂ source, sample by sample; of a `source` that the logits were computed from.

    Raises:
        AuditError: gradients do not lead from the logits to the source, which is called `name`.
    """
    return gradient_at(class_scores(logits, targets), source, f"The class scores do not depend on {name}")


def gradient_at(scores: Tensor, source: Tensor, failing: str, *, retain: bool = False) -> Tensor:
    """∂ Σ scores / ∂ source, where each score follows from its own sample alone.

    Args:
        scores: N.
        source: what they were computed from.
        failing: how the error begins, for example ``"The neuron does not depend on the image"``.
        retain: keep the graph for another pass.

    Raises:
        AuditError: gradients do not lead from the scores to the source.
    """
    found: Tensor | None = None
    if scores.requires_grad:
        (found,) = torch.autograd.grad(scores.sum(), source, retain_graph=retain, allow_unused=True)
    if found is None:
        raise AuditError(
            f"{failing} in a way that gradients can follow (detached, computed under no_grad, rounded to integers, or "
            "not used at all)."
        )
    return found
