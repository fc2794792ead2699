"""Attribution objects of captum, as callables that an audit takes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.scores import differentiating, plain

_BASE = "captum.attr._utils.attribution.Attribution"


def adapted(method: object) -> Callable[..., Tensor] | None:
    """``(model, images, targets, **options) -> attributions`` for what is captum's, else None.

    It may be a class (``captum.attr.IntegratedGradients``), an object, or a function of the model that makes one
    (``lambda model: NoiseTunnel(Saliency(model))``). Options go to its ``attribute``. Captum is known by the names of
    its classes, so that it is not imported to look for them.

    An object was made with a module, usually one that wants normalised images. The model under audit, which takes
    images in [0, 1] and normalises them itself, takes that module's place in a copy of the object; so do classes and
    functions get the model under audit. An object that was made with a function is refused, because what that function
    does would be lost. What captum draws (NoiseTunnel) follows from the audit's seed and from how samples are batched.
    """
    if not (_is_captum(method) or _is_captum(type(method)) or _makes_from_a_model(method)):
        return None
    kind = method if inspect.isclass(method) else type(method)
    name = f"captum {kind.__name__}" if _is_captum(kind) else str(getattr(method, "__name__", kind.__name__))

    def call(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, **options: Any) -> Tensor:
        with warnings.catch_warnings(), differentiating():
            warnings.simplefilter("ignore")  # of theirs, about what is no business of the suite's
            attribute = _bound(method, model).attribute
            signature = inspect.signature(attribute)
            if any(each.name == "target" or each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
                options["target"] = plain(targets)  # LayerActivation alone has no use for it
            pixels = plain(images).clone().requires_grad_()  # of their own: they write into them, and into their grad
            try:
                signature.bind(pixels, **options)
            except TypeError as error:
                raise AuditError(f"The saliency method {name} does not take what it was given: {error}.") from None
            try:
                found = attribute(pixels, **options)
            except AssertionError as error:  # an audit's assertion is another thing
                raise AuditError(f"The saliency method {name} refused what it was given: {error}") from error
        if not isinstance(found, Tensor):
            raise AuditError(
                f"The saliency method {name} returned a {type(found).__name__}; an audit needs its attributions alone, "
                "as a tensor (leave out return_convergence_delta=)."
            )
        return found.detach()

    call.__name__ = name
    return call


def _is_captum(kind: object) -> bool:
    """Whether it is a class of captum's attributions."""
    return inspect.isclass(kind) and _BASE in {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}


def _makes_from_a_model(method: object) -> bool:
    """Whether it is a function of a model alone, and so no method itself."""
    if isinstance(method, partial):
        return _is_captum(method.func)
    return inspect.isroutine(method) and _takes(method, 1) and not _takes(method, 3)


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _bound(method: Any, model: Callable[[Tensor], Tensor]) -> Any:
    """The attribution object that explains `model`."""
    if _is_captum(type(method)):
        return _moved(method, model)
    try:
        made = method(model)
    except TypeError as error:
        if not inspect.isclass(method):
            raise
        raise AuditError(
            f"captum's {method.__name__} cannot be made from a model alone ({error}); give a function that makes it: "
            f"lambda model: {method.__name__}(model, …)."
        ) from None
    if not _is_captum(type(made)):
        raise AuditError(
            f"The saliency method takes a model and returned a {type(made).__name__}. A function of a model alone must "
            "return an attribution object of captum; a method takes (model, images, targets)."
        )
    return made


def _moved(attribution: Any, model: Callable[[Tensor], Tensor]) -> Any:
    """A copy of the object, and of those inside it, that explains `model`."""
    name = type(attribution).__name__
    own = attribution.forward_func
    if not isinstance(own, nn.Module) and own is not model:
        raise AuditError(
            f"captum's {name} was made with a {type(own).__name__}, which the model under audit cannot take the place "
            f"of; give a function that makes it, for example lambda model: {name}(lambda images: …model(images)…)."
        )
    layers = getattr(attribution, "layer", [])
    for layer in layers if isinstance(layers, list) else [layers]:
        if isinstance(model, nn.Module) and all(layer is not part for part in model.modules()):
            raise AuditError(
                f"captum's {name} was made for a layer of another model than the one under audit; give a function that "
                f"makes it, for example lambda model: {name}(model, model.module.…)."
            )
    moved = copy(attribution)
    for part, value in vars(attribution).items():
        if value is own:
            setattr(moved, part, model)
        elif _is_captum(type(value)):
            setattr(moved, part, _moved(value, model))
    return moved
