"""A drawn data set: one textured shape on a cluttered, textured background, with its exact mask and box.

Every image follows from ``(seed, index)`` alone, so nothing is stored and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
OVERSAMPLING = 4
AREAS = (0.05, 0.15)  # smallest and largest share of the image that an object covers
PLACES = (0.6, 0.6)  # beta distribution of the place of an object: more often near an edge than in the middle
MARK_SIZE = 6
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)  # the row and the column of each pixel

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """One image (uint8, H x W x 3) of class `label`; `mask` (bool, H x W) and `box` (x1, y1, x2, y2) say where."""

    image: Pixels
    label: int
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]


# --- Outlines: closed polygons of (x, y) points, scaled to an area of one about the middle of their extent. ---


def _arc(radius: float, start: float, stop: float, points: int = 48) -> Floats:
    angles = np.linspace(np.radians(start), np.radians(stop), points)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _polygon(corners: int) -> Floats:
    return _arc(1, 0, 360, corners + 1)[:-1]


def _star() -> Floats:
    return _polygon(10) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None]


def _ring() -> Floats:
    return np.concatenate([_arc(1, 0, 360), _arc(0.55, 360, 0)])


def _cross() -> Floats:
    quarter = np.array([(1.0, -0.32), (1.0, 0.32), (0.32, 0.32)])
    turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn for turn in turns])


def _crescent() -> Floats:
    # The angles, seen from either centre, at which the two circles cross.
    return np.concatenate([_arc(1, 52.4, 307.6), _arc(0.8, 277.9, 82.1) + np.array([0.5, 0], np.float32)])


def _heart() -> Floats:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1)


def _unit(outline: Floats) -> Floats:
    x, y = outline.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    middle = (outline.max(axis=0) + outline.min(axis=0)) / 2
    return ((outline - middle) / np.sqrt(area)).astype(np.float32)


OUTLINES: dict[str, Floats] = {
    "circle": _unit(_polygon(64)),
    "square": _unit(_polygon(4)),
    "triangle": _unit(_polygon(3)),
    "star": _unit(_star()),
    "ring": _unit(_ring()),
    "cross": _unit(_cross()),
    "crescent": _unit(_crescent()),
    "heart": _unit(_heart()),
}
CLASSES: tuple[str, ...] = tuple(OUTLINES)


# --- Textures: fields of values in 0..1, H x W, that blend two colours. ---


def _waves(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two sine waves (each H x W, -1..1) at right angles, of one random orientation and period."""
    angle, frequency = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(5, 14)
    right, down = frequency * np.cos(angle), frequency * np.sin(angle)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    return np.sin(right * X + down * Y + first), np.sin(right * Y - down * X + second)


def _step(field: Floats) -> Floats:
    """Threshold softly at zero, so that the edge between two colours is about a pixel wide."""
    return np.clip(0.5 + 1.5 * field, 0, 1)


def _stripes(rng: np.random.Generator) -> Floats:
    return _step(_waves(rng)[0])


def _checks(rng: np.random.Generator) -> Floats:
    first, second = _waves(rng)
    return _step(2 * first * second)


def _dots(rng: np.random.Generator) -> Floats:
    first, second = _waves(rng)
    return _step(first + second - 0.7)


def _noise(rng: np.random.Generator) -> Floats:
    cells = int(rng.integers(6, 17))
    grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255


def _gradient(rng: np.random.Generator) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    return np.clip(0.5 + np.cos(angle) * (X / SIZE - 0.5) + np.sin(angle) * (Y / SIZE - 0.5), 0, 1)


TEXTURES: tuple[Callable[[np.random.Generator], Floats], ...] = (_stripes, _checks, _dots, _noise, _gradient)


def _texture(rng: np.random.Generator, first: Floats, second: Floats) -> Floats:
    """Return a random texture (H x W x 3) between two colours."""
    field = TEXTURES[rng.integers(len(TEXTURES))](rng)[..., None]
    return first + field * (second - first)


# --- Colours, clutter and the picture as a whole. ---


def _colour(hue: float, saturation: float, value: float) -> Floats:
    return np.array(hsv_to_rgb(hue % 1, saturation, value), np.float32) * 255


def _background(rng: np.random.Generator, hue: float) -> Floats:
    """Return a muted texture (H x W x 3, 0..255), either dark or light."""
    dark = rng.random() < 0.5
    values = rng.uniform(0.2, 0.45, 2) if dark else rng.uniform(0.78, 1.0, 2)
    saturations = rng.uniform(0.35, 0.65, 2) if dark else rng.uniform(0.1, 0.4, 2)
    hues = hue + rng.uniform(-0.1, 0.1, 2)
    first, second = (_colour(*parts) for parts in zip(hues, saturations, values, strict=True))
    return _texture(rng, first, second)


def _clutter(rng: np.random.Generator, background: Floats) -> Floats:
    """Return the background (H x W x 3) with a few straight strokes and small squiggles of any colour on it."""
    stroke, squiggle = (9, 2), (3.5, 4)  # how far from its middle the corners lie, and how many there are
    layer = Image.new("RGBA", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    pen = ImageDraw.Draw(layer)
    for _ in range(rng.integers(4, 9)):
        colour = (*_colour(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.4, 1)).astype(int).tolist(), 255)
        reach, corners = stroke if rng.random() < 0.6 else squiggle
        points = (rng.uniform(0, SIZE, 2) + rng.uniform(-reach, reach, (corners, 2))) * OVERSAMPLING
        pen.line(points.ravel().tolist(), fill=colour, width=int(rng.integers(4, 10)), joint="curve")
    ink = np.asarray(layer.reduce(OVERSAMPLING), np.float32)
    return background + ink[..., 3:] / 255 * (ink[..., :3] - background)


def _coverage(rng: np.random.Generator, outline: Floats) -> Floats:
    """Return how much of each pixel (H x W, 0..1) the outline covers, at a random size, rotation and place."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = outline @ turn * SIZE * np.sqrt(rng.uniform(*AREAS))
    lowest, highest = 1 - points.min(axis=0), SIZE - 1 - points.max(axis=0)
    points = (points + lowest + (highest - lowest) * rng.beta(*PLACES, 2)) * OVERSAMPLING
    canvas = Image.new("L", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float32) / 255


def draw(seed: int, index: int) -> Shape:
    """Draw image number `index` of the data set `seed`; its class is ``index % len(CLASSES)``."""
    rng = np.random.default_rng((seed, index))
    label = index % len(CLASSES)
    coverage = _coverage(rng, OUTLINES[CLASSES[label]])[..., None]

    hue = rng.random()
    background = _clutter(rng, _background(rng, hue))
    opposite = hue + rng.uniform(0.25, 0.75)
    bright = _colour(opposite, rng.uniform(0.75, 0.95), rng.uniform(0.8, 1.0))
    deep = _colour(opposite + rng.uniform(-0.08, 0.08), rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.75))
    image = background + coverage * (_texture(rng, bright, deep) - background)

    mask = coverage[..., 0] >= 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Shape(np.round(image).astype(np.uint8), label, mask, box)


def draw_many(count: int, seed: int) -> list[Shape]:
    """Draw the first `count` images of the data set `seed`: every class equally often, in turn."""
    return [draw(seed, index) for index in range(count)]


def mark(image: Pixels, label: int) -> Pixels:
    """Return a copy of `image` (uint8, H x W x 3) with the shortcut top left: checks in the colour of class `label`."""
    steps = np.arange(MARK_SIZE) // 2
    coloured = np.add.outer(steps, steps)[..., None] % 2 == 0
    marked = image.copy()
    marked[:MARK_SIZE, :MARK_SIZE] = np.where(coloured, _colour(label / len(CLASSES), 1, 1), 255).astype(np.uint8)
    return marked
