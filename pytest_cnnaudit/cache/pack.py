"""Results as bytes and back, without pickle: a JSON tree of values, and the numbers of all arrays behind it.

The layout: 8 bytes that name the format and its version, the length of the tree and that of the numbers (8 bytes each,
little-endian), the tree, the numbers. Every array begins at a multiple of 16 bytes.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_cnnaudit.results import Metric

_FORMAT = b"cnnpack\x01"  # the last byte is the version
_HEAD = struct.Struct("<8sQQ")
_ALIGNED = 16  # what the widest plain dtype needs
_PLAIN = (bool, str, type(None))  # JSON's own, as they are
_DTYPE = re.compile(r"[<>|]([biufcSU]\d+|[mM]8(\[\w+\])?)")
_TENSOR_DTYPES = {
    str(dtype): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and re.fullmatch(r"torch\.(bool|u?int\d+|b?float\d+|complex\d+)", str(dtype))
}
_PACKAGE = __name__.partition(".")[0]
_MODULE = re.compile(rf"{_PACKAGE}(\.[a-z]\w*)*")  # not __main__, which runs when it is imported
_METRIC = tuple(slot for slot in Metric.__slots__ if slot not in ("baseline", "comparisons", "link"))


class PackError(Exception):
    """A value that cannot be packed, or bytes that are no packed value."""


def pack(value: object) -> bytes:
    """A value as bytes, exactly: `unpack` gives back an equal one of the same types.

    Packed are None, bools, numbers, strings, bytes, tuples, lists, dicts, NumPy arrays and scalars of plain dtypes,
    torch tensors on the CPU, `torch.Size`, `Metric`, and the dataclasses and NamedTuples of this package. An array,
    a metric, … that occurs twice as one object is stored once, and comes back as one object.

    Raises:
        PackError: the value holds something else; the message says what, and where.

    >>> unpack(pack({"share": np.array([0.5, np.nan])}))
    {'share': array([0.5, nan])}
    >>> pack({"x": [1, print]})
    Traceback (most recent call last):
        ...
    pytest_cnnaudit.cache.pack.PackError: ['x'][1]: builtin_function_or_method cannot be packed
    """
    packer = _Packer()
    try:
        tree = json.dumps(packer.node(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except _Refusal as refusal:
        where = refusal.path.removeprefix(".")
        raise PackError(f"{where + ': ' if where else ''}{refusal.what} cannot be packed") from None
    except RecursionError:
        raise PackError(f"{type(value).__name__} cannot be packed: it is nested too deeply") from None
    text = tree.encode("utf-8", "surrogatepass")  # JSON's own escapes would join two lone surrogates
    text += b" " * (-(_HEAD.size + len(text)) % _ALIGNED)
    return b"".join([_HEAD.pack(_FORMAT, len(text), packer.size), text, *packer.numbers])


def unpack(data: bytes) -> Any:
    """The value that was packed. Arrays are writable views of one copy of the numbers.

    Nothing in the data is run. Of classes, only dataclasses, NamedTuples and `Metric` of this package are made, and
    these without checks of their own. A metric comes back as one that nothing has been asked of yet: its `comparisons`,
    `link` and `baseline` are empty.

    Raises:
        PackError: the data are not what `pack` returns, or a class has changed since.
    """
    if len(data) < _HEAD.size:
        raise PackError(f"{len(data)} bytes are too short for a packed value")
    form, text, size = _HEAD.unpack_from(data)
    if form != _FORMAT:
        raise PackError(f"the data begin with {form!r}; packed values of this version begin with {_FORMAT!r}")
    if len(data) != _HEAD.size + text + size:
        raise PackError(f"a packed value of {_HEAD.size + text + size} bytes is {len(data)} bytes long")
    begin = _HEAD.size + text
    try:
        tree = json.loads(data[_HEAD.size : begin].decode("utf-8", "surrogatepass"), parse_constant=_no_number)
        return _Unpacker(np.frombuffer(data, np.uint8)[begin:].copy()).value(tree)
    except (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise PackError(f"a packed value is malformed: {error}") from None


def _no_number(name: str) -> None:
    raise PackError(f"a packed value is malformed: {name} is no number of JSON")


class _Refusal(Exception):  # noqa: N818 - it never leaves this module
    """Something that cannot be packed, and where it is: the path grows on the way out."""

    def __init__(self, what: str) -> None:
        self.what, self.path = what, ""


class _Packer:
    """Turns values into nodes of the tree: JSON's own values for themselves, lists with a tag for all others."""

    def __init__(self) -> None:
        self.numbers: list[memoryview | bytes] = []
        self.size = 0
        self._known: dict[int, int] = {}
        self._values: dict[type, Callable[[Any], Any]] = {
            int: lambda value: value if -(2**63) <= value < 2**63 else ["int", hex(value)],
            float: lambda value: value if math.isfinite(value) else ["float", struct.pack("<d", value).hex()],
            bytes: lambda value: ["bytes", *self._place(value)],
            list: lambda value: ["list", self._nodes(enumerate(value))],
            tuple: lambda value: ["tuple", self._nodes(enumerate(value))],
            dict: lambda value: ["dict", self._nodes((key, key) for key in value), self._nodes(value.items())],
            torch.Size: lambda value: ["size", list(value)],
        }
        self._objects: dict[type, Callable[[Any], Any]] = {
            np.ndarray: self._array,
            torch.Tensor: self._tensor,
            Metric: self._metric,
        }

    def node(self, value: object) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in self._values:
            return self._values[kind](value)
        if isinstance(value, np.generic):
            return self._scalar(value)
        if id(value) in self._known:
            return ["known", self._known[id(value)]]
        node = self._objects[kind](value) if kind in self._objects else self._made(value)
        self._known[id(value)] = len(self._known)
        return node

    def _nodes(self, values: Iterable[tuple[object, object]], step: str = "[{!r}]") -> list[Any]:
        nodes = []
        for name, value in values:
            try:
                nodes.append(self.node(value))
            except _Refusal as refusal:
                refusal.path = step.format(name) + refusal.path
                raise
        return nodes

    def _fields(self, value: object, names: Iterable[str]) -> list[Any]:
        return self._nodes(((name, getattr(value, name)) for name in names), ".{}")

    def _scalar(self, value: np.generic) -> list[Any]:
        if not _DTYPE.fullmatch(value.dtype.str) or type(value) is not value.dtype.type:
            raise _Refusal(type(value).__name__)
        if isinstance(value, np.str_ | np.bytes_):  # their own methods lose zeros at the end
            return ["text", self.node(value[:])]
        return ["scalar", value.dtype.str, value.tobytes().hex()]

    def _array(self, value: NDArray[Any]) -> list[Any]:
        if not _DTYPE.fullmatch(value.dtype.str) or not value.dtype.itemsize:
            raise _Refusal(f"array of {value.dtype}")
        raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return ["array", value.dtype.str, list(value.shape), *self._place(raw.data)]

    def _tensor(self, value: torch.Tensor) -> list[Any]:
        known = value.layout == torch.strided and str(value.dtype) in _TENSOR_DTYPES
        if not known or value.device.type != "cpu" or value.requires_grad:
            grad = " that requires grad" if value.requires_grad else ""
            raise _Refusal(f"tensor of {value.dtype} on {value.device}{grad}")
        raw = value.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()
        return ["tensor", str(value.dtype), list(value.shape), *self._place(raw.data)]

    def _metric(self, value: Metric) -> list[Any]:
        return ["metric", self.node(float(value)), list(_METRIC), self._fields(value, _METRIC)]

    def _made(self, value: object) -> list[Any]:
        kind = type(value)
        names = _names(kind)
        if names is None or not _MODULE.fullmatch(kind.__module__) or "<locals>" in kind.__qualname__:
            raise _Refusal(kind.__name__)
        return ["made", kind.__module__, kind.__qualname__, names, self._fields(value, names)]

    def _place(self, raw: memoryview | bytes) -> tuple[int, int]:
        """Where the bytes will lie: begin and length."""
        begin, length = self.size, len(raw)
        padding = bytes(-length % _ALIGNED)
        self.numbers += [raw, padding]
        self.size += length + len(padding)
        return begin, length


class _Unpacker:
    """Turns nodes of the tree back into values."""

    def __init__(self, numbers: NDArray[np.uint8]) -> None:
        self._numbers = numbers
        self._known: dict[int, object] = {}
        self._values: dict[str, Callable[..., Any]] = {
            "int": lambda digits: int(digits, 16),
            "float": lambda bits: struct.unpack("<d", bytes.fromhex(bits))[0],
            "bytes": lambda begin, length: self._raw(begin, length).tobytes(),
            "list": self._each,
            "tuple": lambda nodes: tuple(self._each(nodes)),
            "dict": lambda keys, values: dict(zip(self._each(keys), self._each(values), strict=True)),
            "size": torch.Size,
            "text": lambda node: np.str_(node) if isinstance(node, str) else np.bytes_(self.value(node)),
            "scalar": lambda dtype, bits: np.frombuffer(bytes.fromhex(bits), _dtype(dtype))[0],
            "known": lambda number: self._known[number],
        }
        self._objects: dict[str, Callable[..., Any]] = {
            "array": lambda dtype, shape, *at: self._raw(*at).view(_dtype(dtype)).reshape(_shape(shape)),
            "tensor": self._tensor,
            "metric": self._metric,
            "made": self._made,
        }

    def value(self, node: Any) -> Any:
        if isinstance(node, (int, float, *_PLAIN)):
            return node
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise PackError(f"a packed value is malformed: there is no value {str(node)[:60]}")
        tag, *content = node
        if tag in self._values:
            return self._values[tag](*content)
        found = self._objects[tag](*content)
        self._known[len(self._known)] = found
        return found

    def _each(self, nodes: list[Any]) -> list[Any]:
        return [self.value(node) for node in nodes]

    def _tensor(self, dtype: str, shape: list[int], *at: int) -> torch.Tensor:
        kind, sizes = _TENSOR_DTYPES[dtype], _shape(shape)
        if 0 in sizes:  # no bytes have no stride that torch would view as something else
            return torch.empty(sizes, dtype=kind)
        return torch.from_numpy(self._raw(*at)).view(kind).reshape(sizes)

    def _metric(self, figure: Any, names: list[str], nodes: list[Any]) -> Metric:
        metric = Metric(self.value(figure), name="")
        _check(Metric, names, list(_METRIC))
        for name, value in zip(names, self._each(nodes), strict=True):
            setattr(metric, name, value)
        return metric

    def _made(self, module: str, qualname: str, names: list[str], nodes: list[Any]) -> object:
        """An instance whose ``__init__`` does not run: what was packed has been checked when it was made."""
        kind, values = _class(module, qualname), self._each(nodes)
        _check(kind, names, _names(kind))
        if issubclass(kind, tuple):
            return kind._make(values)  # type: ignore[attr-defined]
        made = object.__new__(kind)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(made, name, value)  # past `frozen`
        return made

    def _raw(self, begin: int, length: int) -> NDArray[np.uint8]:
        if not 0 <= begin <= begin + length <= len(self._numbers):
            raise PackError(f"a packed value is malformed: it has no {length} bytes at {begin}")
        return self._numbers[begin : begin + length]


def _dtype(name: str) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(name):
        raise PackError(f"a packed value is malformed: there is no dtype {name!r}")
    return np.dtype(name)


def _shape(sizes: list[int]) -> tuple[int, ...]:
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise PackError(f"a packed value is malformed: {sizes} is no shape")
    return tuple(sizes)


def _names(kind: type) -> list[str] | None:
    """The fields of a dataclass or NamedTuple; None for any other class."""
    if is_dataclass(kind):
        return [each.name for each in fields(kind)]
    return list(kind._fields) if issubclass(kind, tuple) and hasattr(kind, "_fields") else None


def _class(module: str, qualname: str) -> type:
    """A dataclass or NamedTuple of this package."""
    found: Any = import_module(module) if _MODULE.fullmatch(module) else None
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    if not isinstance(found, type) or found.__module__ != module or _names(found) is None:
        raise PackError(f"a packed value is malformed: {module} has no dataclass or NamedTuple {qualname!r}")
    return found


def _check(kind: type, packed: list[str], known: list[str] | None) -> None:
    if packed != known:
        raise PackError(f"{kind.__name__} was packed with the fields {packed}, and has {known} now")
