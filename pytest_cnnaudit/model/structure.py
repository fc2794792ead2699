"""What a module does with its weights: its structure, its code, and what it answers."""

from __future__ import annotations

import hashlib
import re
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_cnnaudit.canonical import canonical, qualified
from pytest_cnnaudit.model.audit_model import AuditModel
from pytest_cnnaudit.model.code import behind, class_code, named

_ROUNDING = 1e-4  # of the largest logit: see borrow.py, where the same is asked of a folded model
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_TORCHS_OWN = frozenset(vars(nn.Module()))
_HOOKS = sorted(name for name in _TORCHS_OWN if name.endswith("hooks"))


def structure(module: nn.Module) -> str:
    """A digest of the tree of modules, 16 hex digits: the same in every process, on every device, in every mode.

    Of each module count its name and class, the code of that class's methods, what it shows of itself (`extra_repr`),
    attributes that are plain data (``self.scale = 3``), other attributes by their class, hooks by name and code, and
    which modules and weights are one and the same. Neither weights nor `training` count. What a module writes down
    while it runs, such as a number of calls, makes it another. What methods call counts as far as `behind` sees it; for
    the rest there is `outputs`.
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
    kinds = list(dict.fromkeys(type(part) for part in module.modules()))
    for kind in kinds:
        found.update(class_code(kind))
    found.update(behind([*kinds, *chain.from_iterable(map(_attached, module.modules()))]))
    return found.hexdigest()[:16]


def _attached(part: nn.Module) -> list[Any]:
    """What a module holds beside its class's: attributes and hooks."""
    hooks = chain.from_iterable((getattr(part, name, None) or {}).values() for name in _HOOKS)
    return [*(value for name, value in vars(part).items() if name not in _TORCHS_OWN), *hooks]


def _described(part: nn.Module) -> bytes:
    attributes = {name: value for name, value in vars(part).items() if name not in _TORCHS_OWN}
    hooks = [list((getattr(part, name, None) or {}).values()) for name in _HOOKS]
    shown = _ADDRESS.sub("", part.extra_repr())
    return canonical([qualified(type(part)), shown, attributes, hooks], named)


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
