"""Round homeware in three dimensions: surfaces of revolution and tubes, seen from any side and height.

Coordinates: x to the right, y down, z to the viewer, in units of the canvas's side; the axis is x = z = 0
and a product stands on y = 0.82. The camera is far away (no perspective) and looks down by `pitch` degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vitrine.datasets._light import Light, shade
from vitrine.datasets._looks import MATERIALS, Floats, Look, Material, bump, lean, paint

CANVAS = 232
"""Side in pixels of the square that a product is drawn on."""

_PIVOT = 0.52
_STEPS = 5
Point3 = tuple[float, float, float]


@dataclass
class Easel:
    """A transparent canvas, the way the product is turned, and its light.

    Attributes:
        yaw: degrees that the product is turned around its axis.
        pitch: degrees that the camera looks down.
    """

    look: Look
    light: Light
    yaw: float
    pitch: float
    canvas: Image.Image = field(default_factory=lambda: Image.new("RGBA", (CANVAS, CANVAS)))

    def around(self, radius: float, angle: float, y: float) -> Point3:
        """The point at an angle in degrees around the axis, turned with the product."""
        cos, sin = lean(angle + self.yaw)
        return radius * cos, y, radius * sin

    def project(self, point: Point3) -> tuple[float, float, float]:
        """Picture coordinates and depth of a point, in pixels."""
        cos, sin = lean(self.pitch)
        x, y, z = point
        return (
            (x + 0.5) * CANVAS,
            (_PIVOT + (y - _PIVOT) * cos + z * sin) * CANVAS,
            (z * cos - (y - _PIVOT) * sin) * CANVAS,
        )

    def part(self, top: float, radii: Sequence[float], height: float, *, trim: bool = False) -> None:
        """A surface of revolution: `radii` at even steps from `top` down over `height`."""
        cos, sin = lean(self.pitch)
        profile, widest = np.asarray(radii, np.float32), max(radii)
        rows, columns = self._window(top, height, widest)
        x, image_y = _grid(rows, columns)
        y = (image_y - _PIVOT) / cos + _PIVOT
        for _ in range(_STEPS):  # a fixed point: where the ray meets the front of the surface
            radius = _at(profile, (y - top) / height)
            z = np.sqrt(np.maximum(radius * radius - x * x, 0))
            y = 0.4 * y + 0.6 * ((image_y - _PIVOT - z * sin) / cos + _PIVOT)
        edge = np.minimum(radius - np.abs(x), np.minimum(y - top, top + height - y) * cos)
        alpha = np.clip(edge * CANVAS + 0.5, 0, 1)
        angle = np.arcsin(np.clip(x / np.maximum(radius, 1e-4), -1, 1))
        u = (angle + np.float32(np.radians(self.yaw)) + np.pi) % (2 * np.pi) - np.pi
        depth = (z * cos - (y - _PIVOT) * sin) * CANVAS
        self._lay(rows, columns, self._colour(trim, u * np.float32(widest), y), depth, alpha, self._material(trim))

    def opening(self, top: float, radius: float, rim: float, depth: float, *, trim: bool = True) -> None:
        """A round opening: a rim of width `rim` and a hollow that is `depth` deep."""
        self.disc(top, radius, trim=trim)
        self.disc(top + 0.004, radius - rim, hollow=depth)

    def disc(self, y: float, radius: float, *, trim: bool = False, hollow: float = 0.0, painted: bool = False) -> None:
        """A flat or hollow round face at height `y`; `painted` shows the body's pattern on it."""
        _, sin = lean(self.pitch)
        rows, columns = self._window(y, 0.0, radius)
        x, image_y = _grid(rows, columns)
        centre = self.project((0, y, 0))[1] / CANVAS
        z = (image_y - centre) / max(sin, 0.02)
        rho = np.hypot(x, z)
        alpha = np.clip((radius - rho) * CANVAS * max(sin, 0.3) + 0.5, 0, 1)
        sunk = -hollow * np.sqrt(np.clip(1 - (rho / radius) ** 2, 0, 1))
        cos_y, sin_y = lean(self.yaw)
        colour = self._colour(trim, x * cos_y - z * sin_y, x * sin_y + z * cos_y + 0.47, plain=not (trim or painted))
        if hollow:
            colour = colour * (0.62 + 0.3 * (rho / radius)[..., None])
        self._lay(rows, columns, colour, sunk * CANVAS, alpha, self._material(trim))

    def tube(self, points: Sequence[Point3], width: float, *, trim: bool = True, colour: Floats | None = None) -> None:
        """A bent round rod through points in space."""
        side = 2 * CANVAS
        mask = Image.new("L", (side, side))
        draw, thick = ImageDraw.Draw(mask), max(2, round(2 * width * CANVAS))
        path = [(2 * px, 2 * py) for px, py, _ in map(self.project, points)]
        draw.line(path, fill=255, width=thick, joint="curve")
        for px, py in (path[0], path[-1]):
            draw.ellipse((px - thick / 2, py - thick / 2, px + thick / 2, py + thick / 2), fill=255)
        small = mask.reduce(2)
        box = small.getbbox()
        if box is None:
            return
        rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
        alpha = np.asarray(small, np.float32)[rows, columns] / 255
        depth = _rounded(small, thick / 4)[rows, columns]
        x, y = _grid(rows, columns)
        tone = self._colour(trim, x, y, plain=True) if colour is None else np.broadcast_to(colour, (*x.shape, 3))
        self._lay(rows, columns, tone, depth, alpha, self._material(trim))

    def _material(self, trim: bool) -> Material:
        material = MATERIALS[self.look.material]
        return MATERIALS["plastic"] if trim and material.opacity < 1 else material

    def _colour(self, trim: bool, u: Floats, v: Floats, *, plain: bool = False) -> Floats:
        material = MATERIALS[self.look.material]
        if trim:
            colour = np.broadcast_to(self.look.trim, (*u.shape, 3))
        elif plain:
            colour = np.broadcast_to(self.look.body, (*u.shape, 3))
        else:
            colour = paint(self.look, u, v)
        return colour * bump(material, u, v, self.look.grain)[..., None]

    def _window(self, top: float, height: float, radius: float) -> tuple[slice, slice]:
        _, sin = lean(self.pitch)
        low = self.project((0, top, 0))[1] - radius * sin * CANVAS
        high = self.project((0, top + height, 0))[1] + radius * sin * CANVAS
        reach = radius * CANVAS
        return _clip(low - 2, high + 3), _clip(CANVAS / 2 - reach - 2, CANVAS / 2 + reach + 3)

    def _lay(
        self, rows: slice, columns: slice, colour: Floats, depth: Floats, alpha: Floats, material: Material
    ) -> None:
        if min(depth.shape) > 1:
            self.canvas.alpha_composite(shade(colour, depth, alpha, material, self.light), (columns.start, rows.start))


def _clip(low: float, high: float) -> slice:
    return slice(max(0, int(low)), min(CANVAS, int(high)))


def _grid(rows: slice, columns: slice) -> tuple[Floats, Floats]:
    """Both coordinates, x from the axis and y, of each pixel of a window, (h, w) both."""
    y, x = np.mgrid[rows, columns].astype(np.float32)
    return (x + np.float32(0.5)) / CANVAS - np.float32(0.5), (y + np.float32(0.5)) / CANVAS


def _at(profile: Floats, place: Floats) -> Floats:
    """The profile between its samples, `place` in [0, 1] from first to last."""
    spot = np.clip(place, 0, 1) * np.float32(len(profile) - 1)
    low = np.minimum(spot.astype(np.int32), len(profile) - 2)
    share = spot - low
    values: Floats = profile[low] * (1 - share) + profile[low + 1] * share
    return values


def _rounded(mask: Image.Image, radius: float) -> Floats:
    """A depth map, in pixels, that bulges by about `radius` in the middle of what is drawn."""
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(max(1.0, radius * 0.5))), np.float32) / 255
    return np.float32(1.6 * radius) * np.sqrt(soft)
