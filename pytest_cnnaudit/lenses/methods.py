"""The attribution methods by name, and what each of them takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.adapters import adapted
from pytest_cnnaudit.lenses.cams import eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam
from pytest_cnnaudit.lenses.gradient import gradient, gradient_x_input
from pytest_cnnaudit.lenses.guided_backprop import deconvnet, guided_backprop
from pytest_cnnaudit.lenses.integrated_gradients import integrated_gradients
from pytest_cnnaudit.lenses.occlusion import occlusion
from pytest_cnnaudit.lenses.rise import rise
from pytest_cnnaudit.lenses.score_cam import score_cam
from pytest_cnnaudit.lenses.smooth_grad import smooth_grad


@dataclass(frozen=True, slots=True)
class Method:
    """An attribution method: ``function(model, images, targets, **options) -> attributions``.

    Attributes:
        function: what it is called as.
        pixels: whether it returns signed attributions of pixels, N×C×H×W, of which the size counts; else maps N×1×H×W.
        layer: whether it takes ``layer=``, the module that it looks at, and cannot do without.
        draws: whether it takes ``seeds=``, which what it draws for each sample follows from.
    """

    function: Callable[..., Tensor]
    pixels: bool = False
    layer: bool = False
    draws: bool = False


METHODS: Mapping[str, Method] = {
    "gradient": Method(gradient, pixels=True),
    "gradient_x_input": Method(gradient_x_input, pixels=True),
    "smooth_grad": Method(smooth_grad, pixels=True, draws=True),
    "integrated_gradients": Method(integrated_gradients, pixels=True),
    "guided_backprop": Method(guided_backprop, pixels=True),
    "deconvnet": Method(deconvnet, pixels=True),
    "grad_cam": Method(grad_cam, layer=True),
    "grad_cam_plus_plus": Method(grad_cam_plus_plus, layer=True),
    "layer_cam": Method(layer_cam, layer=True),
    "score_cam": Method(score_cam, layer=True),
    "eigen_cam": Method(eigen_cam, layer=True),
    "occlusion": Method(occlusion),
    "rise": Method(rise, draws=True),
}
"""All methods: by gradients of the pixels, by the channels of a layer, by what a change of the image does."""


def method_of(choice: object) -> Method:
    """The method of that name, of a captum attribution, or of a callable ``(model, images, targets) -> attributions``.

    A callable gets ``layer=`` and ``seeds=`` where it has parameters of these names.

    Raises:
        AuditError: there is no method of that name, or it is no callable.

    >>> method_of("rise").draws, method_of(lambda model, images, targets, layer: images).layer
    (True, True)
    """
    if isinstance(choice, str):
        if choice not in METHODS:
            raise AuditError(
                f"There is no saliency method {choice!r}; use {', '.join(map(repr, METHODS))} or a callable."
            )
        return METHODS[choice]
    for method in METHODS.values():
        if method.function is choice:
            return method
    captums = adapted(choice)
    if captums is not None:
        return Method(captums)
    if not callable(choice):
        raise AuditError(
            f"method= was given a {type(choice).__name__}; it takes the name of a method, a callable (model, images, "
            "targets) -> attributions, or an attribution of captum."
        )
    try:
        parameters = inspect.signature(choice).parameters
    except (TypeError, ValueError):
        return Method(choice)
    return Method(choice, layer="layer" in parameters, draws="seeds" in parameters)
