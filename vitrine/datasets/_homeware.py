"""The demo catalogue's homeware, kind by kind: each drawer builds a product from turned parts and tubes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrine.datasets._light import Light
from vitrine.datasets._looks import Look
from vitrine.datasets._turned import Easel, Point3

FLOOR = 0.82
_N = 41


def _curve(shape: Callable[[float], float]) -> list[float]:
    return [shape(step / (_N - 1)) for step in range(_N)]


def _mix(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _loop(easel: Easel, radius: float, top: float, bottom: float, reach: float, angle: float) -> list[Point3]:
    """A handle's half ring that stands off the side."""
    points = []
    for step in range(15):
        t = math.pi * step / 14
        points.append(easel.around(radius + reach * math.sin(t), angle, _mix(top, bottom, (1 - math.cos(t)) / 2)))
    return points


@dataclass(frozen=True)
class _Rod:
    """A handle or spout that stands off at an angle."""

    angle: float
    path: list[Point3]
    width: float
    trim: bool = True


def _rods(easel: Easel, rods: Sequence[_Rod], *, behind: bool) -> None:
    """Draw those on the far side of the product, or those on the near side."""
    for rod in rods:
        if (easel.around(1, rod.angle, 0)[2] < 0) == behind:
            easel.tube(rod.path, rod.width, trim=rod.trim)


def _mug(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, high = _mix(0.14, 0.23, a), _mix(0.28, 0.46, b)
    bend = (c - 0.5) * 0.22
    top = FLOOR - high
    radii = _curve(lambda t: wide * (1 - bend * t + 0.18 * (c > 0.7) * math.sin(math.pi * t) - 0.25 * max(0, t - 0.93)))
    handle = _loop(easel, wide * 0.93, top + high * 0.16, top + high * _mix(0.6, 0.86, d), _mix(0.08, 0.14, d), 0)
    rods = [_Rod(0, handle, _mix(0.028, 0.045, b))]
    _rods(easel, rods, behind=True)
    easel.part(top, radii, high)
    easel.opening(top, radii[0], 0.014, 0.12, trim=d > 0.5)
    _rods(easel, rods, behind=False)


def _bowl(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, high, foot = _mix(0.26, 0.39, a), _mix(0.13, 0.28, b), _mix(0.09, 0.16, c)
    top, power = FLOOR - high, _mix(1.6, 3.4, d)
    easel.part(FLOOR - 0.035, [foot, foot * 1.1], 0.035, trim=True)
    radii = _curve(lambda t: max(foot, wide * max(0.0, 1 - t**power) ** (1 / power)))
    easel.part(top, radii, high - 0.02)
    easel.opening(top, wide, _mix(0.012, 0.03, c), 0.3, trim=c > 0.5)


def _plate(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, inner = _mix(0.3, 0.43, a), _mix(0.5, 0.78, b)
    easel.part(0.5, _curve(lambda t: wide * (1 - 0.35 * t)), _mix(0.02, 0.05, c))
    easel.disc(0.5, wide, trim=d > 0.4)
    easel.disc(0.503, wide * 0.95, painted=True)
    easel.disc(0.508, wide * inner, hollow=0.05, painted=easel.look.pattern in ("printed", "dotted", "floral"))
    if c > 0.6:
        easel.disc(0.512, wide * inner * 0.4, trim=True)


def _teapot(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, high = _mix(0.2, 0.27, a), _mix(0.28, 0.4, b)
    top, power = FLOOR - high, _mix(2.0, 3.6, c)
    reach = _mix(0.11, 0.17, d)
    spout = [
        easel.around(wide * 0.8, 180, top + high * 0.66),
        easel.around(wide * 1.15, 180, top + high * 0.5),
        easel.around(wide * 1.3, 180, top + high * 0.22),
        easel.around(wide * 1.3 + 0.05, 180, top + high * 0.02),
    ]
    handle = _loop(easel, wide * 0.86, top + high * 0.12, top + high * 0.8, reach, 0)
    rods = [_Rod(180, spout, 0.06, trim=False), _Rod(0, handle, 0.036)]
    _rods(easel, rods, behind=True)
    easel.part(top, _curve(lambda t: wide * max(0.5, max(0.0, 1 - abs(2 * t - 1.05) ** power) ** (1 / power))), high)
    lid = wide * _mix(0.42, 0.6, b)
    easel.part(top - 0.045, _curve(lambda t: lid * math.sqrt(max(0.02, t))), 0.06, trim=True)
    easel.part(top - 0.09, _curve(lambda t: 0.028 * math.sin(math.pi * (0.15 + 0.7 * t))), 0.05, trim=True)
    _rods(easel, rods, behind=False)


def _pan(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, high = _mix(0.18, 0.24, a), _mix(0.05, 0.17, b)
    top = 0.62 - high
    grip = [easel.around(wide * 0.95, 0, top + 0.02), easel.around(wide + _mix(0.16, 0.24, c), 0, top - 0.03)]
    other = _loop(easel, wide * 0.9, top + 0.02, top + 0.03, 0.08, 180)
    rods = [_Rod(0, grip, 0.045)] + ([_Rod(180, other, 0.03)] if d > 0.5 else [])
    _rods(easel, rods, behind=True)
    easel.part(top, _curve(lambda t: wide * (1 - 0.12 * t - 0.2 * max(0, t - 0.9))), high)
    easel.opening(top, wide, 0.012, 0.12, trim=False)
    _rods(easel, rods, behind=False)


def _vase(easel: Easel) -> None:
    a, b, c, d, e, _ = easel.look.form
    neck, belly, peak = _mix(0.04, 0.11, a), _mix(0.12, 0.25, b), _mix(0.35, 0.8, c)
    high = _mix(0.5, 0.66, d)
    top = FLOOR - high
    radii = _curve(
        lambda t: neck + (belly - neck) * math.exp(-(((t - peak) / 0.27) ** 2)) + 0.05 * e * max(0, 1 - 8 * t)
    )
    easel.part(top, radii, high)
    easel.opening(top, radii[0], 0.012, 0.1, trim=e > 0.5)


def _planter(easel: Easel) -> None:
    a, b, c, d, *_ = easel.look.form
    wide, high = _mix(0.14, 0.22, a), _mix(0.18, 0.32, b)
    top = FLOOR - high
    easel.part(top, _curve(lambda t: wide * (1 - _mix(0.0, 0.38, c) * t)), high)
    easel.part(top - 0.01, [wide * 1.06, wide * 1.06], 0.05, trim=d > 0.5)
    easel.opening(top - 0.01, wide * 1.06, 0.016, 0.08, trim=d > 0.5)
    rng = random.Random(easel.look.grain)
    green = np.array((60 + 50 * d, 120 + 40 * a, 60), np.float32)
    for _ in range(8 + int(10 * d)):
        angle, rise, spread = rng.uniform(0, 360), rng.uniform(0.14, 0.34), rng.uniform(0.03, 0.2)
        foot = easel.around(wide * 0.3, angle, top + 0.01)
        tip = easel.around(spread, angle, top - rise + (0.1 * spread if c > 0.5 else 0))
        bend = easel.around(spread * 0.6, angle, top - rise * 0.7)
        easel.tube([foot, bend, tip], _mix(0.012, 0.05, b), colour=green * np.float32(rng.uniform(0.75, 1.2)))


def _candlestick(easel: Easel) -> None:
    a, b, c, d, e, _ = easel.look.form
    base, high = _mix(0.1, 0.17, a), _mix(0.24, 0.42, b)
    stem = _mix(0.022, 0.045, c)
    top = FLOOR - high
    beads = 1 + int(3 * d)
    easel.part(FLOOR - 0.05, _curve(lambda t: base * (0.4 + 0.6 * math.sqrt(t))), 0.05)
    easel.part(
        top, _curve(lambda t: stem * (1 + 0.9 * abs(math.sin(math.pi * beads * t)) * (0.3 + e))), high - 0.05, trim=e > 0.7
    )  # fmt: skip
    cup = stem * 2.1
    easel.part(top - 0.03, _curve(lambda t: cup * (1 - 0.4 * t)), 0.05)
    easel.disc(top - 0.03, cup)
    wax = np.array((244, 238, 222), np.float32)
    candle = _mix(0.12, 0.26, c)
    easel.tube([(0, top - 0.03, 0), (0, top - 0.03 - candle, 0)], _mix(0.04, 0.06, a), colour=wax)
    easel.tube([(0, top - 0.05 - candle, 0), (0, top - 0.075 - candle, 0)], 0.008, colour=wax * 0.3)


def _lamp(easel: Easel) -> None:
    a, b, c, d, e, _ = easel.look.form
    upper, lower, shade = _mix(0.07, 0.17, a), _mix(0.19, 0.29, b), _mix(0.24, 0.34, c)
    top = 0.1
    edge = top + shade
    easel.part(FLOOR - 0.03, [0.13 + 0.05 * b, 0.14 + 0.05 * b], 0.03, trim=True)
    easel.disc(FLOOR - 0.03, 0.13 + 0.05 * b, trim=True)
    body = _mix(0.02, 0.12, e)
    easel.part(
        edge - 0.05, _curve(lambda t: 0.02 + body * math.sin(math.pi * min(1, t)) ** (1 + 2 * d)), FLOOR - 0.03 - edge + 0.05,
        trim=True,
    )  # fmt: skip
    bow = 0.1 * (d - 0.5)
    easel.part(top, _curve(lambda t: _mix(upper, lower, t) - bow * math.sin(math.pi * t)), shade)
    easel.opening(top, upper, 0.008, 0.1, trim=False)


def _stool(easel: Easel) -> None:
    a, b, c, d, e, _ = easel.look.form
    wide, top, thick = _mix(0.2, 0.29, a), _mix(0.24, 0.46, b), _mix(0.03, 0.11, c)
    legs, splay = (3 if d < 0.4 else 4), _mix(1.0, 1.35, e)
    angles = [45 + 360 * leg / legs for leg in range(legs)]
    for angle in sorted(angles, key=lambda value: easel.around(1, value, 0)[2]):
        foot = easel.around(wide * 0.78 * splay, angle, FLOOR)
        easel.tube([easel.around(wide * 0.7, angle, top + thick), foot], _mix(0.022, 0.042, d))
    if e > 0.4:
        ring = [easel.around(wide * 0.76 * (1 + splay) / 2, 10 * step, (top + FLOOR) / 2) for step in range(37)]
        easel.tube(ring, 0.018)
    easel.part(top, _curve(lambda t: wide * (1 - 0.06 * abs(2 * t - 1) ** 3)), thick)
    easel.disc(top, wide * 0.985, painted=True)


def _carafe(easel: Easel) -> None:
    a, b, c, d, e, _ = easel.look.form
    neck, belly, high = _mix(0.035, 0.06, a), _mix(0.11, 0.17, b), _mix(0.52, 0.66, c)
    top, shoulder = FLOOR - high, _mix(0.24, 0.46, d)
    radii = _curve(lambda t: neck + (belly - neck) / (1 + math.exp(-(t - shoulder) * _mix(14, 34, e))))
    easel.part(top, radii, high)
    easel.disc(top, neck, trim=True)
    easel.part(top - 0.07, [neck * 0.9, neck * 0.9], 0.08, trim=True)
    easel.disc(top - 0.07, neck * 0.9, trim=True)


HOMEWARE: dict[str, tuple[Callable[[Easel], None], tuple[float, float]]] = {
    "mug": (_mug, (8, 34)),
    "bowl": (_bowl, (14, 42)),
    "plate": (_plate, (30, 72)),
    "teapot": (_teapot, (8, 30)),
    "pan": (_pan, (22, 52)),
    "vase": (_vase, (4, 26)),
    "planter": (_planter, (6, 30)),
    "candlestick": (_candlestick, (6, 26)),
    "lamp": (_lamp, (3, 20)),
    "stool": (_stool, (14, 34)),
    "carafe": (_carafe, (4, 26)),
}
"""Kind -> how it is drawn, and between which camera heights (degrees) it is photographed."""


def homeware(look: Look, light: Light, rng: random.Random) -> Image.Image:
    """One view of a product, RGBA, from a drawn side and height."""
    draw, (low, high) = HOMEWARE[look.kind]
    easel = Easel(look, light, yaw=rng.choice((-1, 1)) * rng.uniform(0, 75) + rng.choice((0, 0, 180)),
                  pitch=rng.uniform(low, high))  # fmt: skip
    draw(easel)
    return easel.canvas
