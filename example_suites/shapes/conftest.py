"""The model and the samples of this suite. Other tests of it ask for others, by name."""

import numpy as np
import pytest
import torch
from shapes_data import CLASSES, draw_many, mark
from shapes_network import MEAN, STD, ShapeNet, load

from pytest_cnnaudit import AuditModel, Samples


@pytest.fixture(scope="session")
def audit_model(request):
    name = getattr(request, "param", "honest")
    network = with_noisy_filters(load("honest")) if name == "noisy" else load(name)
    return AuditModel(network, mean=MEAN, std=STD, class_names=CLASSES, name=name)


@pytest.fixture(scope="session")
def audit_samples(request):
    """200 shapes that no training image came from, with their boxes; ``marked`` gives the class away in a corner."""
    shapes = draw_many(200, seed=1)
    marked = getattr(request, "param", "plain") == "marked"
    images = np.stack([mark(shape.image, shape.label) if marked else shape.image for shape in shapes])
    return Samples.from_tensors(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        [shape.label for shape in shapes],
        boxes=[shape.box for shape in shapes],
        class_names=CLASSES,
    )


def with_noisy_filters(network: ShapeNet) -> ShapeNet:
    """Add noise of one standard deviation of the weights to the first layer: a checkpoint that went wrong."""
    weight = network.conv1.weight
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight += noise * weight.std()
    return network
