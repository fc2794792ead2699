"""The neighbours of 1,000 images against the plain forward pass of the same images.

    pytest -m benchmark tests/benchmarks/test_neighbours.py -s

ResNet-20 and the 500 images of CIFAR-10 with their mirror images, on one thread. The measurement takes the features,
searches them by both metrics and the pixels, and draws; the floor is the forward pass over full batches alone. In
turns, because the machine's pace drifts; the figures are median ratios.
"""

import functools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_cnnaudit import Samples
from pytest_cnnaudit.audits import neighbours as audits
from pytest_cnnaudit.lenses import neighbours as lenses
from pytest_cnnaudit.lenses.features import features_into
from pytest_cnnaudit.lenses.neighbours import directions, nearest_neighbours
from pytest_cnnaudit.questions.neighbours import NeighbourQuestions

pytestmark = pytest.mark.benchmark

BATCH, K, ROUNDS = 250, 5, 5


@pytest.fixture(scope="module")
def mirrored(cifar_samples):
    images = torch.stack([sample.image for sample in cifar_samples])
    labels = [sample.label for sample in cifar_samples]
    return Samples.from_tensors(torch.cat([images, images.flip(3)]), labels * 2)


def small(over):
    return over["features"] + over["cosine"] + over["pixels"] <= 0.3 and over["all"] <= 1.4


def test_1000_neighbours_take_one_pass_and_a_fraction_of_its_time(resnet20_model, mirrored, compare):
    audit = NeighbourQuestions(resnet20_model, mirrored, device="cpu", batch_size=BATCH)
    batches = [batch.images for batch in mirrored.batches(BATCH)]
    pixels = torch.cat(batches).flatten(1).numpy()
    with resnet20_model.borrow() as model:
        features = torch.cat([features_into(model, images, model.module.linear) for images in batches]).numpy()

    def plain():
        with resnet20_model.borrow() as model, torch.no_grad():
            for images in batches:
                model(images)

    def search(points, **options):
        return nearest_neighbours(lambda begin, end: points[begin:end], len(points), K, at_once=1000, **options)

    over = compare(
        "neighbours of 1,000",
        {
            "floor": plain,
            "all": lambda: audit.neighbours(k=K),
            "features": functools.partial(search, features),
            "cosine": functools.partial(search, directions(features), unit=True),
            "pixels": functools.partial(search, pixels),
            "pixels by cdist": lambda: torch.cdist(*[torch.from_numpy(pixels).double()] * 2).topk(K + 1, largest=False),
        },
        ROUNDS,
        holds=small,
    )
    found = audit.measurements[-1]
    assert 1000 <= found.cost.forward <= 1000 + 1 + 8
    assert found.cost.backward == 0
    assert small(over)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor made within."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.bytes = max(self.bytes, made.nbytes)
        return made


def test_the_images_of_a_large_set_are_never_held_together(resnet20_model, mirrored, monkeypatch, capsys):
    audit = NeighbourQuestions(resnet20_model, mirrored, device="cpu", batch_size=50)
    whole = audit.neighbours(k=K)
    budget = 2 * 100 * 3 * 32 * 32 * 4  # two blocks of 100 of the 1,000
    monkeypatch.setattr(audits, "_IMAGES", budget)
    monkeypatch.setattr(lenses, "_MOST", 100)
    held, empty = [], np.empty

    def noted(shape, *args, **options):
        array = empty(shape, *args, **options)
        held.extend([array.nbytes] * (array.shape[-1:] == (3 * 32 * 32,)))  # images
        return array

    monkeypatch.setattr(np, "empty", noted)
    with Largest() as largest:
        found = audit.neighbours(k=K)
    with capsys.disabled():
        print(
            f"\n  within {budget / 2**20:.1f} MiB: images of {max(held) / 2**20:.2f} MiB at a time, "
            f"largest tensor {largest.bytes / 2**20:.1f} MiB (all images: {1000 * 3 * 32 * 32 * 4 / 2**20:.1f} MiB)",
            end="",
        )
    assert max(held) <= budget / 2
    assert largest.bytes <= 50 * 16 * 32 * 32 * 4  # the first layer's maps, of one batch
    for space, nearest in whole.nearest.items():
        assert np.array_equal(nearest.squared, found.nearest[space].squared)
        assert np.array_equal(nearest.positions, found.nearest[space].positions)
