"""`AuditModel`: what a suite hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import layers
from pytest_cnnaudit.model.borrow import BorrowedModel
from pytest_cnnaudit.model.passes import counted_in
from pytest_cnnaudit.model.state import borrowed


class AuditModel:
    """A trained classifier under audit.

    It takes images in [0, 1], N×C×H×W, and returns logits, N×K. Normalisation happens inside, so that every
    perturbation is measured in pixel units. The user's module is only ever borrowed: its mode, `requires_grad`, grads,
    buffers, device and the state of the random generators are the same afterwards, whatever happens in between.

    Args:
        module: any `nn.Module` that maps normalised images to logits.
        mean: per-channel mean that the module expects to be subtracted; None for none.
        std: per-channel standard deviation that it expects to be divided by; given together with `mean`.
        class_names: for people, in the order of the logits.
        name: the model's name in reports; the module's class by default.
        input_size: (height, width), where the module takes no other; images of another size are then an error that says
            so.
        output: turns what the module returns into logits. Not needed for tensors, nor for outputs with `.logits` or
            ``["logits"]`` (Hugging Face).

    Raises:
        AuditError: an argument does not fit.

    >>> model = AuditModel(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> model(torch.rand(2, 3, 2, 2)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
        input_size: tuple[int, int] | None = None,
        output: Callable[[Any], Tensor] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise AuditError(f"AuditModel needs a torch.nn.Module, but was given {type(module).__name__}.")
        if (mean is None) != (std is None):
            raise AuditError("AuditModel needs mean and std together: the normalisation the module was trained with.")
        if mean is not None and std is not None and len(mean) != len(std):
            raise AuditError(f"AuditModel was given {len(mean)} means and {len(std)} stds: one of each a channel.")
        if std is not None and min(std) <= 0:
            raise AuditError(f"AuditModel was given std={tuple(std)}: every standard deviation must be above 0.")
        self.module = module
        self.mean = None if mean is None else tuple(float(value) for value in mean)
        self.std = None if std is None else tuple(float(value) for value in std)
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.name = name or type(module).__name__
        self.input_size = None if input_size is None else (int(input_size[0]), int(input_size[1]))
        self.output = output

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, N×K, of images in [0, 1], N×C×H×W. Gradients reach the images, never the weights."""
        device = next((tensor.device for tensor in self.module.parameters()), images.device)
        with self.borrow(device) as model:
            return model(images)

    @contextmanager
    def borrow(self, device: torch.device | str = "cpu", *, seed: int = 0) -> Iterator[BorrowedModel]:
        """Hand out the model on `device`, frozen and in eval mode; put everything back at the end.

        Random numbers drawn inside (by the model or by an attack) follow from `seed` and leave no trace outside.
        """
        with borrowed(self.module, torch.device(device), seed):
            model = BorrowedModel(
                self.module,
                name=self.name,
                mean=self.mean,
                std=self.std,
                input_size=self.input_size,
                output=self.output,
            )
            with counted_in(model.passes):
                yield model

    def class_name(self, label: int) -> str:
        """The name of a class, or its number where there is none."""
        if self.class_names is not None and 0 <= label < len(self.class_names):
            return self.class_names[label]
        return f"class {label}"

    def layer(self, name: str) -> nn.Module:
        """The layer of that name; an `AuditError` names the closest ones where there is none."""
        return layers.named(self.module, name)

    def first_conv(self) -> str:
        """The name of the convolution that sees the image: the first `nn.Conv2d` with as many inputs as channels."""
        return layers.first_conv(self.module, channels=None if self.mean is None else len(self.mean))

    def last_feature_layer(self, image: Tensor) -> str:
        """The name of the last layer that still has a map: the one Grad-CAM looks at (Selvaraju et al. 2017).

        Args:
            image: one image, C×H×W, to send through the model (one forward pass).
        """
        device = next((tensor.device for tensor in self.module.parameters()), image.device)
        with self.borrow(device) as model:
            return layers.last_feature_layer(model, image[None].to(device))
