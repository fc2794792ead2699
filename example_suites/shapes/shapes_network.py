"""A small residual network for the drawn shapes, and how to load its trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from shapes_data import CLASSES, Pixels
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.5, 0.5, 0.5)
STD = (0.3, 0.3, 0.3)
WEIGHTS = Path(__file__).parent / "weights"


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Map features (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        features = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(features)) + self.shortcut(images))


class ShapeNet(nn.Module):
    """Classify normalised images (N, 3, H, W) of any size; the last stage sees a quarter of H and W."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.stage1 = Block(16, 24, stride=2)
        self.stage2 = Block(24, 32, stride=1)
        self.stage3 = Block(32, 64, stride=1)
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes)."""
        features = functional.relu(self.bn1(self.conv1(images)))
        features = self.stage3(self.stage2(self.stage1(features)))
        return self.head(features.mean(dim=(2, 3)))


def as_tensor(images: Sequence[Pixels]) -> Tensor:
    """Stack images (each uint8, H x W x 3) into one tensor (N, 3, H, W) in 0..1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def normalise(images: Tensor) -> Tensor:
    """Turn images (N, 3, H, W) in 0..1 into what the network takes."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def load(name: str) -> ShapeNet:
    """Load the trained network `name` ("honest" or "shortcut"), in evaluation mode."""
    network = ShapeNet()
    network.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    return network.eval()
