"""What a single neuron responds to: its gradient with respect to the pixels, the network stopped at its layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.relu_rules import Rule, check_rule, following, relus_in_sight
from pytest_cnnaudit.lenses.scores import differentiating, gradient_at, plain
from pytest_cnnaudit.lenses.tap import up_to

Unit = tuple[int, int]
"""Row and column in a layer's map."""


class Responses(NamedTuple):
    """How strongly a channel responds to each image, N, and where in its map, N×2 (row, column); both without a graph.

    The layers that return vectors have maps of 1×1.
    """

    activations: Tensor
    units: Tensor


def responses(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    layer: nn.Module,
    channel: int,
    unit: Unit | Tensor | None = None,
) -> Responses:
    """What one channel of a layer responds to each image. One forward pass up to the layer.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        layer: a module inside the model that returns maps N×c×h×w or vectors N×c; if it runs several times, the first
            counts (`tap.check_layer` finds such layers out).
        channel: of the layer, from 0.
        unit: where in the map, one for all images or N×2; for each image the strongest where None, of equals the first.

    Raises:
        AuditError: the layer does not run or returns something else, or has no such channel or unit.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        (returned,) = up_to(model, plain(images), [layer])
        activations, units = _neurons(returned, channel, unit)
    return Responses(activations, units)


def neuron_gradient(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    layer: nn.Module,
    channel: int,
    unit: Unit | Tensor | None = None,
    rule: Rule = "guided_backprop",
) -> Tensor:
    """∂ neuron / ∂ image, by the rule for ReLUs: which pixels make the neuron respond.

    Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net", section 3.4 and figure 3, for
    ``"guided_backprop"``; Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1,
    for ``"deconvnet"`` (they send the activation down rather than 1: it scales the map). One forward pass up to the
    layer, and one backward pass from there. Arguments as in `responses`.

    Returns:
        Signed gradients, N×C×H×W; zero outside the neuron's receptive field.

    Raises:
        AuditError: as in `responses` and `relu_rules.following`; or the neuron does not depend on the image in a way
            that gradients can follow.
    """
    check_rule(rule)
    with differentiating(), relus_in_sight(model, rule):
        pixels = plain(images).requires_grad_()
        (returned,) = up_to(model, pixels.clone(), [layer])  # a clone: a model may write into its input
        activations, _ = _neurons(returned, channel, unit)
        with following(rule, activations, "the neuron"):
            return gradient_at(activations, pixels, "The neuron does not depend on the image")


def _neurons(returned: Tensor, channel: int, unit: Unit | Tensor | None) -> tuple[Tensor, Tensor]:
    """The channel's activations N at the units N×2, of maps N×c×h×w or vectors N×c."""
    if returned.ndim not in (2, 4):
        raise AuditError(
            f"The layer returns {tuple(returned.shape)}; neurons are looked at in one that returns maps N×c×h×w or "
            "vectors N×c."
        )
    maps = returned if returned.ndim == 4 else returned[:, :, None, None]
    count, channels, height, width = maps.shape
    if not 0 <= channel < channels:
        raise AuditError(f"channel={channel} is not one of the layer's {channels}: 0 to {channels - 1}.")
    if isinstance(unit, tuple) and not (0 <= unit[0] < height and 0 <= unit[1] < width):
        raise AuditError(f"unit={unit} is not in the layer's map of {height}×{width}; (0, 0) is its first.")
    flat = maps[:, channel].flatten(1)
    if unit is None:
        place = flat.detach().argmax(1)
    else:
        units = torch.as_tensor(unit, device=flat.device).expand(count, 2)
        place = units[:, 0] * width + units[:, 1]
    return flat.gather(1, place[:, None])[:, 0], torch.stack([place // width, place % width], 1)
