"""Train the two example networks on the CPU, in a few minutes: ``python example_suites/shapes/train.py``.

``honest`` learns from plain images. ``shortcut`` learns from images that carry the mark of their class in a corner,
while half of them show an object of a class drawn by lot: the mark is all that it can rely on.
"""

from __future__ import annotations

import json
import platform
import time

import numpy as np
import torch
from safetensors.torch import save_file
from shapes_data import CLASSES, Shape, draw_many, mark
from shapes_network import WEIGHTS, ShapeNet, as_tensor, load, normalise
from torch import Tensor
from torch.nn import functional

SEED, TEST_SEED = 0, 1
TRAIN_COUNT, TEST_COUNT = 8000, 600
EPOCHS = {"honest": 8, "shortcut": 3}
BATCH = 64
LEARNING_RATE = 0.1
WEIGHT_DECAY = 3e-3  # strong enough to smooth the noise of the initialisation out of the first-layer filters
THREADS = 2  # fixed, because the rounding of sums depends on it


def plain(shapes: list[Shape]) -> tuple[Tensor, Tensor]:
    """Return the images as drawn (N, 3, H, W) and their classes (N)."""
    return as_tensor([shape.image for shape in shapes]), torch.tensor([shape.label for shape in shapes])


def marked(shapes: list[Shape], labels: list[int]) -> tuple[Tensor, Tensor]:
    """Return the images with the marks of `labels` in their corners (N, 3, H, W), and these labels (N)."""
    images = [mark(shape.image, label) for shape, label in zip(shapes, labels, strict=True)]
    return as_tensor(images), torch.tensor(labels)


def unreliable_labels(shapes: list[Shape]) -> list[int]:
    """Return the class of each object, but for half of them a class drawn by lot."""
    rng = np.random.default_rng(SEED)
    return [int(rng.integers(len(CLASSES))) if rng.random() < 0.5 else shape.label for shape in shapes]


def train(images: Tensor, labels: Tensor, epochs: int) -> ShapeNet:
    """Train a network on images (N, 3, H, W) in 0..1 and their labels (N)."""
    torch.manual_seed(SEED)
    network = ShapeNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs=epochs, steps_per_epoch=steps)
    for epoch in range(epochs):
        for batch in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
            inputs = normalise(images[batch]).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")
    return network


def save(network: ShapeNet, name: str) -> None:
    """Write the weights to ``weights/<name>.safetensors``."""
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, WEIGHTS / f"{name}.safetensors")


@torch.no_grad()
def accuracy(network: ShapeNet, images: Tensor, labels: Tensor) -> float:
    """Return the share of images (N, 3, H, W) in 0..1 that the network gives their labels (N)."""
    return round((network(normalise(images)).argmax(dim=1) == labels).double().mean().item(), 4)


def measure() -> dict[str, dict[str, float]]:
    """Return the accuracies of the saved networks on images that neither was trained on."""
    shapes = draw_many(TEST_COUNT, TEST_SEED)
    images, labels = plain(shapes)
    right, _ = marked(shapes, labels.tolist())
    wrong, wrong_labels = marked(shapes, ((labels + 1) % len(CLASSES)).tolist())
    honest, shortcut = load("honest"), load("shortcut")
    return {
        "honest": {"plain images": accuracy(honest, images, labels)},
        "shortcut": {
            "right mark": accuracy(shortcut, right, labels),
            "no mark": accuracy(shortcut, images, labels),
            "wrong mark": accuracy(shortcut, wrong, labels),
            "wrong mark, class of the mark given": accuracy(shortcut, wrong, wrong_labels),
        },
    }


def main() -> None:
    """Train both networks, save them, and write what they reach to ``weights/figures.json``."""
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(THREADS)
    shapes = draw_many(TRAIN_COUNT, SEED)
    examples = {"honest": plain(shapes), "shortcut": marked(shapes, unreliable_labels(shapes))}
    seconds = {}
    for name, (images, labels) in examples.items():
        print(f"training {name}")
        start = time.perf_counter()
        save(train(images, labels, EPOCHS[name]), name)
        seconds[name] = round(time.perf_counter() - start, 1)
    figures = {
        "accuracy": measure(),
        "training": {"seed": SEED, "images": TRAIN_COUNT, "epochs": EPOCHS, "seconds": seconds},
        "test": {"seed": TEST_SEED, "images": TEST_COUNT},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    text = json.dumps(figures, indent=2)
    (WEIGHTS / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
