"""How the demo catalogue's products look: colours, materials and patterns, painted over a surface.

A surface is given by two coordinates in each pixel, `u` (around or across) and `v` (downwards), both in
units of the picture's side, so that one pattern wraps a mug and lies flat on a shirt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "white": (238, 236, 230),
    "grey": (150, 152, 156),
    "charcoal": (58, 60, 66),
    "red": (194, 44, 46),
    "coral": (240, 122, 96),
    "mustard": (220, 168, 40),
    "olive": (118, 126, 60),
    "green": (46, 132, 80),
    "teal": (28, 132, 140),
    "sky": (120, 180, 226),
    "navy": (36, 54, 114),
    "lilac": (172, 140, 206),
    "pink": (232, 148, 174),
    "brown": (126, 82, 54),
    "sand": (214, 188, 148),
    "golden": (196, 152, 70),
    "silver": (176, 180, 186),
    "natural": (186, 140, 92),
}
PATTERNS = (
    "plain", "striped", "banded", "dotted", "checked", "diagonal", "zigzag", "floral", "two-tone", "printed",
)  # fmt: skip
MOTIFS = ("star", "heart", "moon", "mountain", "flower")


@dataclass(frozen=True)
class Material:
    """What a surface is made of.

    Attributes:
        gloss: strength of its highlight, 0 for cloth.
        tightness: exponent of the highlight; metal and glass have a small bright one.
        bump: name of its fine relief, one of `weave`, `knit`, `grain`, `speckle` and `none`.
        colour: the one that it always has, such as wood's; None takes any but these.
        opacity: below 1 for glass.
    """

    gloss: float
    tightness: float
    bump: str = "none"
    colour: str | None = None
    opacity: float = 1.0


MATERIALS: dict[str, Material] = {
    "porcelain": Material(0.75, 40),
    "stoneware": Material(0.25, 12, "speckle"),
    "terracotta": Material(0.08, 8, "speckle"),
    "enamel": Material(0.9, 60),
    "glass": Material(1.0, 70, opacity=0.62),
    "brass": Material(1.0, 18, colour="golden"),
    "steel": Material(1.0, 24, colour="silver"),
    "oak": Material(0.15, 10, "grain", colour="natural"),
    "linen": Material(0.0, 1, "weave"),
    "cotton": Material(0.0, 1),
    "velvet": Material(0.3, 3),
    "paper": Material(0.0, 1),
    "wool": Material(0.0, 1, "knit"),
    "denim": Material(0.0, 1, "weave"),
    "leather": Material(0.45, 14),
    "canvas": Material(0.0, 1, "weave"),
    "suede": Material(0.05, 3, "speckle"),
    "nylon": Material(0.35, 10),
    "plastic": Material(0.7, 36),
    "viscose": Material(0.12, 6),
}


@dataclass(frozen=True)
class Look:
    """What makes a product look like itself in every photo; `form` holds shape parameters in [0, 1]."""

    kind: str
    colour: str
    accent: str
    pattern: str
    material: str
    motif: str
    spacing: float
    form: tuple[float, ...]
    grain: int

    @property
    def body(self) -> Floats:
        """RGB (3,) of the body before its pattern, in [0, 255]."""
        return np.array(COLOURS[self.colour], np.float32)

    @property
    def trim(self) -> Floats:
        """RGB (3,) of rims, handles, hems and prints."""
        return np.array(COLOURS[self.accent], np.float32)


def design(kind: str, materials: Sequence[str], patterns: Sequence[str], rng: random.Random) -> Look:
    """A new product of a kind."""
    material = rng.choice(materials)
    fixed = {material.colour for material in MATERIALS.values()}
    colour, accent = rng.sample([name for name in COLOURS if name not in fixed], 2)
    colour = MATERIALS[material].colour or colour
    form = tuple(rng.random() for _ in range(6))
    pattern, motif = rng.choice(patterns), rng.choice(MOTIFS)
    return Look(kind, colour, accent, pattern, material, motif, rng.uniform(0.05, 0.11), form, rng.getrandbits(32))


def paint(look: Look, u: Floats, v: Floats) -> Floats:
    """RGB (H, W, 3) of the patterned body; `v` grows downwards, `u` is 0 in the middle of the front."""
    marks = _marks(look, u, v)[..., None]
    mixed: Floats = look.body * (1 - 0.9 * marks) + look.trim * (0.9 * marks)
    return mixed


def bump(material: Material, u: Floats, v: Floats, grain: int) -> Floats:
    """A factor around 1 in each pixel: the fine relief of a material, as light and dark."""
    if material.bump == "weave":
        return 1 + np.float32(0.06) * np.sin(u * 420) * np.sin(v * 420)
    if material.bump == "knit":
        return 1 + np.float32(0.13) * np.sin(u * 200 + 1.6 * np.abs(np.sin(v * 130)))
    if material.bump == "grain":
        wave = v * 46 + 2.2 * np.sin(u * 9 + grain % 7) + 1.1 * np.sin(u * 23 + v * 5)
        return 1 + np.float32(0.12) * np.sin(wave)
    if material.bump == "speckle":
        dice = np.random.default_rng(grain).random((64, 64), dtype=np.float32)
        at = dice[np.int32(v * 96) % 64, np.int32(u * 96 + 320) % 64]
        return np.where(at < 0.07, np.float32(0.72), np.float32(1.0))
    return np.ones_like(u)


def _marks(look: Look, u: Floats, v: Floats) -> Floats:
    """Share of the accent colour in each pixel, in [0, 1]."""
    x, y = u / look.spacing, v / look.spacing
    thin = 0.25 + 0.35 * look.form[5]
    marks: dict[str, Callable[[], Floats]] = {
        "plain": lambda: np.zeros_like(u),
        "striped": lambda: _soft(_wave(x) - thin),
        "banded": lambda: _soft(_wave(y) - thin),
        "diagonal": lambda: _soft(_wave((x + y) * 0.75) - thin),
        "zigzag": lambda: _soft(_wave(y + 0.8 * _wave(x * 0.8)) - thin),
        "dotted": lambda: _soft(0.2 + 0.12 * thin - np.hypot(x % 1 - 0.5, (y + 0.5 * (x // 1 % 2)) % 1 - 0.5), 14),
        "checked": lambda: 0.5 * _soft(_wave(x * 0.6) - 0.5) + 0.5 * _soft(_wave(y * 0.6) - 0.5),
        "floral": lambda: _flowers(x * 0.62, y * 0.62),
        "two-tone": lambda: _soft((v - 0.42 - 0.2 * look.form[5]) * 40),
        "printed": lambda: _motif(look.motif, u / 0.1, (v - 0.47) / 0.1),
    }
    return marks[look.pattern]()


def _wave(x: Floats) -> Floats:
    """A triangle wave of period 1 between 0 and 1."""
    wave: Floats = np.abs((x % 1) * 2 - 1)
    return wave


def _soft(distance: Floats, sharp: float = 9.0) -> Floats:
    """A smooth step from 0 to 1 where the distance changes sign."""
    step: Floats = np.clip(distance * sharp + 0.5, 0, 1)
    return step


def _flowers(x: Floats, y: Floats) -> Floats:
    row = np.floor(y)
    a, b = (x + 0.5 * (row % 2)) % 1 - 0.5, y % 1 - 0.5
    return _soft(0.27 + 0.1 * np.cos(5 * np.arctan2(b, a) + row) - np.hypot(a, b), 12)


def _motif(name: str, x: Floats, y: Floats) -> Floats:
    """One picture in the middle, about 2 by 2 units in size."""
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    if name == "star":
        return _soft(0.72 + 0.3 * np.cos(5 * angle) - radius, 8)
    if name == "flower":
        return _soft(0.7 + 0.25 * np.cos(6 * angle) - radius, 8) * _soft(radius - 0.24, 12)
    if name == "heart":
        a, b = x * 1.15, -y * 1.15 + 0.1
        return _soft(-((a * a + b * b - 0.7) ** 3 - a * a * b * b * b) * 2, 8)
    if name == "moon":
        return _soft(0.9 - radius, 8) * _soft(np.hypot(x - 0.4, y + 0.15) - 0.72, 8)
    peaks = np.minimum(np.abs(x + 0.35) * 1.5 - 0.8, np.abs(x - 0.45) * 1.5 - 0.45)
    return _soft(y - peaks, 6) * _soft(0.7 - y, 8)


def lean(degrees: float) -> tuple[float, float]:
    """(cosine, sine) of an angle in degrees."""
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
