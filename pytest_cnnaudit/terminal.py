"""Text on a terminal: in columns, in colour where there is some, and with nothing that the terminal would obey."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO


def in_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str, in_colour: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if in_colour and colour and text else text


def write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def line(text: str) -> str:
    """On one line, and with nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def columns(text: str) -> int:
    return sum((unicodedata.east_asian_width(each) in "WF") + (not unicodedata.combining(each)) for each in text)


def pad(text: str, width: int, *, left: bool = False) -> str:
    text = fit(text, width)
    space = " " * (width - columns(text))
    return space + text if left else text + space


def fit(text: str, width: int) -> str:
    """Shortened in the middle: names differ at their ends."""
    text = line(text)
    if columns(text) <= width:
        return text
    head, tail = "", ""
    while columns(head) + columns(tail) < width - 2:
        head, tail = (head + text[len(head)], tail) if len(head) <= len(tail) else (head, text[-len(tail) - 1] + tail)
    return f"{head}…{tail}"
