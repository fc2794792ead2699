"""The gradient of a class score with respect to the pixels: plain, and times the image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pytest_cnnaudit.lenses.scores import differentiating, plain, slope


def gradient(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """∂ logit[target] / ∂ image: which pixels the score would follow.

    Simonyan, Vedaldi & Zisserman 2014, "Deep Inside Convolutional Networks", section 3 (the score is the one before the
    softmax). Costs one forward and one backward pass a sample.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.

    Returns:
        The signed gradient, N×C×H×W; the paper's map is the largest magnitude over the channels.

    Raises:
        AuditError: gradients do not lead from the logits to the images.
    """
    with differentiating():
        pixels = plain(images).requires_grad_()
        return slope(model(pixels.clone()), targets, pixels, "the image")  # a clone: a model may write into its input


def gradient_x_input(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """The image times its gradient: what each pixel value adds to the score, to first order, over a black one.

    Shrikumar, Greenside, Shcherbina & Kundaje 2016, "Not Just a Black Box". The image is taken in [0, 1] as
    it is given, not as the module normalises it: black pixels have no part in the score.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.

    Returns:
        Signed attributions, N×C×H×W. They sum to the score where it is linear in the image.

    Raises:
        AuditError: gradients do not lead from the logits to the images.
    """
    return gradient(model, images, targets) * plain(images)
