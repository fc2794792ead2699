"""Data as bytes: the same in every process, and others for other data."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from types import EllipsisType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotPlainError(Exception):
    """What a value holds cannot be told from outside."""


def _refuse(value: object) -> bytes:
    raise NotPlainError(f"a {qualified(type(value))} is not plain data")


_LEAVES: tuple[tuple[tuple[type, ...], Callable[[Any], bytes]], ...] = (
    ((NoneType, EllipsisType, bool, complex, range), lambda value: repr(value).encode()),
    ((np.generic,), lambda value: value.dtype.str.encode() + value.tobytes()),  # before float: np.float64 is one
    ((int,), lambda value: int.__repr__(value).encode()),
    ((float,), lambda value: struct.pack("<d", value)),
    ((str,), lambda value: str.encode(value, "utf-8", "surrogatepass")),  # file names may be any bytes
    ((bytes,), bytes),
    ((PurePath,), lambda value: str(value).encode("utf-8", "surrogatepass")),
)


def canonical(value: Any, beyond: Callable[[Any], bytes] = _refuse) -> bytes:
    """Bytes that stand for a value and its type: 1, True and ``"1"`` are three values, and so are (1,) and [1].

    Plain are None, numbers, texts, bytes, paths, slices and ranges, NumPy's scalars, and tuples, lists, sets and dicts
    of those. The order of a dict plays no part.

    Args:
        beyond: gives the bytes of anything else.

    Raises:
        NotPlainError: there is something else, and no `beyond` for it.

    >>> canonical({"a": 1, "b": 2.5}) == canonical({"b": 2.5, "a": 1}) != canonical({"a": True, "b": 2.5})
    True
    """
    plain = _written_as(type(value))  # type: ignore[arg-type]  # classes are hashable
    if plain is not None:
        return framed(plain[0], [plain[1](value)])
    parts: Iterable[Any]
    match value:
        case slice():
            parts = value.start, value.stop, value.step
        case tuple() | list() | set() | frozenset():
            parts = value
        case dict():
            parts = value.items()
        case _:
            return beyond(value)
    inside = [canonical(part, beyond) for part in parts]
    return framed(qualified(type(value)), sorted(inside) if isinstance(value, set | frozenset | dict) else inside)


def framed(kind: str, parts: Iterable[bytes]) -> bytes:
    """Parts of something of that kind, told apart by their lengths."""
    return b"".join([b"%d:%b" % (len(part), part) for part in (kind.encode(), *parts)]) + b";"


@functools.cache
def _written_as(kind: type) -> tuple[str, Callable[[Any], bytes]] | None:
    """The name of a class whose values are leaves, and how these are written."""
    written = next((written for types, written in _LEAVES if issubclass(kind, types)), None)
    return None if written is None else (qualified(kind), written)


def qualified(named: Any) -> str:
    """The full name of a class or a function; of anything else, that of its class."""
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


_PIECE = 2**22  # bytes that one thread hashes at a time
_WORTH_THREADS = 2**21  # bytes: fewer are hashed before a thread has started


def contents(tensors: Sequence[Tensor]) -> list[bytes]:
    """Of each tensor, bytes that stand for its dtype, shape and numbers, wherever and however these lie in memory.

    They hold hashes (SHA-256), so they are short: 32 bytes for every 4 MiB.
    """
    pieces = [_pieces(tensor.detach()) for tensor in tensors]
    flat = [piece for each in pieces for piece in each]
    hashes: Iterator[bytes]
    if sum(piece.numel() for piece in flat) < _WORTH_THREADS:
        hashes = map(_hash, flat)
    else:
        with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter
            hashes = iter([*pool.map(_hash, flat)])
    return [
        framed(f"{tensor.dtype} {tuple(tensor.shape)}", [next(hashes) for _ in each])
        for tensor, each in zip(tensors, pieces, strict=True)
    ]


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    """The bytes of a tensor in pieces, so that the number of threads plays no part; views of it where that can be."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    return torch.split(tensor.reshape(-1).view(torch.uint8), _PIECE)


def _hash(piece: Tensor) -> bytes:
    return hashlib.sha256(piece.numpy().data).digest()
