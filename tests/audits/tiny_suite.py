"""The conftest.py of the small suites that tests run with pytester: a network and images whose answers are known.

Each image is grey with one brighter quadrant, and the network compares the quadrants' means: it is right about every
image, and within an L∞ ball it holds as long as the quadrant's contrast is larger than about twice the radius.
"""

import pytest
import torch
from torch import nn

from pytest_cnnaudit import AuditModel, Samples

torch.set_num_threads(1)  # beside other processes, many threads make so small a network a hundred times slower

CONTRASTS = (0.10, 0.10, 0.20, 0.20, 0.30, 0.30, 0.40, 0.40)
CLASSES = ("top left", "top right", "bottom left", "bottom right")


class TinyNet(nn.Module):
    """Smooth filters (all at least 0, so that the ReLU changes nothing), then one mean a quadrant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(8)
        self.linear = nn.Linear(32, 4, bias=False)
        with torch.no_grad():
            colours = torch.tensor(
                [[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [2, 1, 1]]
            )
            self.conv.weight.copy_((colours / colours.sum(1, keepdim=True) / 9)[:, :, None, None].expand(-1, -1, 3, 3))
            self.linear.weight.copy_(2.5 * torch.eye(4).repeat(1, 8))

    def forward(self, images):
        return self.linear(self.pool(self.relu(self.bn(self.conv(images)))).flatten(1))


def quadrant_images():
    images, labels, boxes = torch.full((8, 3, 16, 16), 0.3), torch.arange(8) % 4, []
    for image, label, contrast in zip(images, labels.tolist(), CONTRASTS, strict=True):
        top, left = label // 2 * 8, label % 2 * 8
        image[:, top : top + 8, left : left + 8] += contrast
        boxes.append((left, top, left + 8, top + 8))
    return images, labels, boxes


@pytest.fixture(scope="session")
def audit_model():
    return AuditModel(TinyNet().eval(), class_names=CLASSES, name="tiny")


@pytest.fixture(scope="session")
def audit_samples():
    images, labels, boxes = quadrant_images()
    return Samples.from_tensors(images, labels, boxes=boxes)
