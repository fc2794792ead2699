"""The one loop that every measurement over samples runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from tqdm import tqdm

from pytest_cnnaudit.engine.part import Part
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model.borrow import Precision
from pytest_cnnaudit.samples import Batch, Samples
from pytest_cnnaudit.seeds import derived_seed

Step = Callable[[Batch], Part]
"""Measures one batch."""


def _as_it_is(step: Step) -> Step:
    return step


@dataclass(frozen=True, slots=True)
class Engine:
    """Streams samples through a measurement.

    Attributes:
        device: where batches go.
        batch_size: samples at a time; chosen by the size of an image where None.
        seed: every draw of a measurement follows from it, from `scope` and from the sample's id.
        scope: sets the draws of one measurement apart from those of others.
        precision: of the passes that attacks make; what they find is always confirmed in the model's own.
        resumed: what becomes of a step where batches that an earlier run has finished are known.
    """

    device: torch.device
    batch_size: int | None = None
    seed: int = 0
    scope: str = ""
    precision: Precision = "float32"
    resumed: Callable[[Step], Step] = _as_it_is

    def draw_seed(self, sample_id: str = "") -> int:
        """The seed for what is drawn for one sample, or for the measurement as a whole; below 2³²."""
        return derived_seed(self.seed, f"{self.scope}\0{sample_id}")

    def at_once(self, samples: Samples) -> int:
        """How many samples go through the model together."""
        return self.batch_size or _default_batch_size(samples, self.device)

    def measure(
        self,
        samples: Samples,
        step: Step,
        *,
        title: str,
        decided: Callable[[Part], bool] = lambda _: False,
        batches: int = 1,
    ) -> Part:
        """Map `step` over batches and merge what it finds.

        Args:
            samples: streamed in order.
            step: measures one batch. It must not depend on how samples are batched.
            title: for the progress bar, which shows on a terminal when the work takes longer than two seconds.
            decided: whether the findings so far settle the verdict; then the rest is not measured.
            batches: how many batches `step` gets at a time, where it keeps the device full by itself: see `at_once`.

        Raises:
            AuditError: memory runs out even at one sample at a time.
        """
        found: Part | None = None
        with tqdm(total=len(samples), desc=title, unit="img", disable=None, delay=2, leave=False) as progress:
            for part in self._parts(samples, self.resumed(step), batches):
                found = part if found is None else found.merge(part)
                progress.update(len(part))
                if decided(found):
                    break
        if found is None:
            raise AuditError(f"There are no samples to measure in {samples.source}.")
        return found

    def _parts(self, samples: Samples, step: Step, batches: int) -> Iterator[Part]:
        size = batches * self.at_once(samples)
        for batch in samples.batches(size, self.device):
            begin = 0
            while begin < len(batch):
                piece = batch[begin : begin + size]
                try:
                    part = step(piece)
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    part = None  # leave the handler first: the traceback keeps the failed batch's tensors alive
                if part is not None:
                    yield part
                    begin += len(piece)
                    continue
                if len(piece) == 1:
                    raise AuditError(
                        f"Out of memory on {self.device} at batch size 1 (sample {piece.samples[0].id}, image "
                        f"{'×'.join(map(str, piece.images.shape[1:]))}). Use smaller images (size=) or another device."
                    )
                size = max(min(len(piece), self.at_once(samples)) // 2, 1)  # a step sends no more at a time anyway
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()


def _default_batch_size(samples: Samples, device: torch.device) -> int:
    """A power of two, smaller for larger images: 256 at 3×32×32 and 16 at 3×224×224, with CUDA 1,024 and 128.

    On a CPU larger batches gain nothing. On an H200 a pass forward and backward of 1,024 images through a ResNet-20
    takes 0.4 of the time that it takes in batches of 256, and of 128 images of 224×224 through a ResNet-50 0.4 of that
    in batches of 16, and hardly less in larger ones. Where that is too much, batches are halved.
    """
    budget, most = (2**25, 1024) if device.type == "cuda" else (2**22, 256)
    pixels = samples[0].image.numel()
    return max(8, min(most, 1 << (budget // pixels).bit_length() - 1 if pixels < budget else 0))


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what torch raises when a device, or the host, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )
