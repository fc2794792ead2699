"""What a module does with its weights: its structure, its code, and what it answers."""

from __future__ import annotations

import functools
import hashlib
import re
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.canonical import canonical, framed, qualified
from pytest_cnnaudit.model.audit_model import AuditModel

_ROUNDING = 1e-4  # of the largest logit: see borrow.py, where the same is asked of a folded model
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_TORCHS_OWN = frozenset(vars(nn.Module()))
_HOOKS = sorted(name for name in _TORCHS_OWN if name.endswith("hooks"))
_KNOWN_BY_VERSION = {"torch", "torchvision", "builtins"}


def structure(module: nn.Module) -> str:
    """A digest of the tree of modules, 16 hex digits: the same in every process, on every device, in every mode.

    Of each module count its name and class, the code of that class's methods, what it shows of itself (`extra_repr`),
    attributes that are plain data (``self.scale = 3``), other attributes by their class, hooks by name and code, and
    which modules and weights are one and the same. Neither weights nor `training` count. What a module writes down
    while it runs, such as a number of calls, makes it another. Functions that methods call do not count: `outputs`
    is for those.
    """
    found = hashlib.sha256()
    numbers: dict[int, int] = {}  # a ReLU, or a weight, that has two places in the tree is one
    for name, part in module.named_modules(remove_duplicate=False):
        new = id(part) not in numbers
        found.update(canonical((name, numbers.setdefault(id(part), len(numbers)))))
        if new:
            weights = {key: numbers.setdefault(id(weight), len(numbers)) for key, weight in part._parameters.items()}
            found.update(canonical(weights))
            found.update(_described(part))
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        found.update(_class(kind))
    return found.hexdigest()[:16]


def _described(part: nn.Module) -> bytes:
    attributes = {name: value for name, value in vars(part).items() if name not in _TORCHS_OWN}
    hooks = [list((getattr(part, name, None) or {}).values()) for name in _HOOKS]
    shown = _ADDRESS.sub("", part.extra_repr())
    return canonical([qualified(type(part)), shown, attributes, hooks], named)


def _class(kind: type) -> bytes:
    """Methods and plain attributes of a class and of those it inherits from, but for what a version stands for."""
    parts = []
    for each in kind.__mro__:
        if each.__module__.split(".")[0] not in _KNOWN_BY_VERSION:
            members = {
                name: function
                for name, member in vars(each).items()
                for function in [_function(member)]
                if isinstance(function, FunctionType) or not name.startswith("__")  # the rest is Python's own
            }
            parts.append(canonical((qualified(each), members), named))
    return framed("class", parts)


def named(value: object) -> bytes:
    """A function by its name, code and defaults; a class by its name; anything else by the name of its class."""
    if isinstance(value, functools.partial):
        return framed("partial", [named(value.func), canonical((value.args, value.keywords), named)])
    function, parts = _function(value), []
    while isinstance(function, FunctionType):
        parts += [_code(function.__code__), canonical((function.__defaults__, function.__kwdefaults__), named)]
        function = getattr(function, "__wrapped__", None)  # a decorator's own code says little
    return framed(qualified(_function(value)), parts)


def _function(member: Any) -> Any:
    """The function behind a method or a property; anything else as it is."""
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def _code(code: object) -> bytes:
    if not isinstance(code, CodeType):
        return qualified(type(code)).encode()
    parts = (code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames, code.co_argcount, code.co_consts)
    return canonical(parts, _code)


def outputs(model: AuditModel, images: Tensor, device: torch.device, *, seed: int = 0) -> NDArray[np.float32]:
    """The logits N×K of some images N×C×H×W in [0, 1]: a fingerprint of what the code of the model does.

    One forward pass through the model, which is left as it was.
    """
    with model.borrow(device, seed=seed) as borrowed, torch.no_grad():
        return borrowed(images.to(device)).float().cpu().numpy()


def alike(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether logits are the same up to rounding, which differs between numbers of threads and between GPUs.

    That is 1e-4 of the largest one. NaN is like NaN alone.
    """
    finite = np.isfinite(before)
    if not np.array_equal(finite, np.isfinite(now)):
        return False
    if not np.array_equal(before[~finite], now[~finite], equal_nan=True):
        return False
    one, other = before[finite], now[finite]
    largest = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0))
    return bool((np.abs(one - other) <= _ROUNDING * largest).all())
