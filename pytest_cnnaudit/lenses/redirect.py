"""A way up for what a ReLU has switched off: its plain gradient is zero, and ascent would never begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pytest_cnnaudit.lenses.relu_rules import writes_in_place

_BOUNDS: Mapping[str, tuple[tuple[str, float | None], ...]] = {
    "relu": (),
    "relu6": (),
    "hardtanh": (("min_val", -1.0), ("max_val", 1.0)),  # what an `nn.ReLU6` calls, with 0 and 6
    "clamp": (("min", None), ("max", None)),
    "clip": (("min", None), ("max", None)),
    "clamp_min": (("min", None),),
}
"""Functions that may be a ReLU, by their names, and their arguments that say so: there are several of each name, of
torch, of tensors, of torch.nn.functional."""


class RedirectedRelu(TorchFunctionMode):
    """Within, ReLUs answer as always, but the gradient of a sample that none of it would pass is redirected.

    It passes where going up it raises an input below zero, or lowers one above the bound of a ReLU6: where the step
    leads back into the range in which the ReLU answers. So lucid climbs its first steps (Olah et al. 2017; lucid's
    `redirected_relu_grad` and `redirected_relu6_grad`). Modules, functions, methods and clamping at 0 alike, in place
    or not; the user's modules are not touched.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        most = _most(name.removesuffix("_"), args, kwargs)
        if most is None:
            return func(*args, **kwargs)
        given: Tensor = args[0] if args else kwargs["input"]
        answer: Tensor = _Redirected.apply(given, most)
        return given.copy_(answer) if writes_in_place(name, args, kwargs) else answer


def _most(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
    """The largest answer of the ReLU that the call is, without end for most of them; None where it is none.

    Clamping to [0, 6] is a ReLU6; to [0, 1] it may well keep an image in range.
    """
    if name not in _BOUNDS or "out" in kwargs:
        return None
    values = {
        bound: args[place] if len(args) > place else kwargs.get(bound, usual)
        for place, (bound, usual) in enumerate(_BOUNDS[name], start=1)
    }
    low, *above = values.values() or (0, 6 if name == "relu6" else None)
    high = above[0] if above else None
    if not isinstance(low, int | float) or low != 0 or not (high is None or high in (6, math.inf)):
        return None
    return math.inf if high is None else float(high)


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, most: float) -> Tensor:
        answer = given.clamp(0, most)
        ctx.most = most
        ctx.save_for_backward(answer)
        return answer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (answer,), (gradient,) = ctx.saved_tensors, gradients
        passed = gradient * ((answer > 0) & (answer < ctx.most))
        stuck = ~passed.flatten(1).any(1)
        if stuck.any():
            arrived, at = gradient[stuck], answer[stuck]
            passed[stuck] = arrived * torch.where(at < ctx.most, arrived > 0, arrived < 0)
        return passed, None
