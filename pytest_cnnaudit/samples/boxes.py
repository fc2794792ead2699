"""Bounding boxes from COCO and Pascal VOC files, by image."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
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


class Annotations:
    """The boxes of a data set's images, and what kind of object each holds.

    An annotation belongs to the image with its relative path; where no other image and no other annotation has the same
    name, to the image of that name, or of that name with another ending.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._boxes: dict[str, list[tuple[Box, str]]] = {}
        self._kinds: set[str] = set()

    def add(self, image: str, boxes: Sequence[tuple[Box, str]]) -> None:
        """Take in the boxes of an image, (box, kind of object) each; `image` is its path or name."""
        self._boxes.setdefault(image, []).extend(boxes)
        self._kinds.update(kind for _, kind in boxes)

    def find(self, image: PurePosixPath, *, alone: bool) -> tuple[Box, ...] | None:
        """The boxes of an image; None where it is not annotated.

        Where the annotation knows the image's class (its first folder) as a kind of object, only boxes of that kind
        count: a dog beside the cat is not the cat.

        Args:
            image: path relative to the data set's folder.
            alone: whether no other image has the same file name.

        Raises:
            AuditError: the annotation could be that of several images.
        """
        boxes = self._boxes.get(str(image), self._boxes.get(str(image.with_suffix(""))))
        if boxes is None:
            named = [key for key in self._boxes if PurePosixPath(key).stem == image.stem]
            if named and (len(named) > 1 or not alone):
                raise AuditError(
                    f"{self.source} does not say which image called {image.name} its boxes of {named[0]} belong to: "
                    f"name the images by their path in the data set's folder, as in {image}."
                )
            boxes = self._boxes[named[0]] if named else None
        if boxes is None:
            return None
        own = image.parts[0]
        return tuple(box for box, kind in boxes if kind == own or own not in self._kinds)


def read_boxes(path: str | Path) -> Annotations:
    """The boxes of a COCO ``.json``, a Pascal VOC ``.xml`` or a folder of VOC files (laid out as the images are)."""
    path = Path(path)
    found = Annotations(path)
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise AuditError(f"There are no Pascal VOC files (*.xml) in {path}.")
        for file in files:
            image, boxes = _voc(file)
            found.add(str(PurePosixPath(file.parent.relative_to(path).as_posix()) / image), boxes)
    elif not path.is_file():
        raise AuditError(f"There is no boxes file {path}; boxes= takes a COCO .json, a VOC .xml or a folder of those.")
    elif path.suffix.lower() == ".xml":
        found.add(*_voc(path))
    else:
        for image, boxes in _coco(path).items():
            found.add(image, boxes)
    return found


def _coco(path: Path) -> dict[str, list[tuple[Box, str]]]:
    """COCO's detection format: ``bbox`` is x, y, width, height."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kinds = {category["id"]: category["name"] for category in content.get("categories", ())}
        names = {image["id"]: image["file_name"] for image in content["images"]}
        found: dict[str, list[tuple[Box, str]]] = {}
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            box = Box(x, y, x + width, y + height)
            kind = kinds.get(annotation.get("category_id"), "")
            found.setdefault(names[annotation["image_id"]], []).append((box, kind))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(
            f"{path} is not a COCO annotation file ({type(error).__name__}: {error}); "
            "it needs images (id, file_name) and annotations (image_id, bbox)."
        ) from None
    return found


def _voc(path: Path) -> tuple[str, list[tuple[Box, str]]]:
    """Pascal VOC: corners are counted from 1 and inclusive."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314  (a local file of the user's own)
        boxes = []
        for part in root.iter("object"):
            x0, y0, x1, y1 = (
                float(part.findtext(f"bndbox/{end}") or "nan") for end in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append((Box(x0 - 1, y0 - 1, x1, y1), part.findtext("name") or ""))
    except (ET.ParseError, ValueError) as error:
        raise AuditError(f"{path} is not a Pascal VOC annotation file: {error}.") from None
    return root.findtext("filename") or path.stem, boxes
