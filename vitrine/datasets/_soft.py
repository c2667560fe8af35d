"""Flat and soft products of the demo catalogue: an outline becomes stuffed, folded and lit cloth or leather."""

from __future__ import annotations

import functools
import random

import numpy as np
from PIL import Image, ImageFilter

from vitrine.datasets._light import Light, shade
from vitrine.datasets._looks import MATERIALS, Floats, Look, bump, paint
from vitrine.datasets._pen import DARK, NOTHING, PALE, SEAM, TRIM, Pen
from vitrine.datasets._shapes import SHAPES
from vitrine.datasets._turned import CANVAS

_STUFFED = {"cushion": 26.0, "trainers": 16.0, "boots": 14.0, "handbag": 14.0, "backpack": 20.0, "cap": 26.0}
"""Kind -> how far its middle bulges, in pixels; garments lie flat."""

Sheet = tuple[Floats, Floats, Floats]


def soft(look: Look, light: Light, rng: random.Random) -> Image.Image:
    """One view of a product, RGBA; now and then its back."""
    colour, depth, alpha = _sheet(look, rng.random() < 0.22)
    creases = _folds(rng, 3.0 if look.kind in _STUFFED else 9.0)
    return shade(colour, depth + creases, alpha, MATERIALS[look.material], light)


@functools.lru_cache(maxsize=4)
def _sheet(look: Look, back: bool) -> Sheet:
    """RGB (S, S, 3), depth (S, S) in pixels and alpha (S, S) in [0, 1] of one side, without light."""
    pen = Pen(2 * CANVAS)
    SHAPES[look.kind](pen, look.form, back)
    parts = pen.parts()
    mask = Image.fromarray(np.where(parts == NOTHING, 0, 255).astype(np.uint8)).reduce(2)
    colour = _coloured(look, parts, back)
    depth = _relief(mask, _STUFFED.get(look.kind, 6.0)) + _raised(parts)
    return colour, depth, np.asarray(mask, np.float32) / 255


def _coloured(look: Look, parts: np.ndarray, back: bool) -> Floats:
    """RGB (S, S, 3) at half the map's side, each part in its colour."""
    v, u = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32) / np.float32(CANVAS)
    material = MATERIALS[look.material]
    plain_back = back and look.pattern == "printed"
    body = np.broadcast_to(look.body, (CANVAS, CANVAS, 3)) if plain_back else paint(look, u - np.float32(0.5), v)
    colour: Floats = np.array(body, np.float32)
    tones = {TRIM: look.trim, DARK: look.body * 0.34, PALE: np.array((228, 224, 214), np.float32)}
    for part, tone in tones.items():
        share = _share(parts, part)
        colour = colour * (1 - share) + tone * share
    colour = colour * (1 - 0.3 * _share(parts, SEAM))
    return colour * bump(material, u, v, look.grain)[..., None]


def _share(parts: np.ndarray, part: int) -> Floats:
    """How much of each small pixel (S, S, 1) belongs to a part."""
    small = Image.fromarray(np.where(parts == part, 255, 0).astype(np.uint8)).reduce(2)
    return np.asarray(small, np.float32)[..., None] / 255


def _relief(mask: Image.Image, height: float) -> Floats:
    """A pillow over the mask: edges round off, the middle bulges by about `height` pixels."""
    edge = np.asarray(mask.filter(ImageFilter.GaussianBlur(3)), np.float32) / 255
    wide = np.asarray(mask.reduce(2).filter(ImageFilter.GaussianBlur(9)).resize(mask.size), np.float32) / 255
    return 5 * edge + np.float32(height) * np.sqrt(wide) * edge


def _raised(parts: np.ndarray) -> Floats:
    """Trims stand out a little, openings lie deeper."""
    small = Image.fromarray(np.choose(parts, [0, 128, 190, 20, 200, 90]).astype(np.uint8)).reduce(2)
    return np.asarray(small.filter(ImageFilter.GaussianBlur(1.4)), np.float32) * np.float32(0.022)


def _folds(rng: random.Random, height: float) -> Floats:
    """Creases (S, S): smooth noise, stretched in one direction."""
    dice = np.random.default_rng(rng.getrandbits(64))
    rows, columns = rng.choice(((5, 9), (9, 5), (7, 7), (4, 12)))
    field = Image.fromarray(dice.random((rows, columns), dtype=np.float32))
    smooth = np.asarray(field.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
    return smooth * np.float32(height * rng.uniform(0.4, 1.5))
