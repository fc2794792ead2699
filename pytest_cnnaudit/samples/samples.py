"""`Samples`: images in [0, 1] with labels, ids, boxes and masks, streamed in batches."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.samples import sources
from pytest_cnnaudit.samples.boxes import Box


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image, C×H×W in [0, 1], with what is known about it. Boxes are in pixels, the mask is H×W."""

    id: str
    image: Tensor
    label: int
    boxes: tuple[Box, ...] | None = None
    mask: Tensor | None = None

    def region(self) -> Tensor | None:
        """Where the object is: H×W bool, the mask or else the union of the boxes; None where neither is known.

        A pixel belongs to a box if its centre lies inside.
        """
        if self.mask is not None or self.boxes is None:
            return self.mask
        height, width = self.image.shape[1:]
        y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
        region = torch.zeros(height, width, dtype=torch.bool)
        for box in self.boxes:
            region |= (box.x0 <= x) & (x < box.x1) & (box.y0 <= y) & (y < box.y1)
        return region


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some samples together: `positions` in the measured samples, `images` N×C×H×W and `labels` N on the device."""

    positions: NDArray[np.int64]
    samples: tuple[Sample, ...]
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.positions[part], self.samples[part], self.images[part], self.labels[part])


class Samples:
    """Labelled images, loaded when they are needed: a folder of 50,000 is never held in memory.

    Make them with `from_folder`, `from_dataset` or `from_tensors`; take a part with ``samples[10:20]``.

    Attributes:
        ids: stable names, in order.
        class_names: names of the labels, where the source has some.
        source: where they come from, for people.
        located: whether boxes or masks were given, so that the object's place is known.
    """

    def __init__(
        self,
        load: sources.Load,
        ids: Sequence[str],
        *,
        source: str,
        class_names: Sequence[str] | None = None,
        located: bool = False,
        workers: int = 2,
        content: sources.Content | None = None,
    ) -> None:
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if repeated:
            raise AuditError(
                f"The sample id {repeated[0]!r} stands for more than one image of {source}; ids= must differ."
            )
        if not ids:
            raise AuditError(f"There are no samples in {source}: an audit needs at least one image.")
        self._load = load
        self._content = sources.loaded(load) if content is None else content
        self._positions: NDArray[np.int64] = np.arange(len(ids))
        self._all_ids = tuple(ids)
        self.source = source
        self.class_names = None if class_names is None else tuple(class_names)
        self.located = located
        self.workers = workers

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        size: int | tuple[int, int] | None = None,
        limit: int | None = None,
        seed: int = 0,
        boxes: str | Path | None = None,
        classes: Sequence[str] | Mapping[str, int] | None = None,
        mode: str = "RGB",
        workers: int = 2,
    ) -> Samples:
        """Images in the layout of torchvision's `ImageFolder`: one folder a class.

        Args:
            path: the folder.
            size: an integer resizes the shorter side to it and cuts out the centre; a pair (height, width) squashes;
                None leaves the images alone, which must then be of one size. Boxes follow.
            limit: take so many images, drawn by `seed`.
            seed: for `limit`.
            boxes: a COCO ``.json`` file, a Pascal VOC ``.xml`` file, or a folder of those. Where the kinds of objects
                in it are called as the class folders are, only boxes of the image's own class count.
            classes: the folders in the order of the labels, or a mapping folder → label; sorted by name where None.
            mode: Pillow's image mode: ``"RGB"``, ``"L"`` for one channel.
            workers: threads that decode ahead.
        """
        load, content, ids, folders = sources.folder(Path(path), size=size, mode=mode, classes=classes, boxes=boxes)
        names = folders if classes is None else list(classes) if not isinstance(classes, Mapping) else None
        source, located = f"folder {path}", boxes is not None
        made = cls(load, ids, source=source, class_names=names, located=located, workers=workers, content=content)
        return made._limited(limit, seed)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        limit: int | None = None,
        seed: int = 0,
        boxes: Sequence[Any] | None = None,
        masks: Sequence[Any] | None = None,
        ids: Sequence[str] | None = None,
        workers: int = 0,
    ) -> Samples:
        """A map-style data set of (image, label) pairs, or of dicts with ``image`` and ``label`` (Hugging Face).

        Images are tensors C×H×W in [0, 1], bytes, or PIL images: no normalisation in the transform, `AuditModel` does
        that. `boxes` holds a box (x0, y0, x1, y1) or several for each image, `masks` an H×W mask, or None.
        `workers` threads load ahead; 0, because not every data set can be read by two threads.
        """
        count = len(dataset)
        _check_lengths(count, boxes=boxes, masks=masks, ids=ids)
        load = sources.dataset(dataset, boxes, masks)
        names = getattr(dataset, "classes", None)
        made = cls(
            load,
            _numbered(count) if ids is None else ids,
            source=f"{type(dataset).__name__} ({count} images)",
            class_names=names,
            located=boxes is not None or masks is not None,
            workers=workers,
            content=sources.beside(sources.loaded(sources.dataset(dataset, None, None)), boxes, masks),
        )
        return made._limited(limit, seed)

    @classmethod
    def from_tensors(
        cls,
        images: Any,
        labels: Any,
        *,
        limit: int | None = None,
        seed: int = 0,
        boxes: Sequence[Any] | None = None,
        masks: Sequence[Any] | None = None,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Samples:
        """Images N×C×H×W in [0, 1] (or bytes) and labels N, tensors or arrays; boxes and masks as in `from_dataset`."""
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
        if images.ndim != 4:
            raise AuditError(f"from_tensors was given images of shape {tuple(images.shape)}; they must be N×C×H×W.")
        _check_lengths(len(images), labels=labels, boxes=boxes, masks=masks, ids=ids)
        load = sources.dataset(torch.utils.data.TensorDataset(images, labels), boxes, masks)
        made = cls(
            load,
            _numbered(len(images)) if ids is None else ids,
            source=f"tensors ({len(images)} images)",
            class_names=class_names,
            located=boxes is not None or masks is not None,
            workers=0,
            content=sources.beside(sources.numbers(images, labels), boxes, masks),
        )
        return made._limited(limit, seed)

    def _limited(self, limit: int | None, seed: int) -> Samples:
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise AuditError(f"limit={limit} leaves no samples; give 1 or more, or None for all.")
        drawn = np.random.default_rng(seed).permutation(len(self))[:limit]
        return self[np.sort(drawn)]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._all_ids[position] for position in self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return f"<Samples: {len(self)} of {self.source}>"

    @overload
    def __getitem__(self, part: int) -> Sample: ...
    @overload
    def __getitem__(self, part: slice | Sequence[int] | NDArray[Any]) -> Samples: ...
    def __getitem__(self, part: Any) -> Sample | Samples:
        """One sample by its position; or the samples of a slice, of a list of positions, or of a bool mask."""
        if isinstance(part, int | np.integer):
            position = int(self._positions[part])
            return _checked(Sample(self._all_ids[position], *self._load(position)))
        chosen = self._positions[part if isinstance(part, slice) else np.asarray(part)]
        if not len(chosen):
            raise AuditError(f"There are no samples left of {self.source} after taking {part!r}.")
        view = Samples.__new__(Samples)
        view.__dict__.update(self.__dict__, _positions=chosen)
        return view

    def __iter__(self) -> Iterator[Sample]:
        """The samples in order, loaded ahead by the workers, a bounded number at a time."""
        if self.workers < 1:
            yield from (self[position] for position in range(len(self)))
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="cnnaudit-decode")
        try:
            ahead: deque[Future[Sample]] = deque()
            for position in range(len(self)):
                ahead.append(pool.submit(self.__getitem__, position))
                if len(ahead) > 16 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """All samples in order, `size` at a time, on the device."""
        waiting: list[Sample] = []
        first: Sample | None = None
        for position, sample in enumerate(self):
            first = first or sample
            if first.image.shape != sample.image.shape:
                raise AuditError(
                    f"The image of {sample.id} is {_shape(sample.image)}, that of {first.id} "
                    f"{_shape(first.image)}; give Samples a size= that makes all alike."
                )
            waiting.append(sample)
            if len(waiting) == size or position == len(self) - 1:
                positions = np.arange(position + 1 - len(waiting), position + 1)
                images = torch.stack([each.image for each in waiting]).to(device)
                labels = torch.tensor([each.label for each in waiting], device=device)
                yield Batch(positions, tuple(waiting), images, labels)
                waiting = []


def _checked(sample: Sample) -> Sample:
    low, high = (float(value) for value in sample.image.aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise AuditError(
            f"The image of {sample.id} has values from {low:.3g} to {high:.3g}; images are in [0, 1]. "
            + ("Divide by 255." if 1 < high <= 255 and low >= 0 else "Leave normalisation to AuditModel(mean=, std=).")
        )
    if sample.mask is not None and sample.mask.shape != sample.image.shape[1:]:
        raise AuditError(
            f"The mask of {sample.id} is {tuple(sample.mask.shape)}, its image {tuple(sample.image.shape[1:])} (H×W)."
        )
    return sample


def _check_lengths(count: int, **given: Any) -> None:
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise AuditError(f"There are {count} images but {len(values)} {name}.")


def _numbered(count: int) -> list[str]:
    return [f"{position:0{len(str(count - 1))}d}" for position in range(count)]


def _shape(image: Tensor) -> str:
    return "×".join(map(str, image.shape))
