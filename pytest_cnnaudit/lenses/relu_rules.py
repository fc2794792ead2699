"""How a gradient goes back through ReLUs: as it is, by guided backprop, or by the deconvnet's rule.

The rules work on the graph that autograd makes of a forward pass, where each ReLU that ran is a node of its own. So it
is all one how the model calls it: a module used once or often, a function, a method, in place, clamping. The user's
modules are not touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from pytest_cnnaudit.errors import AuditError

Rule = Literal["gradient", "guided_backprop", "deconvnet"]
"""What a ReLU at z passes back of a gradient g: ``"gradient"`` g·[z > 0], ``"deconvnet"`` max(0, g) (Zeiler & Fergus
2014), ``"guided_backprop"`` max(0, g)·[z > 0] (Springenberg et al. 2015, section 3.4)."""


def check_rule(rule: str) -> None:
    """Raise an `AuditError` for a rule that there is not."""
    if rule not in get_args(Rule):
        raise AuditError(f"There is no rule {rule!r} for ReLUs; use {', '.join(map(repr, get_args(Rule)))}.")


@contextmanager
def relus_in_sight(model: Callable[[Tensor], Tensor], rule: Rule) -> Iterator[None]:
    """Within, forward passes of the model leave every ReLU in autograd's graph, where `following` finds it.

    What `torch.compile` has compiled runs as it was written, and autograd's graph does not hide what is done in place
    to a view. Nothing of this is needed for the plain gradient.

    Raises:
        AuditError: the model, or a part of it, is TorchScript, which hides what it runs.
    """
    if rule == "gradient":
        yield
        return
    parts = model.modules() if isinstance(model, nn.Module) else ()
    if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        raise AuditError(
            f"The model, or a part of it, is TorchScript, in which {rule} cannot reach the ReLUs; hand over the module "
            "that it was made from."
        )
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # since torch 2.6
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_NotInViews())
        yield


@contextmanager
def following(rule: Rule, output: Tensor, name: str) -> Iterator[None]:
    """Within, a backward pass from `output` follows the rule at every ReLU that it goes through.

    ReLUs are also: ReLU6, `hardtanh` from 0 on, a `threshold` at 0, and clamping from below at 0 or to [0, 6] (not to
    [0, 1], which keeps images in range). Other activations keep their gradient: the rules are not defined for them. Not
    found are ReLUs inside a `torch.autograd.Function` of the user's own, and those written as a `maximum`.

    Args:
        rule: for the ReLUs.
        output: computed while `relus_in_sight`.
        name: what the backward pass leads to, for the errors.

    Raises:
        AuditError: the backward pass went through no ReLU, so that the rule changed nothing, or might have gone through
            ReLUs that cannot be reached.
    """
    if rule == "gradient":
        yield
        return
    passed: set[Node] = set()

    def hook(node: Node) -> torch.utils.hooks.RemovableHandle:
        def after(to_input: tuple[Tensor | None, ...], to_output: tuple[Tensor, ...]) -> None:
            if to_input[0] is None:
                return
            # What the node has computed is a tensor of its own, so it may be overwritten: no memory is asked for.
            passed.add(node)
            if rule == "deconvnet":
                torch.clamp(to_output[0], min=0, out=to_input[0])
            else:
                to_input[0].clamp_(min=0)

        return node.register_hook(after)

    handles = [hook(node) for node in _nodes(output) if _is_relu(node, rule)]
    try:
        yield
    finally:
        for handle in handles:  # the graph may go on into what the model keeps
            handle.remove()
    if not passed:
        raise AuditError(
            f"There is no ReLU between {name} and the image, so that {rule} would be the plain gradient; use "
            "'gradient'. (The rule is for ReLU alone: not for GELU, SiLU, LeakyReLU and the like.)"
        )


_OPAQUE = ("CompiledFunctionBackward", "DifferentiableGraphBackward")
"""Nodes of autograd's that hold a graph of their own: of torch.compile, and of TorchScript."""


def _is_relu(node: Node, rule: Rule) -> bool:
    """Whether the node computes the gradient of a ReLU."""
    kind = node.name().rstrip("0123456789")
    if kind.endswith(_OPAQUE):
        raise AuditError(
            f"A part of the model runs compiled, and {rule} cannot reach the ReLUs in there; hand over the model as it "
            "was before torch.compile or torch.jit."
        )
    if kind == "ClampBackward":
        return _zero(node, "min") and (getattr(node, "_saved_max", None) in (None, 6))
    if kind in _BOUNDED:
        return _zero(node, _BOUNDED[kind])
    return kind == "ReluBackward"


_BOUNDED: Mapping[str, str] = {
    "HardtanhBackward": "min_val",
    "ThresholdBackward": "threshold",
    "ClampMinBackward": "min",
}


def _zero(node: Node, bound: str) -> bool:
    value = getattr(node, f"_saved_{bound}", None)
    return isinstance(value, int | float) and value == 0


def _nodes(output: Tensor) -> Iterator[Node]:
    """The graph that the tensor was computed by."""
    seen: set[Node | None] = {None}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(parent for parent, _ in node.next_functions)


_RELUS = {"relu", "relu6", "hardtanh", "threshold", "clamp", "clamp_min", "clip"}
"""Functions by their names, as there are several for each: of torch, of tensors, of torch.nn.functional, of ATen."""


def writes_in_place(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of one of these functions changes its input: by its name, or by ``inplace=True``."""
    return name.endswith("_") or any(each is True for each in (*args[1:], *kwargs.values()))


class _NotInViews(TorchFunctionMode):
    """Within, what would clamp a view in place is computed beside it and written back.

    Autograd keeps what was done in place to a view inside a node of the tensor that is viewed, out of reach.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix(".default")
        in_place = writes_in_place(name, args, kwargs)
        given = args[0] if args else kwargs.get("input")
        if not (in_place and name.strip("_") in _RELUS and isinstance(given, Tensor) and given._is_view()):
            return func(*args, **kwargs)
        options = {key: value for key, value in kwargs.items() if key != "input"}
        return given.copy_(func(given.clone(), *args[1:], **options))
