"""Score-CAM: the channels of a layer, weighted by the score of what they let through of the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pytest_cnnaudit.lenses.baseline import Baseline, baseline_of
from pytest_cnnaudit.lenses.cams import upsampled
from pytest_cnnaudit.lenses.layer import Reshape, activations_at
from pytest_cnnaudit.lenses.scores import class_scores, plain


def score_cam(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    layer: nn.Module,
    baseline: Baseline = 0.0,
    at_once: int | None = None,
    reshape: Reshape | None = None,
) -> Tensor:
    """ReLU(Σₖ αₖ Aᵏ), αₖ the softmax over the channels of f(x ∘ Hᵏ) − f(x′): the score when channel k masks the image.

    Wang et al. 2020, "Score-CAM", algorithm 1. f is the logit of the target, before the softmax; Hᵏ is Aᵏ upsampled
    bilinearly to the image and then stretched to [0, 1]; x′ is the baseline, which also shows through where Hᵏ is
    small, and whose own score is the same for all channels and so leaves the softmax as it is. A constant channel masks
    nothing in particular: it counts as the baseline, without a pass.

    No gradients; costs one forward pass a sample, one for each of its channels that varies, and one for the baseline
    where some do not.

    Args:
        model: images N×C×H×W in [0, 1] to logits N×K.
        images: N×C×H×W.
        targets: N, the class whose score is explained.
        layer: a module inside the model that runs once and returns maps N×c×h×w.
        baseline: black where 0.
        at_once: images in a pass of the model; N where None.
        reshape: for a layer that returns something else, such as tokens.

    Returns:
        Maps N×1×H×W, 0 and above.

    Raises:
        AuditError: the layer does not run, runs more than once, or returns no maps.
    """
    room = max(1, len(images) if at_once is None else at_once)
    with torch.inference_mode(mode=False), torch.no_grad():
        images, targets = plain(images), plain(targets)
        absent = baseline_of(baseline, images)
        activations = activations_at(model, images, layer, reshape)
        varies = activations.amax((2, 3)) > activations.amin((2, 3))

        scores = activations.new_zeros(varies.shape)
        for some in torch.split((~varies).any(1).nonzero()[:, 0], room):
            scores[some] = class_scores(model(absent[some]), targets[some]).to(scores)[:, None]
        for some in torch.split(varies.nonzero(), room):
            sample, channel = some.unbind(1)
            masks = _stretched(upsampled(activations[sample, channel][:, None], (images.shape[2], images.shape[3])))
            masked = torch.lerp(absent[sample], images[sample], masks.to(images))
            scores[sample, channel] = class_scores(model(masked), targets[sample]).to(scores)

        weights = scores.softmax(1)[:, :, None, None]
        maps = (weights * activations).sum(1, keepdim=True).relu()
        return upsampled(maps, (images.shape[2], images.shape[3]))


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
