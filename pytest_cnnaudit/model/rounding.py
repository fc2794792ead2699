"""What is rounded to what: half precision, and TF32, to which convolutions on a GPU round unless told otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)

_TF32_SINCE = (8, 0)  # the compute capability from which GPUs have it


def in_full(numbers: Tensor) -> Tensor:
    """In single precision at least: in half precision sums would soon be rounded off.

    >>> in_full(torch.ones(2, dtype=torch.bfloat16)).dtype, in_full(torch.ones(2, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return numbers.float() if numbers.dtype in HALF else numbers


def order_for(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The order of maps in memory in which convolutions are fastest.

    Measured on a ResNet-20 and a ResNet-50, folded: on a CPU channels-last takes 0.8 of the time; on an H200 0.77 to
    0.85 where it computes in TF32, and 1.2 to 1.5 times as long where it does not.
    """
    if device.type != "cuda" or dtype in HALF:
        return torch.channels_last
    fast = dtype == torch.float32 and torch.cuda.get_device_capability(device) >= _TF32_SINCE and _convolves_in_tf32()
    return torch.channels_last if fast else torch.contiguous_format


@contextmanager
def in_single_precision(device: torch.device) -> Iterator[None]:
    """Within, a GPU rounds as single precision does, so that two ways to compute the same can be held together.

    A folded ResNet-20 has the logits of the original to 5e-7 of the largest and its gradients to 4e-4 of their length;
    in TF32 (on an H200) to 5e-4 and 0.06. The settings are torch's own, of the whole process, and come back.
    """
    if device.type != "cuda":
        yield
        return
    with _quiet():
        matmul = _matmul_precision()
        # Not touched where it is off anyway: whoever sets "none" would read "ieee" afterwards.
        changed = [(holder, name, exact) for holder, name, exact in _switches() if getattr(holder, name) != exact]
        before = [getattr(holder, name) for holder, name, _ in changed]
    try:
        with _quiet():
            for holder, name, exact in changed:
                setattr(holder, name, exact)
        yield
    finally:
        with _quiet():
            for (holder, name, _), value in zip(changed, before, strict=True):
                setattr(holder, name, value)
            if matmul == "medium":  # torch's switches know TF32, not that it may be less
                torch.set_float32_matmul_precision(matmul)


@contextmanager
def _quiet() -> Iterator[None]:
    """Some versions of torch warn whoever uses the older names, which the user has not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _switches() -> tuple[tuple[Any, str, Any], ...]:
    """What decides about TF32, by the names that may be read: who has set the newer ones may not read the older."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    older = ((cudnn, "allow_tf32", False), (matmul, "allow_tf32", False))
    try:
        for holder, name, _ in older:
            getattr(holder, name)
    except RuntimeError:
        return (cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")
    return older


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # as above
        return None


def _convolves_in_tf32() -> bool:
    with _quiet():
        holder, name, _ = _switches()[0]
        return getattr(holder, name) in (True, "tf32")
