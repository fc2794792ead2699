"""Who asks: a model, samples, an engine to run on, and what has been measured so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, get_args

from pytest_cnnaudit.engine import Engine, resolve_device
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model import AuditModel, Precision
from pytest_cnnaudit.results import Measurement
from pytest_cnnaudit.samples import Samples

if TYPE_CHECKING:
    from pytest_cnnaudit.baselines import Baselines
    from pytest_cnnaudit.cache import Cache

M = TypeVar("M", bound=Measurement)
P = ParamSpec("P")


class Asker:
    """What all questions need. Each kind of question adds its methods; `Audit` is all of them together."""

    def __init__(
        self,
        model: AuditModel,
        samples: Samples | None = None,
        *,
        device: str = "auto",
        seed: int = 0,
        scope: str = "",
        batch_size: int | None = None,
        precision: Precision = "float32",
        link: str = "",
        cache: Cache | None = None,
        baselines: Baselines | None = None,
    ) -> None:
        if not isinstance(model, AuditModel):
            raise AuditError(
                f"An audit needs an AuditModel, but was given {type(model).__name__}: "
                "wrap the model, AuditModel(model, mean=..., std=...)."
            )
        if samples is not None and not isinstance(samples, Samples):
            raise AuditError(
                f"An audit needs Samples, but was given {type(samples).__name__}: "
                "use Samples.from_folder, Samples.from_dataset or Samples.from_tensors."
            )
        if batch_size is not None and batch_size < 1:
            raise AuditError(f"batch_size={batch_size} is not a number of samples; give 1 or more, or None to choose.")
        if precision not in get_args(Precision):
            raise AuditError(f"There is no precision {precision!r}; use 'float32' or 'bfloat16'.")
        self.model = model
        self._samples = samples
        self.device = resolve_device(device)
        self.seed = seed
        self._engine = Engine(self.device, batch_size, seed, scope, precision)
        self.link = link
        self.baselines = baselines
        self._cache = cache
        self.measurements: list[Measurement] = []

    @property
    def samples(self) -> Samples:
        """The samples; an `AuditError` where none were given."""
        if self._samples is None:
            raise AuditError(
                "This measurement needs samples: define the fixture audit_samples, or pass Audit(model, samples)."
            )
        return self._samples

    def _asked(
        self, measure: Callable[Concatenate[AuditModel, Samples, Engine, P], M], *given: P.args, **arguments: P.kwargs
    ) -> M:
        """What `measure` finds of the model on the samples."""
        return self._measured(measure, self.model, self.samples, self._engine, *given, **arguments)

    def _measured(self, measure: Callable[P, M], *given: P.args, **arguments: P.kwargs) -> M:
        """What `measure` finds, or has found before, kept for the report."""
        found = (
            measure(*given, **arguments) if self._cache is None else self._cache.measured(measure, *given, **arguments)
        )
        self.measurements.append(found.linked(self.link))
        return found


def check_share(name: str, value: float) -> None:
    """Raise an `AuditError` for a threshold that is no share."""
    if not 0 <= value <= 1:
        raise AuditError(f"{name}={value} is not a share; give a number from 0 to 1.")
