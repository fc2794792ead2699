"""What the result of a measurement depends on."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.audits.starts import channels_of, image_size
from pytest_cnnaudit.canonical import NotPlainError, canonical, contents, qualified
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.model import AuditModel
from pytest_cnnaudit.model.code import behind, named
from pytest_cnnaudit.model.digest import digest
from pytest_cnnaudit.model.structure import alike, outputs, structure
from pytest_cnnaudit.samples import Samples
from pytest_cnnaudit.samples.digest import content
from pytest_cnnaudit.versions import versions

__all__ = ["Key", "alike", "key"]

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "scipy")
_FIRST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """What a result depends on.

    Attributes:
        digest: 32 hex digits for all that is known exactly.
        outputs: the logits of the first few images, which other models do not share, but which rounding may change (see
            `alike`); None where the measurement runs no model.
    """

    digest: str
    outputs: NDArray[np.float32] | None


def key(measure: Callable[..., Any], given: Sequence[Any], arguments: Mapping[str, Any]) -> Key | None:
    """The key of ``measure(*given, **arguments)``; None where it cannot be known what that depends on.

    It counts which measurement it is, the code of this package, the versions of the libraries, and the arguments:
    plain data, arrays and tensors, models, samples, the engine, and this package's dataclasses. A callable, an attack's
    object or a bare module may do anything: then there is no key. Nor is there one where samples cannot be loaded or
    the model does not run: the measurement itself says best what is wrong.

    Costs a read of weights and samples (see `digest` and `content`), and a forward pass of four images.
    """
    try:
        known = canonical((named(measure), _versions(), tuple(given), dict(arguments)), _Contents())
    except NotPlainError:
        return None
    values = (*given, *arguments.values())
    model, engine = _first(AuditModel, values), _first(Engine, values)
    answers = None
    if model is not None and engine is not None:
        try:
            answers = outputs(model, _images(model, values, arguments.get("size")), engine.device)
        except Exception:  # noqa: BLE001  (the user's model and samples may raise anything)
            return None
    return Key(hashlib.sha256(known).hexdigest()[:32], answers)


class _Contents:
    """What arguments hold that are not plain data. Of one measurement, so that it knows which models share modules."""

    def __init__(self) -> None:
        self._modules: dict[int, int] = {}

    def __call__(self, value: Any) -> bytes:
        kind = qualified(type(value))
        match value:
            case Tensor():
                return contents([value])[0]
            case np.ndarray() if not value.dtype.hasobject:
                return canonical((kind, value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest()))
            case AuditModel():
                return canonical((kind, self._model(value)))
            case Samples():
                return canonical((kind, _samples(value)))
            case Engine():
                return canonical((kind, _engine(value)))
        if is_dataclass(value) and not isinstance(value, type) and kind.startswith("pytest_cnnaudit."):
            return canonical((kind, {each.name: getattr(value, each.name) for each in fields(value)}), self)
        raise NotPlainError(f"what a {kind} depends on is not known")

    def _model(self, model: AuditModel) -> tuple[Any, ...]:
        module = model.module
        shared = [self._modules.setdefault(id(part), len(self._modules)) for part in module.modules()]
        words = (model.name, model.mean, model.std, model.input_size, model.class_names)
        return digest(module), structure(module), shared, words, named(model.output), behind([model.output])


def _samples(samples: Samples) -> str:
    try:
        return content(samples)
    except Exception as error:  # a data set may raise anything
        raise NotPlainError("the samples cannot be loaded") from error


def _engine(engine: Engine) -> tuple[Any, ...]:
    """All of its fields but which batches are finished already, and which of several GPUs of one name it is."""
    device = engine.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return device.type, gpu, engine.batch_size, engine.seed, engine.scope, engine.precision


def _images(model: AuditModel, values: Sequence[Any], size: Any) -> Tensor:
    """The first images of the samples; else of a tensor; else noise of the size of which images will be made."""
    samples = _first(Samples, values)
    if samples is not None:
        return torch.stack([samples[each].image for each in range(min(_FIRST, len(samples)))])
    for value in values:
        if isinstance(value, Tensor) and value.ndim in (3, 4):
            images = (value if value.ndim == 4 else value[None])[:_FIRST].detach()
            return images / 255 if images.dtype == torch.uint8 else images
    shape = (_FIRST, channels_of(model, None), *image_size(model, None, size))
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _first(kind: type[Any], values: Sequence[Any]) -> Any:
    return next((value for value in values if isinstance(value, kind)), None)


@functools.cache
def _versions() -> tuple[Any, ...]:
    """Of Python and the libraries; of this package also a digest of its code, which may be edited in place."""
    code = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        code.update(canonical((path.relative_to(_PACKAGE).as_posix(), path.read_bytes())))
    return platform.python_version_tuple()[:2], versions("pytest-cnnaudit", *_LIBRARIES), code.digest()
