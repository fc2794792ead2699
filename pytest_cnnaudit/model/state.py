"""What of a module and of the process changes while the module is borrowed, and comes back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from pytest_cnnaudit.errors import AuditError


@contextmanager
def borrowed(module: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Within: eval mode, frozen weights, gradients on, random numbers from `seed`, on `device`. After: as before."""
    tensors = (*module.parameters(), *module.buffers())
    if any(tensor.is_inference() for tensor in tensors):
        raise AuditError(
            f"The weights of {type(module).__name__} were made under torch.inference_mode(), which forbids gradients "
            "for good; load the model outside of it."
        )
    home = _devices(module)
    moves = len(home) == 1 and device not in home  # a model spread over several devices stays where it is
    state = _State(module)
    with random_state(device, seed), torch.inference_mode(False), torch.enable_grad():
        try:
            state.freeze()
            if moves:
                module.to(device)
            yield
        finally:
            if len(home) == 1 and _devices(module) != home:  # also where someone else has moved it, a library's wrapper
                module.to(next(iter(home)))
            state.restore()


def _devices(module: nn.Module) -> set[torch.device]:
    return {tensor.device for tensor in (*module.parameters(), *module.buffers())}


_TABLES = (
    "_buffers",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""What a module keeps in dictionaries that the work inside may add to: an attribution of another library its hooks."""


class _State:
    """What of a module may change while it is used, and how it was.

    `training` is set module by module: `module.eval()` may be overridden, and `module.train()` afterwards would thaw
    batch-norm layers that the user keeps frozen.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modes = [(part, part.training) for part in module.modules()]
        self.weights = [(weight, weight.requires_grad, weight.grad) for weight in module.parameters()]
        self.tables = [
            (table, dict(table))
            for part in module.modules()
            for name in _TABLES
            if (table := getattr(part, name, None)) is not None
        ]
        self.contents = [(buffer, buffer.clone()) for buffer in module.buffers()]

    def freeze(self) -> None:
        for part, _ in self.modes:
            part.training = False
        for weight, _, _ in self.weights:
            weight.requires_grad_(False)
            weight.grad = None  # kept aside: what is accumulated inside must not reach it

    def restore(self) -> None:
        for part, training in self.modes:
            part.training = training
        for weight, requires_grad, grad in self.weights:
            weight.requires_grad_(requires_grad)
            weight.grad = grad
        for table, entries in self.tables:
            table.clear()
            table.update(entries)
        for buffer, content in self.contents:
            if not torch.equal(buffer, content):
                with torch.no_grad():
                    buffer.copy_(content)


@contextmanager
def random_state(device: torch.device, seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global state is what is kept)
    # torch.manual_seed seeds every GPU, so every GPU's state is kept.
    on_gpus = device.type == "cuda" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    accelerators = range(torch.cuda.device_count()) if on_gpus else ()
    with torch.random.fork_rng(accelerators):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def random_position(device: torch.device) -> tuple[object, ...]:
    """Where the random generators are: it differs after something was drawn."""
    _, key, *place = np.random.get_state()  # noqa: NPY002
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return random.getstate(), np.asarray(key).tobytes(), *place, *(state.numpy().tobytes() for state in states)
