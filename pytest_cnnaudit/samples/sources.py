"""Where images come from: a folder, a data set, tensors. Each loads a sample by its position, or says what it holds."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pytest_cnnaudit.canonical import canonical, contents
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.samples.boxes import Box, read_boxes

Loaded = tuple[Tensor, int, tuple[Box, ...] | None, Tensor | None]
"""Image C×H×W in [0, 1], label, boxes, mask H×W."""

Load = Callable[[int], Loaded]

Content = Callable[[int], bytes]
"""What the sample at a position holds: others bytes for any other image, label, boxes or mask."""

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def to_tensor(image: Any, what: str) -> Tensor:
    """A C×H×W tensor in [0, 1] of a PIL image, an array or a tensor, float32 or finer; bytes are divided by 255."""
    if isinstance(image, Image.Image):
        pixels = np.array(image)
        image = torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels).permute(2, 0, 1)
    tensor = torch.as_tensor(image)
    if tensor.ndim != 3:
        raise AuditError(f"The image of {what} has the shape {tuple(tensor.shape)}; it must be C×H×W.")
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def folder(
    root: Path,
    *,
    size: int | tuple[int, int] | None,
    mode: str,
    classes: Sequence[str] | Mapping[str, int] | None,
    boxes: str | Path | None,
) -> tuple[Load, Content, list[str], list[str]]:
    """An ImageFolder-style folder: its loader and its content, the ids (relative paths) and the class folders."""
    if not root.is_dir():
        raise AuditError(f"There is no folder {root}; Samples.from_folder needs one folder a class in it.")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if classes is None:
        labels = {name: label for label, name in enumerate(folders)}
    elif isinstance(classes, Mapping):
        labels = dict(classes)
    else:
        labels = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in folders if name not in labels]
    if unknown:
        raise AuditError(f"The folder {unknown[0]!r} in {root} is not among the classes given: {', '.join(labels)}.")
    files = [path for name in folders for path in sorted((root / name).rglob("*")) if path.suffix.lower() in ENDINGS]
    if not files:
        raise AuditError(f"There are no images in {root}; it needs one folder a class, with images ({_endings()}).")
    known = None if boxes is None else read_boxes(boxes)
    times = Counter(path.name for path in files)

    @functools.cache  # a search among all annotations where these name no folders
    def boxes_of(path: Path) -> tuple[Box, ...] | None:
        relative = PurePosixPath(path.relative_to(root).as_posix())
        return None if known is None else known.find(relative, alone=times[path.name] == 1)

    def load(position: int) -> Loaded:
        path = files[position]
        relative = PurePosixPath(path.relative_to(root).as_posix())
        try:
            with Image.open(path) as file:
                image = _eight_bit(file).convert(mode)
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from None
        image, found = _fit(image, boxes_of(path), size)
        return to_tensor(image, str(relative)), labels[relative.parts[0]], found, None

    def content(position: int) -> bytes:
        path = files[position]
        label = labels[path.relative_to(root).parts[0]]
        return canonical((_file(path), size, mode, label, boxes_of(path)))

    return load, content, [path.relative_to(root).as_posix() for path in files], folders


def _unreadable(path: Path, error: Exception) -> AuditError:
    return AuditError(f"The image {path} cannot be read ({error}); repair it or take it away.")


def _file(path: Path) -> bytes:
    """A hash of a file as it lies on the disk."""
    try:
        now = path.stat()
        return _hash(path, now.st_size, now.st_mtime_ns, now.st_ino)
    except OSError as error:
        raise _unreadable(path, error) from None


@functools.lru_cache(2**17)
def _hash(path: Path, size: int, changed: int, inode: int) -> bytes:  # noqa: ARG001  (what it is remembered by)
    return hashlib.sha256(path.read_bytes()).digest()


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit greyscale as 8-bit: Pillow's own conversion clips every value above 255 to white."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _endings() -> str:
    return ", ".join(sorted(ENDINGS))


def _fit(
    image: Image.Image, boxes: tuple[Box, ...] | None, size: int | tuple[int, int] | None
) -> tuple[Image.Image, tuple[Box, ...] | None]:
    """Resize the image, and its boxes with it.

    An integer: the shorter side becomes `size`, then the centre is cut out. A pair (height, width): squashed to it.
    None: left alone.
    """
    if size is None:
        return image, boxes
    if isinstance(size, int):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top, cut = (width - size) // 2, (height - size) // 2, (size, size)
    else:
        (height, width), left, top = size, 0, 0
        cut = (width, height)
    scale_x, scale_y = width / image.width, height / image.height
    resized = image.resize((width, height), Image.Resampling.BILINEAR) if image.size != (width, height) else image
    cropped = resized.crop((left, top, left + cut[0], top + cut[1]))
    if boxes is not None:
        boxes = tuple(box.moved(scale_x, scale_y, left, top) for box in boxes)
    return cropped, boxes


def dataset(source: Any, boxes: Sequence[Any] | None, masks: Sequence[Any] | None) -> Load:
    """Anything with `len()` and `[i]` whose items are (image, label) pairs or dicts of those (Hugging Face)."""

    def load(position: int) -> Loaded:
        item = source[position]
        try:
            if isinstance(item, Mapping):
                image = next(item[key] for key in ("image", "img", "pixel_values") if key in item)
                label = next(item[key] for key in ("label", "labels", "fine_label") if key in item)
            else:
                image, label = item[0], item[1]
            label = int(label)
        except (StopIteration, TypeError, IndexError, KeyError, ValueError):
            raise AuditError(
                f"Item {position} of the data set is {type(item).__name__}, not an (image, label) pair or a dict with "
                "'image' and 'label'; wrap the data set so that it gives those."
            ) from None
        return to_tensor(image, f"item {position}"), label, boxes_at(boxes, position), mask_at(masks, position)

    return load


def boxes_at(boxes: Sequence[Any] | None, position: int) -> tuple[Box, ...] | None:
    """The boxes of one image: one box (4 numbers), or several; None where it has none."""
    if boxes is None or boxes[position] is None:
        return None
    values = np.asarray(boxes[position], dtype=np.float64)
    if values.size % 4 or values.ndim not in (1, 2):
        raise AuditError(f"The boxes of item {position} are {boxes[position]!r}; a box is (x0, y0, x1, y1).")
    values = values.reshape(-1, 4)
    return tuple(Box(*map(float, row)) for row in values)


def mask_at(masks: Sequence[Any] | None, position: int) -> Tensor | None:
    """The mask of one image, H×W bool; None where it has none."""
    return None if masks is None or masks[position] is None else torch.as_tensor(masks[position]).bool()


def loaded(load: Load) -> Content:
    """What is known only when it is loaded; then it is remembered."""

    @functools.cache
    def content(position: int) -> bytes:
        image, label, boxes, mask = load(position)
        return canonical((label, boxes, *_held(image, mask)))

    return content


def numbers(images: Tensor, labels: Tensor) -> Content:
    """What lies in tensors now."""
    return lambda position: canonical((int(labels[position]), *_held(images[position])))


def beside(content: Content, boxes: Sequence[Any] | None, masks: Sequence[Any] | None) -> Content:
    """The same content, with the boxes and masks that were given beside it."""

    def both(position: int) -> bytes:
        return canonical((content(position), boxes_at(boxes, position), *_held(mask_at(masks, position))))

    return both


def _held(*tensors: Tensor | None) -> list[bytes]:
    return contents([tensor for tensor in tensors if tensor is not None])
