"""Outlines of the demo catalogue's products, drawn into a map of materials.

Each shape takes a pen in unit coordinates (x to the right, y down, both in [0, 1]) and three
parameters in [0, 1] that make one product of the kind differ from the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

NOTHING, BODY, TRIM, DARK = 0, 1, 2, 3

Point = tuple[float, float]


class Pen:
    """Draws materials into a square map; what is drawn later covers what was drawn before."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._map = Image.new("L", (side, side), NOTHING)
        self._draw = ImageDraw.Draw(self._map)

    def materials(self) -> NDArray[np.uint8]:
        """The map, `uint8 (side, side)` of NOTHING, BODY, TRIM and DARK."""
        return np.asarray(self._map)

    def shape(self, material: int, points: Iterable[Point]) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=material)

    def oval(self, material: int, x: float, y: float, rx: float, ry: float) -> None:
        """A filled ellipse around (x, y)."""
        self._draw.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill=material)

    def box(self, material: int, left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> None:
        """A filled rectangle with rounded corners."""
        self._draw.rounded_rectangle(self._box(left, top, right, bottom), radius * self._side, fill=material)

    def ring(self, material: int, x: float, y: float, rx: float, ry: float, width: float) -> None:
        """The outline of an ellipse; `width` goes inwards."""
        box = self._box(x - rx, y - ry, x + rx, y + ry)
        self._draw.ellipse(box, outline=material, width=max(1, round(width * self._side)))

    def line(self, material: int, points: Iterable[Point], width: float) -> None:
        """A line through points."""
        scaled = [(x * self._side, y * self._side) for x, y in points]
        self._draw.line(scaled, fill=material, width=max(1, round(width * self._side)), joint="curve")

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * self._side, top * self._side, right * self._side, bottom * self._side


def _mirrored(right_side: list[Point]) -> list[Point]:
    return right_side + [(1 - x, y) for x, y in reversed(right_side)]


def _mug(pen: Pen, a: float, b: float, c: float) -> None:
    half, top, bottom = 0.15 + 0.09 * a, 0.42 - 0.16 * b, 0.74
    middle, grip = (top + bottom) / 2, (bottom - top) * (0.24 + 0.12 * c)
    pen.ring(TRIM, 0.44 + half, middle, 0.1 + 0.06 * c, grip, 0.035 + 0.02 * a)
    pen.box(BODY, 0.44 - half, top, 0.44 + half, bottom, 0.02 + 0.08 * c)
    pen.oval(BODY, 0.44, top, half, 0.045)
    pen.oval(DARK, 0.44, top, half - 0.02, 0.032)


def _bowl(pen: Pen, a: float, b: float, c: float) -> None:
    half, depth, top = 0.27 + 0.12 * a, 0.2 + 0.18 * b, 0.42
    foot = 0.1 + 0.08 * c
    pen.box(TRIM, 0.5 - foot, top + depth - 0.04, 0.5 + foot, top + depth + 0.03 + 0.03 * c, 0.01)
    power = 1.6 + 1.6 * c
    steps = [i / 24 for i in range(25)]
    pen.shape(BODY, _mirrored([(0.5 + half * (1 - t**power) ** (1 / power), top + depth * t) for t in steps]))
    pen.oval(TRIM, 0.5, top, half, 0.06 + 0.03 * b)
    pen.oval(DARK, 0.5, top, half - 0.022, 0.044 + 0.03 * b)


def _vase(pen: Pen, a: float, b: float, c: float) -> None:
    neck, belly, peak = 0.045 + 0.07 * a, 0.13 + 0.13 * b, 0.38 + 0.35 * c
    profile = []
    for step in range(33):
        t = step / 32
        bulge = math.exp(-(((t - peak) / 0.26) ** 2))
        flare = 0.05 * a * max(0.0, 1 - t * 7)
        profile.append((0.5 + neck + flare + (belly - neck) * bulge, 0.14 + 0.7 * t))
    pen.shape(BODY, _mirrored(profile))
    rim = profile[0][0] - 0.5
    pen.oval(TRIM, 0.5, 0.14, rim + 0.012, 0.03)
    pen.oval(DARK, 0.5, 0.14, rim - 0.008, 0.018)


def _lamp(pen: Pen, a: float, b: float, c: float) -> None:
    upper, lower, edge = 0.07 + 0.12 * a, 0.2 + 0.1 * b, 0.42 + 0.1 * c
    pen.box(TRIM, 0.485 - 0.012 * c, edge - 0.02, 0.515 + 0.012 * c, 0.84)
    if c > 0.5:
        pen.oval(TRIM, 0.5, 0.66, 0.05 + 0.05 * a, 0.09)
    pen.oval(TRIM, 0.5, 0.84, 0.13 + 0.06 * b, 0.04)
    pen.shape(BODY, _mirrored([(0.5 + upper, 0.14), (0.5 + lower, edge)]))
    pen.oval(BODY, 0.5, edge, lower, 0.03)
    pen.oval(DARK, 0.5, 0.14, upper, 0.018)


def _cushion(pen: Pen, a: float, b: float, c: float) -> None:
    wide, high, power = 0.26 + 0.1 * a, 0.24 + 0.1 * b, 3.0 + 3 * c
    angles = [2 * math.pi * i / 96 for i in range(96)]

    def outline(grow: float) -> list[Point]:
        def along(value: float, size: float) -> float:
            return math.copysign(abs(value) ** (2 / power), value) * (size + grow)

        return [(0.5 + along(math.cos(w), wide), 0.5 + along(math.sin(w), high)) for w in angles]

    pen.shape(TRIM, outline(0.022))
    pen.shape(BODY, outline(0.0))
    if a > 0.6:
        pen.oval(TRIM, 0.5, 0.5, 0.025, 0.025)


def _t_shirt(pen: Pen, a: float, b: float, c: float) -> None:
    half, sleeve, hem = 0.17 + 0.06 * b, 0.12 + 0.2 * a, 0.76 + 0.08 * c
    shoulder, reach = 0.5 + half, 0.16
    cuff = [(shoulder + reach, 0.26 + sleeve), (shoulder + reach - 0.1, 0.3 + sleeve)]
    pen.shape(BODY, _mirrored([(0.58, 0.19), (shoulder, 0.22), *cuff, (shoulder, 0.38), (shoulder + 0.01, hem)]))
    for flip in (False, True):
        ends = [(1 - x, y) if flip else (x, y) for x, y in cuff]
        pen.line(TRIM, ends, 0.03)
    if c > 0.5:
        pen.shape(TRIM, [(0.4, 0.18), (0.6, 0.18), (0.5, 0.36)])
        pen.shape(DARK, [(0.425, 0.18), (0.575, 0.18), (0.5, 0.32)])
    else:
        pen.oval(TRIM, 0.5, 0.19, 0.1, 0.08)
        pen.oval(DARK, 0.5, 0.18, 0.075, 0.055)


def _dress(pen: Pen, a: float, b: float, c: float) -> None:
    waist, flare, hem = 0.1 + 0.04 * b, 0.18 + 0.18 * a, 0.66 + 0.22 * c
    middle = 0.4 + 0.06 * b
    pen.line(BODY, [(0.4, 0.24), (0.42, 0.1)], 0.03 + 0.05 * b)
    pen.line(BODY, [(0.6, 0.24), (0.58, 0.1)], 0.03 + 0.05 * b)
    top = [(0.55, 0.23), (0.63, 0.2), (0.5 + waist + 0.04, 0.3)]
    pen.shape(BODY, _mirrored([*top, (0.5 + waist, middle), (0.5 + flare * 0.8, hem - 0.12), (0.5 + flare, hem)]))
    pen.box(TRIM, 0.5 - waist, middle - 0.02, 0.5 + waist, middle + 0.02)
    pen.line(TRIM, [(0.5 - flare, hem), (0.5 + flare, hem)], 0.02)


def _trousers(pen: Pen, a: float, b: float, c: float) -> None:
    half, hem, leg = 0.15 + 0.04 * b, 0.6 + 0.28 * c, 0.07 + 0.09 * a
    knee = 0.5 + half * 0.62
    inner = max(0.52, knee - leg)  # wide legs must not grow together
    outer = [(0.5 + half, 0.14), (0.5 + half + 0.03, 0.32), (knee + leg, hem)]
    pen.shape(BODY, _mirrored([*outer, (inner, hem), (0.505, 0.38)]))
    pen.box(TRIM, 0.5 - half, 0.13, 0.5 + half, 0.175)
    pen.line(DARK, [(0.5, 0.18), (0.5, 0.38)], 0.008)
    pen.line(TRIM, [(inner, hem), (knee + leg, hem)], 0.02)
    pen.line(TRIM, [(1 - knee - leg, hem), (1 - inner, hem)], 0.02)


def _bag(pen: Pen, a: float, b: float, c: float) -> None:
    upper, lower, top = 0.2 + 0.1 * a, 0.22 + 0.14 * b, 0.46 - 0.08 * c
    pen.ring(TRIM, 0.5, top, 0.11 + 0.08 * a, 0.16 + 0.14 * c, 0.03)
    pen.shape(BODY, _mirrored([(0.5 + upper, top), (0.5 + lower, 0.76), (0.5 + lower - 0.03, 0.8)]))
    if b > 0.45:
        pen.shape(TRIM, _mirrored([(0.5 + upper, top), (0.5 + upper * 0.7, top + 0.16)]))
        pen.oval(DARK, 0.5, top + 0.14, 0.025, 0.025)
    else:
        pen.box(TRIM, 0.44, 0.56, 0.56, 0.66, 0.02)


def _cap(pen: Pen, a: float, b: float, c: float) -> None:
    half, high, edge = 0.24 + 0.06 * a, 0.24 + 0.12 * b, 0.62
    steps = [i / 24 for i in range(25)]
    dome = [(0.44 + half * math.sin(t * math.pi / 2), edge - high * math.cos(t * math.pi / 2)) for t in steps]
    pen.shape(BODY, dome + [(0.88 - x, y) for x, y in reversed(dome)])
    reach = 0.14 + 0.12 * c
    pen.shape(TRIM, [(0.46, edge - 0.05), (0.44 + half, edge - 0.06), (0.44 + half + reach, edge + 0.05), (0.46, edge)])
    pen.oval(TRIM, 0.44, edge - high, 0.025, 0.018)
    pen.line(DARK, [(0.44, edge - high + 0.02), (0.44 + half * 0.25, edge - 0.02)], 0.006)


SHAPES: dict[str, Callable[[Pen, float, float, float], None]] = {
    "mug": _mug,
    "bowl": _bowl,
    "vase": _vase,
    "lamp": _lamp,
    "cushion": _cushion,
    "t-shirt": _t_shirt,
    "dress": _dress,
    "trousers": _trousers,
    "bag": _bag,
    "cap": _cap,
}
