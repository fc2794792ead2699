"""The borrowed model: images in, logits out, passes counted, and a faster copy of it for attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model.fold import folded
from pytest_cnnaudit.model.rounding import HALF, in_full, in_single_precision, order_for
from pytest_cnnaudit.model.state import random_position, random_state
from pytest_cnnaudit.results import Cost

Precision = Literal["float32", "bfloat16"]

_ROUNDING = 1e-4  # of the largest logit; folding was measured to change them by 1e-6 of it
_GRADIENT_ROUNDING = 0.05  # of the gradient's length: measured 1e-5, on a GPU 4e-4, and 0.01 where a ReLU switches
_COMPARED = 4


class BorrowedModel(nn.Module):
    """The model as attacks and lenses see it: images in [0, 1] in, logits out, every pass counted.

    It is an `nn.Module`, so that attacks and attributions of other libraries take it as it is.
    """

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor: ...

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        input_size: tuple[int, int] | None,
        output: Callable[[Any], Tensor] | None,
    ) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.mean, self.std = mean, std
        self._input_size = input_size
        self._output = output
        self.training = False
        self.passes = {"forward": 0, "backward": 0}
        self._order: torch.memory_format | None = None
        self._autocast: torch.dtype | None = None
        weight = next((weight for weight in self.module.parameters() if weight.is_floating_point()), None)
        self.device = torch.device("cpu") if weight is None else weight.device
        self.dtype = torch.float32 if weight is None else weight.dtype
        self._mean, self._std = (
            None if values is None else torch.tensor(values, device=self.device, dtype=self.dtype)[:, None, None]
            for values in (mean, std)
        )

    @property
    def cost(self) -> Cost:
        """Passes of samples through the model so far. A backward pass counts wherever in the model it stops."""
        return Cost(**self.passes)

    def fast(self, images: Tensor, precision: Precision = "float32") -> BorrowedModel:
        """The same model for an attack's many passes: folded where that is exact, see `folded`. Their count is shared.

        What is found with it is to be confirmed by this model: the user's own, in its own precision. One in half
        precision rounds more than the two may differ, and is rarely folded.

        Args:
            images: a batch as the attack will use, no more than go through the model at once; both models are asked
                about a few of them, to see that they agree. After one image alone they are asked again when there are
                more.
            precision: ``"bfloat16"`` runs the passes under autocast.
        """
        images = images[:_COMPARED]
        known: BorrowedModel | None = self.__dict__.get("_fast")  # no submodule: another view of this one
        unsure = known is not None and known._order is not None and self.__dict__["_compared"] < min(len(images), 2)
        if known is None or unsure:
            # What the comparison draws changes nothing for the attack.
            with random_state(self.device, seed=0), in_single_precision(self.device):
                known = self._agreeing(images, precision)
            self.__dict__.update(_fast=known, _compared=len(images))
        return known

    def reordered(self, images: Tensor) -> BorrowedModel:
        """The same model, given its images in channels-last order where that is faster and it takes them so.

        The count of passes is shared. The module is the user's own, so that its layers can be looked at. Measured on a
        ResNet-20 on a CPU: 0.8 of the time of a forward pass. A module may insist on the other order (`view` of its
        maps), and is then left with it.

        Args:
            images: a batch as it will come; both orders are asked about two of them. After one image alone they are
                asked again when there are more, because then there was nothing to merge.
        """
        order = order_for(self.device, self.dtype)
        if order is torch.contiguous_format:
            return self
        images = images[:2]
        known: BorrowedModel | None = self.__dict__.get("_reordered")
        if known is None or (known is not self and self.__dict__["_reordered_by"] < len(images)):
            other = self._with(self.module, order)
            with random_state(self.device, seed=0), in_single_precision(self.device):
                known = other if self._answers_as(other, images) else self
            self.__dict__.update(_reordered=known, _reordered_by=len(images))
        return known

    @torch.no_grad()
    def _answers_as(self, other: BorrowedModel, images: Tensor) -> bool:
        expected = self(images)
        try:
            found = other(images)
        except RuntimeError:
            return False
        return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())

    def _agreeing(self, images: Tensor, precision: Precision) -> BorrowedModel:
        copy = folded(self.module)
        order = order_for(self.device, self.dtype if precision == "float32" else torch.bfloat16)
        fast = self if copy is None else self._with(copy.to(memory_format=order), order)
        if fast is not self and not self._agrees(fast, images):
            fast = self
        if precision == "float32" or self.dtype in HALF:  # which it has anyway
            return fast
        fast = self._with(self.module, None) if fast is self else fast
        fast._autocast = torch.bfloat16
        return fast

    def _agrees(self, fast: BorrowedModel, images: Tensor) -> bool:
        """Whether the other model has the same outputs and the same gradients for the images.

        Outputs alone are not enough: tracing forgets the backward pass of a `torch.autograd.Function`, and what is
        under `torch.no_grad`. And of a module that draws random numbers, tracing fixes those of Python and NumPy.
        """
        before = random_position(self.device)
        expected, slope = self._sloped(images, None)
        if random_position(self.device) != before:
            return False
        try:
            found, fast_slope = fast._sloped(images, expected.argmax(1))
        except Exception:  # noqa: BLE001  (a traced graph may raise anything)
            return False
        if found.shape != expected.shape or (slope is None) != (fast_slope is None):
            return False
        same = (found - expected).abs().max() <= _ROUNDING * expected.abs().max()
        if slope is not None and fast_slope is not None:
            same &= (fast_slope - slope).norm() <= _GRADIENT_ROUNDING * slope.norm()
        return bool(same)

    def _sloped(self, images: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits, and the gradient of those of `classes` (the predicted ones where None), if there is one."""
        images = images.clone().requires_grad_()
        logits = self(images)
        classes = logits.argmax(1) if classes is None else classes
        if not logits.requires_grad:
            return logits, None
        (slope,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), images, allow_unused=True)
        return logits.detach(), slope

    def _with(self, module: nn.Module, order: torch.memory_format | None) -> BorrowedModel:
        other = BorrowedModel(
            module, name=self.name, mean=self.mean, std=self.std, input_size=self._input_size, output=self._output
        )
        other.passes, other._order = self.passes, order
        return other

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N×K, of images in [0, 1], N×C×H×W.

        Raises:
            AuditError: the images do not fit the normalisation, or the module does not return finite N×K logits.
        """
        if images.is_inference():
            images = images.clone()
        count = len(images)
        if self._input_size not in (None, tuple(images.shape[2:])):
            raise AuditError(
                f"The model {self.name!r} takes images of {_size(self._input_size)} (its input_size), but was given "
                f"{_size(images.shape[2:])}; load the samples with size={self._input_size}."
            )
        self.passes["forward"] += count
        normalised = self._normalised(images)
        if self._order is not None:
            normalised = normalised.contiguous(memory_format=self._order)
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
            logits = self._logits(self.module(normalised))
        if logits.ndim != 2 or len(logits) != count or logits.shape[1] < 2:
            raise AuditError(
                f"The model {self.name!r} returned a tensor of shape {tuple(logits.shape)} for {count} images; "
                f"a classifier returns logits of shape ({count}, classes). Pass output= to AuditModel to pick them."
            )
        finite = logits.detach().isfinite().all(dim=1)
        if not finite.all():
            raise AuditError(
                f"The model {self.name!r} returned NaN or infinite logits for {int((~finite).sum())} of {count} "
                f"images. Check its weights, and the mean and std given to AuditModel."
            )
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return in_full(logits)

    def _normalised(self, images: Tensor) -> Tensor:
        images = images.to(self.dtype)
        if self._mean is None or self._std is None:
            return images
        if images.shape[1] != len(self._mean):
            raise AuditError(
                f"The model {self.name!r} normalises {len(self._mean)} channels, but the images have "
                f"{images.shape[1]}. Give AuditModel one mean and std a channel, or load the images with that many."
            )
        return (images - self._mean) / self._std

    def _logits(self, returned: Any) -> Tensor:
        if self._output is not None:
            returned = self._output(returned)
        elif hasattr(returned, "logits"):
            returned = returned.logits
        elif isinstance(returned, dict) and "logits" in returned:
            returned = returned["logits"]
        if not isinstance(returned, Tensor):
            raise AuditError(
                f"The model {self.name!r} returned {_describe(returned)}, not a tensor of logits. "
                f"Pass output= to AuditModel, for example output=lambda out: out[0]."
            )
        return returned

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes["backward"] += len(gradient)


def _size(sides: Sequence[int] | None) -> str:
    return "×".join(map(str, sides or ()))


def _describe(returned: object) -> str:
    if isinstance(returned, dict):
        return f"a dict with the keys {', '.join(map(repr, returned))}"
    if isinstance(returned, tuple | list):
        return f"a {type(returned).__name__} of {len(returned)}"
    return f"a {type(returned).__name__}"
