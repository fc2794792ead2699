"""Which weights a module has, in 16 hex digits."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn


class _Seen(NamedTuple):
    """A tensor as it was: the object, where its numbers lie, and how often torch has seen them written."""

    name: str
    tensor: ref[Tensor]
    address: int
    version: int


_known: WeakKeyDictionary[nn.Module, tuple[list[_Seen], str]] = WeakKeyDictionary()


def digest(module: nn.Module) -> str:
    """BLAKE2b over names, dtypes, shapes and bytes of all parameters and buffers, in the order of the state dict.

    It is the same on every device. It is computed once and then kept, as long as all tensors are the same objects in
    the same place and have not been written to; a write through ``.data``, which torch does not count, goes unnoticed.

    >>> linear = nn.Linear(2, 1)
    >>> before = digest(linear)
    >>> with torch.no_grad():
    ...     _ = linear.weight[0, 0].add_(1)
    >>> len(before), digest(linear) == before
    (16, False)
    """
    tensors = {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    if any(tensor.is_inference() for tensor in tensors.values()):
        return _digest(tensors)  # torch does not count what is written to these
    before, found = _known.get(module, ([], ""))
    if not found or not _unchanged(before, tensors):
        found = _digest(tensors)
        seen = [_Seen(name, ref(tensor), tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()]
        _known[module] = seen, found
    return found


def _unchanged(before: list[_Seen], tensors: dict[str, Tensor]) -> bool:
    return len(before) == len(tensors) and all(
        (seen.name, seen.address, seen.version) == (name, tensor.data_ptr(), tensor._version)
        and seen.tensor() is tensor  # another may have taken its place in memory
        for seen, (name, tensor) in zip(before, tensors.items(), strict=True)
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
