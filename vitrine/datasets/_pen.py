"""A pen that draws the parts of a flat product into a map; `_shapes` holds what is drawn with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

NOTHING, BODY, TRIM, DARK, PALE, SEAM = range(6)

Point = tuple[float, float]
Form = tuple[float, ...]


class Pen:
    """Draws parts into a square map; what is drawn later covers what was drawn before."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._map = Image.new("L", (side, side), NOTHING)
        self._draw = ImageDraw.Draw(self._map)

    def parts(self) -> NDArray[np.uint8]:
        """The map, `uint8 (side, side)` of NOTHING, BODY, TRIM, DARK, PALE and SEAM."""
        return np.asarray(self._map)

    def shape(self, part: int, points: Iterable[Point]) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=part)

    def even(self, part: int, right_side: list[Point]) -> None:
        """A filled polygon and its mirror image, given from top to bottom on the right."""
        self.shape(part, right_side + [(1 - x, y) for x, y in reversed(right_side)])

    def oval(self, part: int, x: float, y: float, rx: float, ry: float) -> None:
        """A filled ellipse around (x, y)."""
        self._draw.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill=part)

    def box(self, part: int, left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> None:
        """A filled rectangle with rounded corners."""
        self._draw.rounded_rectangle(self._box(left, top, right, bottom), radius * self._side, fill=part)

    def ring(self, part: int, x: float, y: float, rx: float, ry: float, width: float) -> None:
        """The outline of an ellipse; `width` goes inwards."""
        box = self._box(x - rx, y - ry, x + rx, y + ry)
        self._draw.ellipse(box, outline=part, width=max(1, round(width * self._side)))

    def line(self, part: int, points: Iterable[Point], width: float) -> None:
        """A line through points."""
        scaled = [(x * self._side, y * self._side) for x, y in points]
        self._draw.line(scaled, fill=part, width=max(1, round(width * self._side)), joint="curve")

    def pair(self, part: int, points: list[Point], width: float) -> None:
        """A line and its mirror image."""
        self.line(part, points, width)
        self.line(part, [(1 - x, y) for x, y in points], width)

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * self._side, top * self._side, right * self._side, bottom * self._side


def curve(points: list[Point], steps: int = 12) -> list[Point]:
    """A smooth line through points (Catmull and Rom's spline)."""
    padded = [points[0], *points, points[-1]]
    smooth: list[Point] = []
    for place in range(len(points) - 1):
        a, b, c, d = padded[place : place + 4]
        for step in range(steps):
            t = step / steps
            smooth.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    return [*smooth, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
