"""Samples, and what attacks made of them, as arrays of numpy and facts in JSON; and back, number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.samples import Sample, Samples

Arrays = dict[str, NDArray[Any]]

_DTYPES = {str(each): each for each in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


def as_arrays(few: Sequence[Sample], adversarial: Mapping[str, NDArray[Any]]) -> Arrays:
    """What is kept in numbers.

    Args:
        few: the samples, whose images have one shape.
        adversarial: images C×H×W that an attack made, by sample id; not every sample needs one.

    Returns:
        `images` N×C×H×W, bytes where these divided by 255 give back just the same numbers; `labels` N; and of those
        samples that have them `masks`, `adversarial` and `perturbation` (adversarial minus clean), M of each, with the
        positions of these samples in `masks_of`, `adversarial_of`, `perturbation_of`.
    """
    changes = {each.id: adversarial[each.id] - _exact(each.image) for each in few if each.id in adversarial}
    return {
        "images": _images(few),
        "labels": np.array([each.label for each in few], dtype=np.int64),
        **_some("masks", [None if each.mask is None else each.mask.cpu().numpy().copy() for each in few]),
        **_some("adversarial", [adversarial.get(each.id) for each in few]),
        **_some("perturbation", [changes.get(each.id) for each in few]),
    }


def as_facts(samples: Samples, few: Sequence[Sample]) -> dict[str, Any]:
    """What is kept in words: of all samples where they come from, of the few their ids and boxes."""
    return {
        "n": len(samples),
        "source": samples.source,
        "located": samples.located,
        "dtype": str(few[0].image.dtype),
        "class_names": None if samples.class_names is None else list(samples.class_names),
        "worst": [
            {"id": each.id, "label": each.label, "boxes": None if each.boxes is None else [*map(list, each.boxes)]}
            for each in few
        ],
    }


def as_samples(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Samples:
    """The few samples as they were: ids, images, labels, class names, boxes and masks."""
    worst = facts["worst"]
    masks: list[NDArray[Any] | None] = [None] * len(worst)
    for place, mask in zip(arrays.get("masks_of", ()), arrays.get("masks", ()), strict=True):
        masks[place] = mask
    images = torch.from_numpy(arrays["images"])
    made = Samples.from_tensors(
        images if images.dtype == torch.uint8 else images.to(_DTYPES[facts["dtype"]]),
        arrays["labels"],
        boxes=[each["boxes"] for each in worst] if facts["located"] else None,
        masks=masks if "masks" in arrays else None,
        ids=[each["id"] for each in worst],
        class_names=facts["class_names"],
    )
    made.source = f"the {f'{len(made)} worst samples' if len(made) > 1 else 'worst sample'} of {facts['source']}"
    return made


def _images(few: Sequence[Sample]) -> NDArray[Any]:
    stacked = torch.stack([each.image for each in few]).detach().cpu()
    rounded = (stacked * 255).round().to(torch.uint8)
    exact = stacked.dtype == torch.float32 and torch.equal(rounded.float() / 255, stacked)
    return rounded.numpy() if exact else _exact(stacked)


def _exact(image: Tensor) -> NDArray[Any]:
    """The same numbers; those of fewer bits, not all of which numpy knows, in float32."""
    return image.detach().to(torch.promote_types(image.dtype, torch.float32)).cpu().numpy()


def _some(name: str, each: Sequence[NDArray[Any] | None]) -> Arrays:
    """Those arrays that there are, and which samples they belong to."""
    there = {place: array for place, array in enumerate(each) if array is not None}
    return {name: np.stack([*there.values()]), f"{name}_of": np.array([*there])} if there else {}
