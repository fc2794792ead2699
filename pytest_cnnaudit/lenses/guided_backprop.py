"""Guided backprop and the deconvnet: the gradient of a class score, with ReLUs that pass back what is positive only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pytest_cnnaudit.lenses.relu_rules import Rule, following, relus_in_sight
from pytest_cnnaudit.lenses.scores import differentiating, plain, slope


def guided_backprop(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """∂ logit[target] / ∂ image, where each ReLU passes back the positive part of the gradient where it was active.

    Springenberg, Dosovitskiy, Brox & Riedmiller 2015, "Striving for Simplicity: The All Convolutional Net", section
    3.4: R = [z > 0] · max(0, R above). It draws what the network reacts to in crisp outlines, and depends little on the
    class (Adebayo et al. 2018, "Sanity Checks for Saliency Maps"): to show what a neuron sees, rather than why a class
    was chosen. Costs one forward and one backward pass a sample.

    Exact wherever a ReLU is called from, see `relu_rules.following`, which also says what counts as one. In a network
    that mixes activations the others keep their gradient.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.

    Returns:
        Signed attributions, N×C×H×W.

    Raises:
        AuditError: there is no ReLU that the rule could change, or ReLUs are out of reach (TorchScript), or gradients
            do not lead from the logits to the images.
    """
    return _by_rule("guided_backprop", model, images, targets)


def deconvnet(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """A class score sent back through the network, where each ReLU passes the positive part, active before or not.

    Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1: R = max(0, R above); the
    filters transposed, and max-pooling by its switches, which is what their gradients do. Costs, arguments, result and
    errors are those of `guided_backprop`.
    """
    return _by_rule("deconvnet", model, images, targets)


def _by_rule(rule: Rule, model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    with differentiating(), relus_in_sight(model, rule):
        pixels = plain(images).requires_grad_()
        logits = model(pixels.clone())  # a clone: a model may write into its input
        with following(rule, logits, "the class scores"):
            return slope(logits, targets, pixels, "the image")
