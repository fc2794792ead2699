"""What an image is made for: a score of each image in a batch, N."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses.tap import up_to

Objective = Callable[[Tensor], Tensor]
"""Images N×C×H×W in [0, 1] to scores N that gradients can follow; each score of its own image alone."""

Position = tuple[int, int]
"""Row and column in a layer's map."""


def class_objective(model: Callable[[Tensor], Tensor], classes: Tensor) -> Objective:
    """The logits of `classes` (N), one for each image.

    Before the softmax: a probability also grows when the other classes shrink (Simonyan, Vedaldi & Zisserman 2014,
    "Deep Inside Convolutional Networks", section 2).
    """

    def scores(images: Tensor) -> Tensor:
        return model(images).gather(1, classes[:, None])[:, 0]

    return scores


def channel_objective(
    model: Callable[[Tensor], Tensor],
    layer: nn.Module,
    channels: Sequence[int],
    positions: Sequence[Position | None] | None = None,
) -> Objective:
    """What the layer's `channels`, one for each image, answer; the model is run up to the layer and no further.

    Of a map, the mean over its positions (Olah, Mordvintsev & Schubert 2017, "Feature Visualization") or, where
    `positions` names one, the neuron there.

    Args:
        model: images N×C×H×W in [0, 1] to logits.
        layer: a module inside it that returns maps N×c×h×w, vectors N×c or tokens N×T×c (their mean counts).
        channels: of that layer, as many as there will be images.
        positions: (row, column) in the map for each image; None for the mean.
    """
    places = [None] * len(channels) if positions is None else positions

    def scores(images: Tensor) -> Tensor:
        (returned,) = up_to(model, images, [layer])
        return torch.stack(
            [neuron(each, channel, place) for each, channel, place in zip(returned, channels, places, strict=True)]
        )

    return scores


def neuron(answer: Tensor, channel: int, position: Position | None) -> Tensor:
    """One channel of a layer's answer to one image: of a map c×h×w at a position, or its mean.

    >>> maps = torch.arange(8.0).view(2, 2, 2)
    >>> neuron(maps, 1, None), neuron(maps, 1, (0, 1)), neuron(maps[:, 0, 0], 1, None)
    (tensor(5.5000), tensor(5.), tensor(4.))
    """
    values = answer[..., channel] if answer.ndim < 3 else answer[channel]  # the channels of tokens T×c come last
    if position is None:
        return values.mean()
    if values.ndim != 2:
        raise AuditError(
            f"position={position} is one in a map, but this layer returns {tuple(answer.shape)} for an image; leave it "
            "out."
        )
    return values[position]


def activity_objective(
    model: Callable[[Tensor], Tensor], layers: Sequence[nn.Module], weights: Sequence[float]
) -> Objective:
    """Half the mean square of what the layers return, summed with `weights`; the model is run up to the last of them.

    Mordvintsev, Olah & Tyka 2015, "Inceptionism: Going Deeper into Neural Networks": whatever the layer sees, more of
    it. The gradient at the layer is what it returns.
    """

    def scores(images: Tensor) -> Tensor:
        answers = up_to(model, images, layers)
        means = [
            weight * answer.square().flatten(1).mean(1) / 2 for weight, answer in zip(weights, answers, strict=True)
        ]
        return torch.stack(means).sum(0)

    return scores
