"""Entries as files: whole or not there, however many processes share the folder and whenever one of them dies."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pytest_cnnaudit.atomic import write_atomically

_FORMAT = b"cnnkept\x01"  # the last byte is the version
_HEAD = struct.Struct("<8sQ32s")
_KEY = re.compile(r"[0-9a-f]{8,128}")  # `trim` takes nothing else for an entry, whatever the folder holds besides
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BEING_WRITTEN = "."  # how the names of temporary files begin
_STALE = 3600  # seconds after which a temporary file has no writer any more
_TRIES = 10  # between two steps of a write another process may take the empty folder away
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file marks a folder of things that can be computed again. See https://bford.info/cachedir/
"""


class Store:
    """Bytes by key and name, in ``<folder>/<key[:2]>/<key>/<name>``. Keys are what is used, and forgotten, as a whole.

    Neither reading nor writing raises an `OSError`: where the disk is full or the folder read-only, nothing is kept.

    Args:
        folder: on a local disk; it is made with the first entry. Processes may share it.

    Attributes:
        trouble: why something could not be written, for people; empty as long as everything could.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trouble = ""

    def read(self, key: str, name: str) -> bytes | None:
        """What was written last; None where there is nothing. What is damaged is deleted. Marks the key as used."""
        path = self._entry(key) / _checked(_NAME, name)
        try:
            with path.open("rb") as file:
                head, data = file.read(_HEAD.size), file.read()
        except OSError:
            return None
        if head != _head(key, name, data):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # of a folder that someone else owns
            os.utime(path.parent)
        return data

    def write(self, key: str, name: str, data: bytes) -> None:
        """Keep data, in place of what was there. A reader meets the old ones or the new ones, whole."""
        folder = self._entry(key)
        path = folder / _checked(_NAME, name)
        try:
            self._prepare()
            for _ in range(_TRIES):
                with suppress(FileNotFoundError, FileExistsError):  # of a folder that goes while mkdir looks at it
                    write_atomically(path, _head(key, name, data), data)  # not flushed: the checksum tells what is lost
                    return
            self.trouble = f"The cache could not keep a result: {folder} is taken away time and again."
        except OSError as error:
            self.trouble = f"The cache could not keep a result in {self.folder}: {error.strerror or error}."

    def names(self, key: str) -> list[str]:
        """The names there are under a key, sorted."""
        return sorted(path.name for path in _files(self._entry(key)) if _NAME.fullmatch(path.name))

    def remove(self, key: str, name: str) -> None:
        """Delete what is there under a key and a name, if anything is."""
        path = self._entry(key) / _checked(_NAME, name)
        with suppress(OSError):
            path.unlink()

    def drop(self, key: str, keep: str | None = None) -> None:
        """Delete what is there under a key, but for one name."""
        for name in self.names(key):
            if name != keep:
                self.remove(key, name)

    def trim(self, limit: int) -> None:
        """Delete the keys that were used least recently, until all together take at most `limit` bytes.

        What a writer that died has left half written goes, too, an hour after.
        """
        found = sorted(self._used())
        total = sum(each.size for each in found)
        for each in found:
            if total <= limit:
                break
            self.drop(each.path.name)
            total -= each.size
            _remove_empty(each.path)

    def _used(self) -> Iterator[_Used]:
        """All keys. Those that hold nothing, not even a file that is being written, are deleted."""
        for folder in _folders(self.folder):
            for path in _folders(folder):
                if not _KEY.fullmatch(path.name) or path.name[:2] != folder.name:
                    continue
                with suppress(OSError):
                    used = path.stat().st_mtime
                    size = sum(_size(file) for file in _files(path))
                    if size:
                        yield _Used(used, size, path)
                    else:
                        _remove_empty(path)

    def _entry(self, key: str) -> Path:
        return self.folder / key[:2] / _checked(_KEY, key)

    def _prepare(self) -> None:
        """Mark a new folder as one that backups and git leave out. One that holds other things already is not marked:
        these may be someone's work.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not any(self.folder.iterdir()):
            write_atomically(self.folder / "CACHEDIR.TAG", _TAG.encode())
            write_atomically(self.folder / ".gitignore", b"# Made by pytest-cnnaudit.\n*\n")


class _Used(NamedTuple):
    """A key, and when it was used."""

    when: float
    size: int
    path: Path


def _checked(pattern: re.Pattern[str], name: str) -> str:
    if not pattern.fullmatch(name):
        raise ValueError(f"{name!r} does not name an entry of the cache; use one like {pattern.pattern}.")
    return name


def _head(key: str, name: str, data: bytes) -> bytes:
    """What stands before the data, and fits no other data and no other entry."""
    found = hashlib.blake2b(f"{key}/{name}\n".encode(), digest_size=32)
    found.update(data)
    return _HEAD.pack(_FORMAT, len(data), found.digest())


def _size(file: Path) -> int:
    """Bytes on the disk; 0 of what is gone, such as a temporary file that nobody finishes, which is deleted."""
    try:
        found = file.stat()
        if file.name.startswith(_BEING_WRITTEN) and time.time() - found.st_mtime > _STALE:
            file.unlink()
            return 0
    except OSError:
        return 0
    return found.st_size


def _files(folder: Path) -> list[Path]:
    return [path for path in _inside(folder) if path.is_file()]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _inside(folder) if path.is_dir() and not path.is_symlink()]


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove_empty(folder: Path) -> None:
    """The folder of a key, and the one around it, if nobody has put anything there meanwhile."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
