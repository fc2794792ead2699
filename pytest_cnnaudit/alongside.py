"""What other reports of a test run show of an audit: JUnit's XML, and the page of pytest-html."""

from __future__ import annotations

import base64
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytest_cnnaudit.gallery.compare import keyed, name_of
from pytest_cnnaudit.gallery.judged import SIGNS, headline_metrics, interval_of
from pytest_cnnaudit.gallery.story import story

Extra = dict[str, str | None]
_PICTURES = 4
# Side by side: pytest-html's own viewer shows one at a time, and crops it.
_STRIP = "display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; text-decoration: none"
_FIGURE = "max-width: 240px; overflow-wrap: anywhere"
_IMAGE = "height: 128px; max-width: 240px; object-fit: contain"


def junit_properties(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The metrics as properties of a test case.

    ``cnnaudit.attack.robust accuracy`` is the value; with ``.ci95`` and ``.threshold`` appended, what is known of it.
    The second attack of one test is ``cnnaudit.attack 2``.
    """
    found = []
    for kind, measurement in _numbered(record.get("measurements", ())):
        for name, metric in _numbered(measurement["metrics"]):
            key = "".join(each if each.isprintable() else "�" for each in f"cnnaudit.{kind}.{name}")
            found.append((key, metric["display"] if metric["value"] is None else f"{metric['value']:.6g}"))
            if interval := _interval(metric, "{:.6g} to {:.6g}"):
                found.append((f"{key}.ci95", interval))
            if metric["thresholds"]:
                found.append((f"{key}.threshold", _thresholds(metric)))
    return found


def with_properties(others: Iterable[tuple[str, object]], record: Mapping[str, Any]) -> list[tuple[str, object]]:
    """A test's properties and ours, these in place of any that a subtest or an earlier try has left."""
    kept = [each for each in others if not str(each[0]).startswith("cnnaudit.")]
    return [*kept, *junit_properties(record)]


def html_page(option: str, start: Path) -> Path:
    """The file that ``--html`` names, as pytest-html reads it."""
    return start / Path(os.path.expandvars(option)).expanduser()


def html_extras(record: Mapping[str, Any], folder: Path, page: Path, *, self_contained: bool) -> list[Extra]:
    """What pytest-html shows in a test's row: its metrics, pictures, and a link to the gallery.

    Args:
        record: the test.
        folder: the report's.
        page: the file that pytest-html writes; addresses are relative to it.
        self_contained: the pictures themselves go into the page.
    """
    if not _can_be_decoded(record["id"]):
        return []
    link = f"{_address(folder / 'index.html', page)}#{quote(record['id'], safe='/', errors='replace')}"
    strip = "".join(_figure(picture, folder, page, self_contained=self_contained) for picture in _telling(record))
    shown = f'<a href="{link}" target="_blank" style="{_STRIP}">{strip}</a>' if strip else ""
    return [
        _extra("html", f"<p>{escape(story(record))}</p>{shown}{_table(record)}"),
        _extra("url", link, "cnnaudit"),
    ]


def _can_be_decoded(nodeid: str) -> bool:
    """Pytest-html reads a test's id as escaped where there are extras, and a backslash may then end the run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nodeid.encode().decode("unicode_escape")
    except (UnicodeError, DeprecationWarning):
        return False
    return True


def _extra(kind: str, content: str, name: str | None = None) -> Extra:
    return {"format_type": kind, "content": content, "name": name, "mime_type": None, "extension": None}


def _table(record: Mapping[str, Any]) -> str:
    """The metrics that were held against a threshold, or else the first of each measurement."""
    rows = [
        f"<tr><td>{escape(metric['name'])}</td><td><b>{escape(metric['display'])}</b></td>"
        f"<td>{_interval(metric, '{:.3g} to {:.3g}')}</td><td>{escape(_thresholds(metric))}</td></tr>"
        for metric in headline_metrics(record)
    ]
    head = "<tr><th>metric</th><th>value</th><th>95% interval</th><th>threshold</th></tr>"
    return f'<table style="margin: 8px 0">{head}{"".join(rows)}</table>' if rows else ""


def _telling(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The row of pictures that tells most: the first, so the worst, of what fell short; else a grid's first tiles."""
    for measurement in sorted(record.get("measurements", ()), key=lambda each: not _fell_short(each)):
        exhibits = [each for each in measurement["exhibits"] if "pictures" in next(iter(each.get("rows", ())), {})]
        for exhibit in sorted(exhibits, key=lambda each: each["kind"] != "rows"):
            rows = exhibit["rows"][: 1 if exhibit["kind"] == "rows" else _PICTURES]
            if pictures := [picture for row in rows for picture in row["pictures"]]:
                return pictures[:_PICTURES]
    return []


def _fell_short(measurement: Mapping[str, Any]) -> bool:
    return any(not limit["holds"] for metric in measurement["metrics"] for limit in metric["thresholds"])


def _figure(picture: Mapping[str, Any], folder: Path, page: Path, *, self_contained: bool) -> str:
    file = folder / (picture.get("thumb") or picture["src"])
    source = _address(file, page)
    if self_contained:
        if not file.is_file():  # a full disk: the record says so
            return ""
        source = f"data:image/{file.suffix.removeprefix('.')};base64,{base64.b64encode(file.read_bytes()).decode()}"
    style = f"{_IMAGE}; image-rendering: pixelated" if picture["pixelated"] else _IMAGE
    alt, caption = escape(picture["alt"] or picture["caption"]), escape(picture["caption"])
    return f'<span style="{_FIGURE}"><img src="{source}" alt="{alt}" style="{style}"><br>{caption}</span>'


def _address(file: Path, page: Path) -> str:
    try:
        return quote(Path(os.path.relpath(file, page.parent)).as_posix(), errors="replace")
    except ValueError:  # on another drive of Windows
        return file.as_uri()


def _interval(metric: Mapping[str, Any], form: str) -> str:
    ends = interval_of(metric)
    return form.format(*ends) if ends else ""


def _thresholds(metric: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{limit['on']} {SIGNS.get(limit['op'], limit['op'])} {limit['value']:.6g} "
        f"({'held' if limit['holds'] else 'missed'})".strip()
        for limit in metric["thresholds"]
    )


def _numbered(things: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its name; a name that comes again gets a number, so that no two are the same."""
    for (name, before), thing in keyed(things, name_of).items():
        yield f"{name} {before + 1}" if before else name, thing
