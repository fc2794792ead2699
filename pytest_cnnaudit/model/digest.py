"""Which weights a module has, in 16 hex digits."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def digest(module: nn.Module) -> str:
    """BLAKE2b over names, dtypes, shapes and bytes of all parameters and buffers, in the order of the state dict."""
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            plain = tensor.detach().cpu().contiguous()
            found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
