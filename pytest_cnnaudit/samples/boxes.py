"""Bounding boxes from COCO and Pascal VOC files, by image."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pytest_cnnaudit.errors import AuditError


class Box(NamedTuple):
    """A rectangle in pixels of its image; `x1` and `y1` are exclusive."""

    x0: float
    y0: float
    x1: float
    y1: float

    def moved(self, scale_x: float, scale_y: float, left: float, top: float) -> Box:
        """The box after the image was scaled, then cut at `left` and `top` (in scaled pixels)."""
        return Box(self.x0 * scale_x - left, self.y0 * scale_y - top, self.x1 * scale_x - left, self.y1 * scale_y - top)


Boxes = Mapping[str, tuple[Box, ...]]


def read_boxes(path: str | Path) -> Boxes:
    """Boxes by image file, from a COCO ``.json``, a Pascal VOC ``.xml`` or a folder of VOC files.

    Keys are file names as they stand in the file, relative paths included; look up with `find`.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise AuditError(f"There are no Pascal VOC files (*.xml) in {path}.")
        return {name: boxes for file in files for name, boxes in _voc(file).items()}
    if not path.is_file():
        raise AuditError(f"There is no boxes file {path}; boxes= takes a COCO .json, a VOC .xml or a folder of those.")
    return _voc(path) if path.suffix.lower() == ".xml" else _coco(path)


def find(boxes: Boxes, image: PurePosixPath) -> tuple[Box, ...] | None:
    """The boxes of an image: by its relative path, else its file name, else its name without the ending."""
    for key in (str(image), image.name, image.stem):
        if key in boxes:
            return boxes[key]
    return None


def _coco(path: Path) -> Boxes:
    """COCO's detection format: ``bbox`` is x, y, width, height."""
    try:
        content = json.loads(path.read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        found: dict[str, tuple[Box, ...]] = {}
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            name = names[annotation["image_id"]]
            found[name] = (*found.get(name, ()), Box(x, y, x + width, y + height))
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(
            f"{path} is not a COCO annotation file ({type(error).__name__}: {error}); "
            "it needs images (id, file_name) and annotations (image_id, bbox)."
        ) from None
    return found


def _voc(path: Path) -> Boxes:
    """Pascal VOC: corners are counted from 1 and inclusive."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314  (a local file of the user's own)
        name = root.findtext("filename") or path.stem
        corners = [
            [float(part.findtext(f"bndbox/{end}") or "nan") for end in ("xmin", "ymin", "xmax", "ymax")]
            for part in root.iter("object")
        ]
    except (ET.ParseError, ValueError) as error:
        raise AuditError(f"{path} is not a Pascal VOC annotation file: {error}.") from None
    boxes = tuple(Box(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in corners)
    return {name: boxes, PurePosixPath(name).stem: boxes}
