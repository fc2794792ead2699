"""Pictures as files, named by what they show."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def save_png(pixels: NDArray[Any], folder: Path) -> str:
    """Write H×W×3 or H×W bytes as a lossless PNG below `folder`, once, and return its path relative to it.

    Named by content, so that processes can share the folder and the same picture is stored once.
    """
    from PIL import Image

    name = hashlib.blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=12).hexdigest()
    path = folder / "images" / f"{name}.png"
    if not path.exists():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        write_atomically(path, buffer.getvalue())
    return f"images/{name}.png"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
