"""Where demo products are photographed: studio paper, rooms, wood, cloth, stone and shop shelves."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from vitrine.datasets._looks import Colour, Floats

_WALLS: tuple[Colour, ...] = (
    (244, 243, 240), (226, 230, 234), (236, 224, 210), (212, 224, 212), (198, 204, 214), (246, 234, 232),
    (182, 172, 160), (118, 128, 140), (206, 190, 172), (90, 92, 98),
)  # fmt: skip
_WOODS: tuple[Colour, ...] = ((196, 152, 104), (150, 104, 66), (222, 194, 156), (104, 76, 56))


def backdrop(side: int, rng: random.Random) -> Floats:
    """RGB (side, side, 3) in [0, 255], unlit."""
    scene = rng.choice(_SCENES)(side, rng)
    return scene * _vignette(side, rng)


def _paper(side: int, rng: random.Random) -> Floats:
    """Plain paper; the commonest, and often simply white."""
    colour = np.array((250, 250, 248) if rng.random() < 0.4 else rng.choice(_WALLS), np.float32)
    fade = np.linspace(1.03, rng.uniform(0.8, 1.0), side, dtype=np.float32)[:, None, None]
    return np.broadcast_to(colour * fade, (side, side, 3)).copy()


def _room(side: int, rng: random.Random) -> Floats:
    """A wall above a floor or a table, with a skirting board now and then."""
    scene = _paper(side, rng)
    edge = int(side * rng.uniform(0.6, 0.8))
    floor = _wood(side, rng) if rng.random() < 0.5 else _paper(side, rng) * np.float32(rng.uniform(0.7, 0.95))
    scene[edge:] = floor[edge:]
    if rng.random() < 0.4:
        scene[edge - rng.randint(5, 12) : edge] *= np.float32(1.1)
        scene[edge : edge + 2] *= np.float32(0.6)
    return scene


def _wood(side: int, rng: random.Random) -> Floats:
    """Boards with a grain, lengthways or across."""
    boards = rng.randint(2, 5)
    place = np.linspace(0, boards, side, dtype=np.float32, endpoint=False)
    tones = np.array([rng.uniform(0.88, 1.08) for _ in range(boards + 1)], np.float32)
    grain = _noise(rng, (side // 3, 4), side) + 0.5 * _noise(rng, (side, 2), side)
    shade = tones[place.astype(np.int32)][:, None] * (0.86 + 0.18 * grain)
    shade[(place % 1) * side / boards < 1.3] *= np.float32(0.6)
    scene = np.array(rng.choice(_WOODS), np.float32) * shade[..., None]
    return scene if rng.random() < 0.6 else scene.transpose(1, 0, 2)


def _cloth(side: int, rng: random.Random) -> Floats:
    """A spread sheet with folds."""
    rows, columns = rng.choice(((4, 7), (7, 4), (3, 9)))
    folds = _noise(rng, (rows, columns), side)
    down, right = np.gradient(folds * 26)
    lit: Floats = 0.95 + 0.5 * np.subtract(right * rng.choice((-1, 1)), down)
    weave = 1 + 0.02 * np.float32((np.indices((side, side)).sum(0) % 2) * 2 - 1)
    scene: Floats = np.multiply.outer(np.clip(lit * weave, 0.55, 1.15), np.array(rng.choice(_WALLS), np.float32))
    return scene


def _stone(side: int, rng: random.Random) -> Floats:
    """A marble or concrete top."""
    cloud = _noise(rng, (6, 6), side) * 0.6 + _noise(rng, (20, 20), side) * 0.4
    veins = np.exp(-(((cloud - 0.5) * 30) ** 2)) * rng.choice((0.0, 0.3))
    tone = np.array(rng.choice(((236, 234, 232), (170, 170, 168), (120, 122, 124))), np.float32)
    return tone * (0.9 + 0.14 * cloud - 0.5 * veins)[..., None]


def _shelf(side: int, rng: random.Random) -> Floats:
    """A shop: a blurred row of other things behind, a board in front."""
    scene = _paper(side, rng) * np.float32(0.85)
    edge, left = int(side * rng.uniform(0.7, 0.82)), 0
    while left < side:
        wide, high = rng.randint(12, 40), rng.randint(20, int(side * 0.55))
        tone = np.array([rng.uniform(70, 220) for _ in range(3)], np.float32)
        scene[edge - high : edge, left : left + wide] = (
            0.45 * tone + 0.55 * scene[edge - high : edge, left : left + wide]
        )
        left += wide + rng.randint(4, 24)
    small = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).resize(
        (side // 10, side // 10), Image.Resampling.BOX
    )
    blurred = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32).copy()
    blurred[edge:] = np.array(rng.choice(_WOODS), np.float32)
    return blurred


def _vignette(side: int, rng: random.Random) -> Floats:
    """Darker corners around a bright spot."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = line[None] - rng.uniform(-0.5, 0.5), line[:, None] - rng.uniform(-0.5, 0.2)
    return np.float32(1.03) - np.float32(rng.uniform(0.02, 0.12)) * (x * x + y * y)[..., None]


def _noise(rng: random.Random, cells: tuple[int, int], side: int) -> Floats:
    """Smooth noise (side, side) in about [0, 1] from a coarse grid of dice."""
    dice = np.random.default_rng(rng.getrandbits(64)).random(cells, dtype=np.float32)
    return np.asarray(Image.fromarray(dice).resize((side, side), Image.Resampling.BICUBIC))


_SCENES: tuple[Callable[[int, random.Random], Floats], ...] = (
    _paper, _paper, _paper, _room, _room, _wood, _cloth, _stone, _shelf,
)  # fmt: skip
