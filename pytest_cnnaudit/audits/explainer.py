"""An attribution method bound to a model: what every question about saliency explains its samples with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pytest_cnnaudit.audits.classify import Clean, fitting
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.lenses import methods
from pytest_cnnaudit.lenses.localization import saliency_maps
from pytest_cnnaudit.model import AuditModel, BorrowedModel
from pytest_cnnaudit.model.layers import last_feature_layer
from pytest_cnnaudit.model.rounding import in_full
from pytest_cnnaudit.samples import Batch

Method = str | Callable[..., Tensor]
"""A name of `lenses.methods.METHODS`, an attribution of captum, or ``(model, images, targets) -> attributions``."""


Target = int | Literal["predicted"] | None
"""The class that is explained: each sample's label where None, its prediction, or one class for all."""


def explained(target: Target, batch: Batch, clean: Clean) -> Tensor:
    """The class that is explained of each sample, N.

    Raises:
        AuditError: the target is none.
    """
    if target is None:
        return batch.labels
    if target == "predicted":
        return clean.prediction
    if not isinstance(target, int) or not 0 <= target < clean.classes:
        raise AuditError(f"target={target!r} is neither a class (0 to {clean.classes - 1}) nor 'predicted'.")
    return torch.full_like(batch.labels, target)


@dataclass(frozen=True, slots=True)
class Explainer:
    """A method, the model that it explains, and its settings.

    Attributes:
        borrowed: the model that is explained.
        engine: what is drawn for a sample follows from its seeds.
        method: the function, and what it takes.
        layer: the name of the layer that it looks at, or None.
        module: that layer.
        options: further keyword arguments of the function.
        described: the method and its settings, for people.
    """

    borrowed: BorrowedModel
    engine: Engine
    method: methods.Method
    layer: str | None
    module: nn.Module | None
    options: Mapping[str, Any]
    described: Mapping[str, str] = field(default_factory=dict)

    def maps(self, batch: Batch, targets: Tensor) -> Tensor:
        """Maps N×H×W, 0 and above, of the images' size, for the class `targets` N of each.

        Raises:
            AuditError: the method refuses, or returns something else than finite attributions N×C×h×w or N×h×w.
        """
        attributions = self._attributions(batch, targets)
        if len(attributions) != len(batch) or attributions.ndim not in (3, 4):
            raise AuditError(
                f"The saliency method returned {tuple(attributions.shape)} for {len(batch)} images; it must be N×C×h×w "
                "or N×h×w."
            )
        maps = saliency_maps(attributions, (batch.images.shape[2], batch.images.shape[3]))
        finite = maps.flatten(1).isfinite().all(1)
        if not finite.all():
            raise AuditError(f"The saliency map of {batch.samples[int((~finite).nonzero()[0])].id} is not finite.")
        return maps

    def _attributions(self, batch: Batch, targets: Tensor) -> Tensor:
        settings = dict(self.options)
        if self.module is not None:
            settings["layer"] = self.module
        if self.method.draws:
            settings["seeds"] = torch.tensor([self.engine.draw_seed(sample.id) for sample in batch.samples])
        try:
            found: Tensor = self.method.function(self.borrowed, batch.images, targets, **settings)
        except AuditError as error:
            raise (AuditError(f"Layer {self.layer!r}: {error}") if self.layer else error) from None
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise AuditError(
                f"The saliency method {self.described['method']} does not take what it was given: {error}."
            ) from None
        found = in_full(found)
        return found.abs() if self.method.pixels else found  # of pixels the size counts, in one channel as in three


def explainer(
    model: AuditModel,
    borrowed: BorrowedModel,
    engine: Engine,
    image: Tensor,
    *,
    method: Method,
    layer: str | None,
    options: Mapping[str, Any],
) -> Explainer:
    """The method, bound to `borrowed`.

    Args:
        model: whose layers are meant.
        borrowed: what is explained.
        engine: for the seeds of what is drawn.
        image: C×H×W as they will come, on the device; where no layer is named, one pass finds the last with a map.
        method: by name, of captum, or a callable.
        layer: for the methods that look at one.
        options: further keyword arguments of the method.

    Raises:
        AuditError: there is no such method or layer, or the method looks at none.
    """
    chosen = methods.method_of(method)
    function = chosen.function
    if chosen.layer and layer is None:
        with fitting(model, image[None]):
            layer = last_feature_layer(borrowed, image[None])
    elif not chosen.layer and layer is not None and isinstance(method, str):
        raise AuditError(f"layer={layer!r} was given, but the method {method!r} looks at the pixels.")
    named = method if isinstance(method, str) else getattr(function, "__name__", type(function).__name__)
    described = {"method": named, **{key: str(value) for key, value in options.items()}}
    module = None
    if layer is not None:
        module, described["layer"] = model.layer(layer), layer
    return Explainer(borrowed, engine, chosen, layer, module, dict(options), described)
