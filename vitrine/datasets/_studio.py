"""Drawing a demo product and photographing it: every draw is from a seeded generator."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vitrine.datasets._shapes import DARK, NOTHING, SHAPES, TRIM, Pen

SIDE = 128
_CANVAS = 2 * SIDE  # drawn at twice the size, then halved, which smooths the edges

Colour = tuple[int, int, int]
Picture = NDArray[np.float32]

COLOURS: dict[str, Colour] = {
    "white": (236, 234, 228),
    "charcoal": (62, 64, 70),
    "red": (196, 48, 48),
    "coral": (238, 124, 96),
    "mustard": (216, 166, 44),
    "olive": (120, 128, 62),
    "green": (52, 134, 84),
    "teal": (34, 134, 140),
    "sky": (122, 178, 222),
    "navy": (40, 58, 116),
    "lilac": (172, 140, 202),
    "pink": (230, 148, 172),
    "brown": (128, 84, 56),
    "sand": (212, 186, 146),
}
PATTERNS = ("plain", "stripes", "bands", "dots", "checks", "diagonals")
_ROOMS: tuple[Colour, ...] = (
    (244, 243, 240), (226, 230, 234), (238, 226, 212), (214, 226, 214), (200, 204, 212), (248, 236, 236),
)  # fmt: skip


@dataclass(frozen=True)
class Design:
    """What makes a product look like itself in every photo."""

    kind: str
    colour: str
    accent: str
    pattern: str
    spacing: float
    form: tuple[float, float, float]


def design(kind: str, rng: random.Random) -> Design:
    """A new product of a kind."""
    colour, accent = rng.sample(sorted(COLOURS), 2)
    form = (rng.random(), rng.random(), rng.random())
    return Design(kind, colour, accent, rng.choice(PATTERNS), rng.uniform(14, 34), form)


def draw(look: Design) -> Image.Image:
    """The product alone, RGBA at twice the photo's size."""
    pen = Pen(_CANVAS)
    SHAPES[look.kind](pen, *look.form)
    materials = pen.materials()[..., None]  # (H, W, 1)
    body, accent = _texture(look), np.array(COLOURS[look.accent], np.float32)
    rgb = np.where(materials == TRIM, accent, body)
    rgb = np.where(materials == DARK, 0.42 * np.array(COLOURS[look.colour], np.float32), rgb)
    across = np.linspace(-1, 1, _CANVAS, dtype=np.float32)[None, :, None]
    rgb = rgb * (1.06 - 0.3 * across**2 - 0.1 * across)  # rounder than the flat outline is
    alpha = np.where(materials == NOTHING, 0, 255)
    return Image.fromarray(np.concatenate([np.clip(rgb, 0, 255), alpha], axis=2).astype(np.uint8), "RGBA")


def photograph(product: Image.Image, rng: random.Random) -> bytes:
    """One photo as JPEG bytes: its own room, distance, angle, cut, light and noise."""
    placed = _place(product, rng)
    scene = _room(rng)
    shadow = placed.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(3)).resize(placed.size)
    offset = rng.randint(-14, 14), rng.randint(4, 16)
    strength = rng.uniform(0.2, 0.5)
    scene.paste((40, 38, 44), offset, shadow.point(lambda value: int(value * strength)))
    scene.paste(placed, (0, 0), placed)
    return _expose(scene.reduce(2), rng)


def _texture(look: Design) -> Picture:
    """Float RGB (H, W, 3) of the body's colour and pattern over the whole canvas."""
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32) / np.float32(look.spacing)
    half = np.float32(0.5)
    marks = {
        "plain": np.zeros_like(x, bool),
        "stripes": x % 1 < half * 0.8,
        "bands": y % 1 < half * 0.8,
        "dots": (x % 1 - half) ** 2 + (y % 1 - half) ** 2 < 0.07,
        "checks": (x % 2 < 1) ^ (y % 2 < 1),
        "diagonals": (x + y) % 1.4 < half * 0.9,
    }[look.pattern]
    body, accent = (np.array(COLOURS[name], np.float32) for name in (look.colour, look.accent))
    texture: Picture = np.where(marks[..., None], 0.35 * body + 0.65 * accent, body)
    return texture


def _place(product: Image.Image, rng: random.Random) -> Image.Image:
    """Scale, turn and shift in one resampling; a close-up may cut the product."""
    scale, angle = rng.uniform(0.72, 1.22), math.radians(rng.gauss(0, 9))
    shift_x, shift_y = rng.uniform(-20, 20), rng.uniform(-16, 16)
    cos, sin, centre = math.cos(angle) / scale, math.sin(angle) / scale, _CANVAS / 2
    flip = -1 if rng.random() < 0.3 else 1
    move_x, move_y = -centre - shift_x, -centre - shift_y
    matrix = (
        flip * cos, flip * sin, flip * (cos * move_x + sin * move_y) + centre,
        -sin, cos, -sin * move_x + cos * move_y + centre,
    )  # fmt: skip
    return product.transform(product.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _room(rng: random.Random) -> Image.Image:
    """A wall that fades, above a table in most rooms."""
    wall = np.array(rng.choice(_ROOMS), np.float32)
    rows = np.linspace(1.03, rng.uniform(0.82, 0.98), _CANVAS, dtype=np.float32)[:, None]
    scene = wall * rows  # (H, 3)
    if rng.random() < 0.6:
        table = np.array(rng.choice(_ROOMS), np.float32) * np.float32(rng.uniform(0.7, 0.95))
        scene[int(_CANVAS * rng.uniform(0.66, 0.84)) :] = table
    pixels = np.clip(np.repeat(scene[:, None], _CANVAS, axis=1), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels, "RGB")


def _expose(photo: Image.Image, rng: random.Random) -> bytes:
    pixels = np.asarray(photo, dtype=np.float32)
    slope = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.float32(rng.uniform(-0.14, 0.14))
    tint = np.array([rng.uniform(0.94, 1.06) for _ in range(3)], np.float32)
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape, dtype=np.float32)
    lit = pixels * (rng.uniform(0.78, 1.14) + slope[None, :, None]) * tint + noise * np.float32(rng.uniform(1, 6))
    stream = io.BytesIO()
    Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8), "RGB").save(stream, "JPEG", quality=88)
    return stream.getvalue()
