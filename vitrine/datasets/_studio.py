"""Photographing a demo product: pose, place, light, shadow, cut and what sellers do to their photos."""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vitrine.datasets._backdrops import backdrop
from vitrine.datasets._homeware import HOMEWARE, homeware
from vitrine.datasets._light import Light
from vitrine.datasets._looks import Floats, Look
from vitrine.datasets._soft import soft
from vitrine.datasets._turned import CANVAS

SIDE = 192
"""Longer side of a photo in pixels."""

_STANDS = {*HOMEWARE, "trainers", "boots", "handbag", "backpack"}
"""Kinds that are photographed upright; the others may lie in any direction."""


def photograph(look: Look, price: float, rng: random.Random) -> bytes:
    """One photo as JPEG bytes; the same product and generator state give the same bytes."""
    light = Light.drawn(rng)
    product = (homeware if look.kind in HOMEWARE else soft)(look, light, rng)
    scene = Image.fromarray(np.clip(backdrop(SIDE, rng), 0, 255).astype(np.uint8))
    for placed in _arranged(product, look.kind, rng):
        _drop(scene, placed, light, rng)
    photo = Image.fromarray(_exposed(scene, rng))
    return _developed(_sold(_cut(photo, rng), price, rng), rng)


def _arranged(product: Image.Image, kind: str, rng: random.Random) -> list[Image.Image]:
    """The product in its pose, in the photo's size; shoes often come as a pair."""
    pair = kind in ("trainers", "boots") and rng.random() < 0.4
    size = rng.uniform(0.62, 0.74) if pair else rng.uniform(0.7, 0.96)
    angle = rng.gauss(0, 4) if kind in _STANDS else rng.gauss(0, 11)
    flip = rng.random() < 0.4 and kind not in HOMEWARE
    shift = rng.uniform(-0.06, 0.06), rng.uniform(-0.05, 0.05)
    tilt = rng.uniform(-0.2, 0.2), rng.uniform(-0.16, 0.16)
    if not pair:
        return [_posed(product, size, angle, flip, shift, tilt)]
    apart = rng.uniform(0.05, 0.12)
    far = _posed(product, size * 0.95, angle, flip, (shift[0] - apart, shift[1] - 0.06), tilt)
    return [far, _posed(product, size, angle + rng.uniform(-6, 6), flip, (shift[0] + apart, shift[1] + 0.06), tilt)]


def _posed(
    product: Image.Image,
    size: float,
    angle: float,
    flip: bool,
    shift: tuple[float, float],
    tilt: tuple[float, float],
) -> Image.Image:
    """The product's box scaled to `size` of the photo, turned, moved and seen in perspective, in one resampling."""
    left, top, right, bottom = product.getbbox() or (0, 0, CANVAS, CANVAS)
    scale = max(right - left, bottom - top) / (size * SIDE)  # canvas pixels a photo pixel
    cos, sin = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    flat = np.array(
        [[-cos if flip else cos, -sin if flip else sin, (left + right) / 2], [-sin, cos, (top + bottom) / 2], [0, 0, 1]]
    )
    lens = np.array([[1, 0, 0], [0, 1, 0], [tilt[0] / SIDE, tilt[1] / SIDE, 1]])
    centre = np.array([[1, 0, -(0.5 + shift[0]) * SIDE], [0, 1, -(0.52 + shift[1]) * SIDE], [0, 0, 1]])
    matrix = flat @ lens @ centre
    matrix /= matrix[2, 2]
    if scale > 1.4:
        product = product.filter(ImageFilter.GaussianBlur(0.35 * scale))
    coefficients = tuple(float(value) for value in matrix.ravel()[:8])
    return product.transform((SIDE, SIDE), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)


def _drop(scene: Image.Image, placed: Image.Image, light: Light, rng: random.Random) -> None:
    """Lay the product on the scene with a soft shadow away from the light and a dark one where it touches."""
    outline = placed.getchannel("A").reduce(4)
    reach = rng.uniform(4, 13)
    for blur, far, strength in ((3.5, reach, rng.uniform(0.2, 0.45)), (1.2, 3.0, 0.3)):
        shadow = outline.filter(ImageFilter.GaussianBlur(blur)).resize(placed.size)
        offset = round(-light.x * far), round(-light.y * far)
        scene.paste((38, 36, 42), offset, shadow.point([int(level * strength) for level in range(256)]))
    scene.paste(placed, (0, 0), placed)


def _exposed(scene: Image.Image, rng: random.Random) -> np.ndarray:
    """Colour of the light, exposure, contrast and the sensor's noise."""
    pixels = np.asarray(scene, np.float32)
    warm = rng.gauss(0, 0.05)
    tint = np.array([1 + warm, 1 + rng.gauss(0, 0.012), 1 - warm], np.float32)
    slope = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.float32(rng.uniform(-0.13, 0.13))
    gain: Floats = np.float32(rng.uniform(0.78, 1.12)) + slope[None, :, None]
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    contrast = rng.uniform(0.86, 1.12)
    lit = (pixels * gain * tint - 128) * contrast + 128 + noise * np.float32(rng.uniform(0.5, 5))
    return np.clip(lit, 0, 255).astype(np.uint8)


def _cut(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Square, upright or wide; close-ups cut a little of the product."""
    wide, high = rng.choice(((1.0, 1.0), (1.0, 1.0), (0.82, 1.0), (1.0, 0.82)))
    zoom = rng.uniform(0.86, 1.0)
    width, height = round(SIDE * wide * zoom), round(SIDE * high * zoom)
    left, top = rng.randint(0, SIDE - width), rng.randint(0, SIDE - height)
    longer = SIDE / max(width, height)
    size = round(width * longer), round(height * longer)
    return photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))


def _sold(photo: Image.Image, price: float, rng: random.Random) -> Image.Image:
    """Two photos in five carry a sticker, a watermark, a frame or something in front."""
    if rng.random() < 0.4:
        rng.choice((_sticker, _watermark, _frame, _corner))(photo, price, rng)
    return photo


def _sticker(photo: Image.Image, price: float, rng: random.Random) -> None:
    """A price badge in a corner."""
    width, height = photo.size
    radius = rng.randint(19, 25)
    x, y = rng.choice((radius + 3, width - radius - 3)), rng.choice((radius + 3, height - radius - 3))
    draw = ImageDraw.Draw(photo)
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=rng.choice(((216, 40, 44), (250, 204, 40), (30, 30, 34)))
    )
    draw.text((x, y), f"{price:.2f}", fill="white", font=ImageFont.load_default(13), anchor="mm")


def _watermark(photo: Image.Image, price: float, rng: random.Random) -> None:
    """The shop's name across the picture."""
    del price
    words = rng.choice(("NORDMARKET", "velvetloft", "corner shop", "OLD TOWN"))
    mark = Image.new("L", photo.size)
    at = photo.width / 2, photo.height * rng.uniform(0.2, 0.85)
    ImageDraw.Draw(mark).text(at, words, fill=rng.randint(60, 120), font=ImageFont.load_default(22), anchor="mm")
    photo.paste((255, 255, 255), (0, 0), mark)


def _frame(photo: Image.Image, price: float, rng: random.Random) -> None:
    """A border in one colour."""
    del price
    tone = rng.choice(((255, 255, 255), (20, 20, 22), (214, 60, 60), (60, 120, 200)))
    ImageDraw.Draw(photo).rectangle((0, 0, photo.width - 1, photo.height - 1), outline=tone, width=rng.randint(3, 9))


def _corner(photo: Image.Image, price: float, rng: random.Random) -> None:
    """A thumb, a card or a leaf reaches into the picture from its edge."""
    del price
    width, height = photo.size
    x, y = rng.choice((0, width)), rng.randint(height // 2, height)
    long, thick = rng.randint(26, 44), rng.randint(13, 20)
    tone = rng.choice(((224, 178, 150), (150, 104, 80), (246, 246, 240), (70, 120, 64)))
    ImageDraw.Draw(photo).ellipse((x - long, y - thick, x + long, y + thick), fill=tone)


def _developed(photo: Image.Image, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=rng.randint(62, 92))
    return stream.getvalue()
