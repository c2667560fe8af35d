"""Light on the demo catalogue's surfaces: a depth map and a colour become a lit picture with alpha."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrine.datasets._looks import Floats, Material


@dataclass(frozen=True)
class Light:
    """A lamp far away; (x, y, z) points to it: x right, y down, z to the camera; `ambient` comes from all sides."""

    x: float
    y: float
    z: float
    ambient: float

    @classmethod
    def drawn(cls, rng: random.Random) -> Light:
        """From above, left or right, soft or hard."""
        x, y = rng.uniform(-0.75, 0.75), rng.uniform(-0.8, -0.25)
        size = math.sqrt(x * x + y * y + 0.64)
        return cls(x / size, y / size, 0.8 / size, rng.uniform(0.45, 0.68))


def shade(colour: Floats, depth: Floats, alpha: Floats, material: Material, light: Light) -> Image.Image:
    """A lit RGBA picture.

    Args:
        colour: RGB (H, W, 3) in [0, 255] without any light.
        depth: (H, W) towards the camera, in pixels.
        alpha: (H, W) in [0, 1], 0 where there is nothing.
        material: gives the highlight.
        light: where it comes from.
    """
    down, right = np.gradient(depth)
    length = 1 / np.sqrt(1 + right * right + down * down)
    facing = (light.z - right * np.float32(light.x) - down * np.float32(light.y)) * length
    lit = colour * (light.ambient + (1.12 - light.ambient) * np.maximum(facing, 0))[..., None]
    if material.gloss:
        # Half-way vector between the lamp and the camera, as Blinn and Phong have it.
        size = math.sqrt(2 + 2 * light.z)
        half = ((light.z + 1) - right * np.float32(light.x) - down * np.float32(light.y)) * length / np.float32(size)
        shine = 190 * material.gloss * np.clip(half, 0, 1) ** np.float32(4 * material.tightness)
        lit = lit + shine[..., None]
    pixels = np.dstack([np.clip(lit, 0, 255), alpha * np.float32(255 * material.opacity)])
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")
