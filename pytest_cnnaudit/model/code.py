"""The code behind functions and classes, and behind what it calls in turn, as bytes."""

from __future__ import annotations

import contextlib
import functools
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pytest_cnnaudit.canonical import canonical, framed, qualified

_KNOWN_BY_VERSION = {"torch", "torchvision", "numpy", "builtins"}
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_CACHED = type(functools.cache(repr))
_CODE = (FunctionType, type, functools.partial, _CACHED)
_LASTING = (type(None), bool, int, float, complex, str, bytes)
"""What stays what it is while a model runs: a list or a dict may be filled."""


def class_code(kind: type) -> bytes:
    """Methods and plain attributes of a class and of those it inherits from, but for what a version stands for."""
    parts = []
    for each in kind.__mro__:
        if not _known(each):
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
    parts: list[bytes] = []
    for function in _unwrapped(value):  # a decorator's own code says little
        parts += [_code(function.__code__), canonical((function.__defaults__, function.__kwdefaults__), named)]
    return framed(qualified(_function(value)), parts)


def behind(roots: Iterable[object]) -> bytes:
    """The code of all that functions and classes refer to, and of what that refers to in turn.

    That is what they know as a name of their module, of a module that they know (``helpers.scale``), or of the function
    around them: functions and classes, other objects by their class, and numbers and texts. What lies in a library
    counts with its own code and leads no further, and what torch, torchvision and NumPy hold does not count: their
    versions stand for it. What is reached in another way, through a list or an attribute of an object, is not seen.
    """
    found: dict[object, bytes] = {}
    waiting = [function for root in roots for function in _functions(root)]
    seen = set(map(id, waiting))
    for function in waiting:  # which grows meanwhile
        for name, value in _referred(function):
            if isinstance(value, _LASTING) or (
                isinstance(value, tuple) and all(isinstance(v, _LASTING) for v in value)
            ):
                found[id(function), name] = canonical((qualified(function), name, value))
                continue
            code = value if isinstance(value, _CODE) else type(value)
            if id(code) in found or _known(code):
                continue
            found[id(code)] = class_code(code) if isinstance(code, type) else named(code)
            new = [each for each in _functions(code) if id(each) not in seen and not _of_a_library(each)]
            seen.update(map(id, new))
            waiting += new
    return framed("behind", sorted(found.values()))


def _functions(value: object) -> Iterator[FunctionType]:
    """The functions that a value is or, of a class, holds, and those that these wrap."""
    if not isinstance(value, type):
        yield from _unwrapped(value.func if isinstance(value, functools.partial) else value)
        return
    for each in value.__mro__:
        if not _known(each):
            yield from chain.from_iterable(map(_unwrapped, vars(each).values()))


def _unwrapped(value: object) -> Iterator[FunctionType]:
    function = _function(value)
    while isinstance(function, FunctionType | _CACHED):
        if isinstance(function, FunctionType):
            yield function
        function = getattr(function, "__wrapped__", None)


def _referred(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The names that the code uses, and what they stand for: in its module, in modules that it knows, and around it."""
    code, space = function.__code__, function.__globals__
    names = _names(code)
    known = {name: space[name] for name in names & space.keys()}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            known[name] = cell.cell_contents
    for name, value in known.items():
        if not isinstance(value, ModuleType):
            yield name, value
        elif not _known(value):
            yield from ((f"{name}.{each}", vars(value)[each]) for each in names & vars(value).keys())


def _names(code: CodeType) -> set[str]:
    inside = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *chain.from_iterable(inside)}


def _known(value: Any) -> bool:
    """Whether a function, a class or a module is of those whose version stands for them."""
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(home).split(".")[0] in _KNOWN_BY_VERSION


def _of_a_library(function: FunctionType) -> bool:
    return function.__code__.co_filename.startswith(("<frozen", *_LIBRARIES))


def _function(member: Any) -> Any:
    """The function behind a method or a property; anything else as it is."""
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def _code(code: object) -> bytes:
    if not isinstance(code, CodeType):
        return qualified(type(code)).encode()
    parts = (code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames, code.co_argcount, code.co_consts)
    return canonical(parts, _code)
