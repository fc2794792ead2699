"""Samples as arrays and facts, and back: the same numbers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit import Samples
from pytest_cnnaudit.repro.arrays import as_arrays, as_facts, as_samples


def round_trip(samples, adversarial=None):
    few = list(samples)
    facts = json.loads(json.dumps(as_facts(samples, few)))
    return as_samples(facts, as_arrays(few, adversarial or {}))


@given(
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    located=st.sampled_from(["", "boxes", "masks", "both"]),
)
def test_what_comes_back_is_what_there_was(seed, dtype, located):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    images = torch.from_numpy(rng.integers(0, 256, (count, 2, 3, 4), dtype=np.uint8))
    if dtype.is_floating_point:
        images = torch.from_numpy(rng.random((count, 2, 3, 4))).to(dtype)
    boxes = [[], (0.1, 0, 2, 2.7), [(0, 0, 1, 1), (1, 1, 4, 3)], None]
    masks = [rng.random((3, 4)) < 0.5, None, np.zeros((3, 4), bool), None]
    before = Samples.from_tensors(
        images,
        torch.from_numpy(rng.integers(0, 3, count)),
        boxes=boxes[:count] if located in ("boxes", "both") else None,
        masks=masks[:count] if located in ("masks", "both") else None,
        ids=[f"{number} ü/\ud800" for number in range(count)],
        class_names=["a", "ö", ""] if seed % 2 else None,
    )
    after = round_trip(before)
    assert (after.ids, after.class_names, after.located) == (before.ids, before.class_names, before.located)
    for one, other in zip(before, after, strict=True):
        assert one.image.dtype == other.image.dtype and torch.equal(one.image, other.image)
        assert (one.label, one.boxes) == (other.label, other.boxes)
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or torch.equal(one.mask, other.mask)


def test_images_are_kept_in_bytes_only_where_these_give_back_the_same_numbers():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    one = [*Samples.from_tensors(levels, [0])]
    assert as_arrays(one, {})["images"].dtype == np.uint8
    nearly = levels.float() / 255
    nearly[0, 0, 3, 3] = torch.nextafter(nearly[0, 0, 3, 3], torch.tensor(1.0))
    kept = as_arrays([*Samples.from_tensors(nearly, [0])], {})["images"]
    assert kept.dtype == np.float32 and np.array_equal(kept, nearly.numpy())


@pytest.mark.parametrize("attacked", [[], [1], [0, 2]])
def test_adversarial_images_say_whose_they_are(attacked):
    samples = Samples.from_tensors(torch.rand(3, 1, 2, 2), [0, 1, 2])
    made = {samples.ids[each]: np.full((1, 2, 2), each / 4, np.float32) for each in attacked}
    arrays = as_arrays([*samples], made)
    assert arrays.get("adversarial_of", np.array([])).tolist() == attacked
    for at, each in enumerate(attacked):
        assert (arrays["adversarial"][at] == each / 4).all()
        assert np.array_equal(arrays["perturbation"][at], each / 4 - samples[each].image.numpy())
