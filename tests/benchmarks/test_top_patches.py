"""The top patches of all channels of all convolutions, against the plain forward pass of the same images.

    pytest -m benchmark tests/benchmarks/test_top_patches.py -s

ResNet-20 (19 convolutions, 688 channels) and 2,000 images of CIFAR-10's size (the 500, shifted by a few pixels), on one
thread. The measurement streams the images, merges, finds the receptive fields and draws; the floor is the forward pass
over full batches alone. Both in turns, because the machine's pace drifts; the figure is the median ratio.
"""

import resource

import pytest
import torch
from torch import nn

from pytest_cnnaudit import Samples
from pytest_cnnaudit.questions.activations import ActivationQuestions

pytestmark = pytest.mark.benchmark

COUNT, BATCH, ROUNDS = 2000, 256, 5


@pytest.fixture
def shifted(cifar_samples):
    """Makes samples: as many as wanted, none of them held."""

    def make(count):
        def load(position):
            sample = cifar_samples[position % len(cifar_samples)]
            return sample.image.roll(position // len(cifar_samples), dims=2), sample.label

        return Samples(load, [str(position) for position in range(count)], source="shifted CIFAR-10", workers=0)

    return make


def test_all_channels_of_all_convolutions_take_one_pass(resnet20_model, shifted, compare):
    samples = shifted(COUNT)
    audit = ActivationQuestions(resnet20_model, samples, device="cpu", batch_size=BATCH)
    batches = [batch.images for batch in samples.batches(BATCH)]

    def plain():
        with resnet20_model.borrow() as model, torch.no_grad():
            for images in batches:
                model(images)

    works = {"floor": plain, "ours": audit.top_patches}
    over = compare(f"top 9, {COUNT} images", works, ROUNDS, holds=lambda over: over["ours"] <= 1.15)
    found = audit.measurements[-1]
    channels = sum(len(top.values) for top in found.top.values())
    assert channels == sum(part.out_channels for part in resnet20_model.module.modules() if isinstance(part, nn.Conv2d))
    assert found.cost.backward == 0
    assert found.cost.forward <= COUNT + 5 + 2 * (32 + 32)  # five: does each layer run once, and in which order?
    assert over["ours"] <= 1.15


def test_memory_does_not_grow_with_the_images(resnet20_model, shifted, capsys):
    def peak_after(count):
        ActivationQuestions(resnet20_model, shifted(count), device="cpu", batch_size=BATCH).top_patches()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    peak_after(500)
    few, many = peak_after(500), peak_after(COUNT)
    with capsys.disabled():
        print(f"\n  peak memory after 500 images {few:.0f} MiB, after {COUNT} {many:.0f} MiB", end="")
    assert many - few < 8
