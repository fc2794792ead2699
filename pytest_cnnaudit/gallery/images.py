"""Pictures as files, named by what they show, written by threads beside the computation."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.gallery.last import take_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_cnnaudit.results import Form, Picture

# Measured on 227×227 photographs: PNG 13 ms and 79 KiB, lossless WebP at its least effort 2 ms and 66 KiB, WebP at
# quality 90 6 ms and 13 KiB. On 32×32 PNG takes 0.2 ms and 1.8 KiB, and WebP saves nothing.
_SMALL = 128  # pixels of the longer side, up to which all are PNG
_LARGE = 512  # beyond it lists show a thumbnail
_THUMBNAIL = 384
_LOSSLESS: dict[str, Any] = {"lossless": True, "quality": 0, "method": 0}
_PHOTO: dict[str, Any] = {"quality": 90}
_THREADS = 2  # encoding takes turns with the passes through the model


class PictureFiles:
    """The pictures of a report.

    Each is named by its content, so that processes can share the folder and the same picture is stored once.

    Args:
        folder: the report's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: dict[str, dict[str, str | None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._writing: list[Future[None]] = []

    def save(self, picture: Picture) -> dict[str, str | None]:
        """Have a picture written, and return the paths relative to the folder by which the page finds it.

        ``src`` is the picture; ``thumb`` a smaller one for lists, where it is large; ``numbers`` a script that hands
        its pixels to the page, where they are wanted: a page opened from disk may show files, but not read them.
        """
        pixels = picture.pixels
        kind = f"{pixels.shape} {picture.form}"
        name = hashlib.blake2b(pixels.tobytes() + kind.encode(), digest_size=12).hexdigest()
        paths = self._named.get(name)
        if paths is None:
            longer = max(pixels.shape[:2])
            paths = self._named[name] = {
                "src": f"images/{name}.{'png' if longer <= _SMALL else 'webp'}",
                "thumb": f"images/{name}-small.webp" if longer > _LARGE else None,
                "numbers": f"data/pixels/{name}.js" if picture.form == "numbers" else None,
            }
            if not all(
                (self.folder / path).exists() or take_back(self.folder, path) for path in paths.values() if path
            ):
                self._pool = self._pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="cnnaudit-pictures")
                self._writing.append(self._pool.submit(_write, pixels, picture.form, paths, self.folder))
        return paths

    def pending(self) -> Callable[[], None]:
        """Waits for what was saved since the last call: the function returns when it is all on disk.

        It raises an `OSError` where a picture could not be written.
        """
        writing, self._writing = self._writing, []

        def wait() -> None:
            errors = [error for future in writing if (error := future.exception()) is not None]
            if errors:
                self._named.clear()  # a later test may try again
                raise errors[0]

        return wait

    def wait(self) -> None:
        """Return when everything that was saved is on disk; raises as `pending` does."""
        self.pending()()


def _write(pixels: NDArray[Any], form: Form, paths: dict[str, str | None], folder: Path) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    encoded = _encoded(image, str(paths["src"]), form)
    write_atomically(folder / str(paths["src"]), encoded)
    if paths["thumb"]:
        small = image.copy()
        small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        write_atomically(folder / paths["thumb"], _encoded(small, paths["thumb"], "photo"))
    if paths["numbers"]:
        kind = "png" if str(paths["src"]).endswith("png") else "webp"
        data = f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
        script = f"cnnauditPixels({json.dumps(paths['src'])},{json.dumps(data)});\n"
        write_atomically(folder / paths["numbers"], script.encode())


def _encoded(image: Any, path: str, form: Form) -> bytes:
    buffer = io.BytesIO()
    if path.endswith(".png"):
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "WEBP", **(_PHOTO if form == "photo" else _LOSSLESS))
    return buffer.getvalue()
