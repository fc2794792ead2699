"""Files that are whole or not there, wherever the process that writes them dies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, *content: bytes) -> None:
    """Write a file, of one piece or several, so that a reader, or a crash, never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(content)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
