"""The pictures of the report that a new one replaces: one that is shown again is moved, not encoded again.

Pictures are named by what they show, so a name that is there is the picture.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LAST = ".last"
_KEPT = ("images", "data/pixels")


def set_aside(folder: Path) -> None:
    """Move the pictures of an earlier report out of the way, beside what a killed run may have left there."""
    for name in _KEPT:
        if not (folder / name).is_dir() or (folder / name).is_symlink():
            continue
        (folder / _LAST / name).mkdir(parents=True, exist_ok=True)
        for file in (folder / name).iterdir():
            os.replace(file, folder / _LAST / name / file.name)


def take_back(folder: Path, path: str) -> bool:
    """Move a picture's file, relative to the folder, to where it was, if it is there; another process may be faster."""
    try:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / _LAST / path, folder / path)
    except OSError:
        return (folder / path).exists()
    return True


def clear(folder: Path) -> None:
    """Remove what was not shown again."""
    shutil.rmtree(folder / _LAST, ignore_errors=True)
