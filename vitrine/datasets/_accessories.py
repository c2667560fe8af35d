"""Outlines of shoes, bags, hats, glasses and cushions; called as the garments of `_shapes` are."""

from __future__ import annotations

import math

from vitrine.datasets._pen import BODY, DARK, PALE, SEAM, TRIM, Form, Pen, Point, curve


def trainers(pen: Pen, form: Form, back: bool) -> None:
    """A sports shoe from its side."""
    a, b, c, d, *_ = form
    sole, collar, toe = 0.05 + 0.05 * a, 0.37 - 0.1 * b, 0.86
    upper: list[Point] = [
        (0.15, 0.66),
        (0.16, collar + 0.03),
        (0.2, collar),
        (0.38, collar + 0.02),
        (0.52, 0.5),
        (0.7, 0.56),
        (toe - 0.03, 0.62),
        (toe, 0.7),
    ]
    pen.shape(BODY, [*curve(upper), (toe - 0.01, 0.73), (0.15, 0.73)])
    pen.shape(TRIM, curve([(0.68, 0.72), (0.7, 0.6), (0.8, 0.6), (toe, 0.7), (toe - 0.01, 0.73)]))
    pen.shape(TRIM, curve([(0.15, 0.72), (0.155, 0.5), (0.24, 0.54), (0.27, 0.72)]))
    pen.shape(
        DARK, curve([(0.2, collar + 0.005), (0.29, collar + 0.035), (0.37, collar + 0.02), (0.28, collar - 0.015)])
    )
    for lace in range(3 + int(2 * c)):
        x = 0.42 + 0.055 * lace
        y = 0.42 + 0.035 * lace + 0.02 * (collar - 0.3)
        pen.line(PALE, [(x - 0.035, y + 0.055), (x + 0.02, y)], 0.016)
    if back or d > 0.5:
        pen.line(TRIM, curve([(0.32, 0.68), (0.44, 0.66), (0.6, 0.58)]), 0.03)
    else:
        for stripe in range(3):
            pen.line(TRIM, [(0.36 + 0.06 * stripe, 0.7), (0.42 + 0.06 * stripe, 0.56)], 0.022)
    pen.box(PALE, 0.13, 0.72, toe + 0.015, 0.72 + sole, 0.025)
    pen.box(TRIM if c > 0.5 else SEAM, 0.13, 0.72 + sole * 0.7, toe + 0.01, 0.72 + sole, 0.015)


def boots(pen: Pen, form: Form, back: bool) -> None:
    """A boot from its side."""
    a, b, c, d, *_ = form
    top, wide, heel = 0.42 - 0.3 * a, 0.11 + 0.05 * b, 0.03 + 0.09 * c
    left, floor = 0.3, 0.84 - 0.04
    shaft: list[Point] = [
        (left - 0.01 + 2 * wide, top),
        (left + 1.9 * wide, 0.52),
        (0.62, 0.62),
        (0.76, 0.68),
        (0.79, floor - heel * 0.4),
    ]
    pen.shape(
        BODY,
        [(left - 0.01, top), *curve(shaft), (0.52, floor - heel * 0.6), (left, floor - heel), (left + 0.005, 0.6)],
    )
    pen.shape(DARK, [(left, floor - heel), (0.42, floor - heel), (0.4, floor + 0.03), (left + 0.01, floor + 0.03)])
    pen.line(DARK, [(0.4, floor - heel * 0.7), (0.55, floor - 0.01), (0.79, floor)], 0.035)
    pen.box(TRIM, left - 0.015, top - 0.01, left + 2 * wide, top + 0.04 + 0.03 * d, 0.01)
    if d > 0.5:
        for lace in range(3 + int(4 * a)):
            y = 0.56 - 0.06 * lace
            if y > top + 0.06:
                pen.line(PALE, [(left + 1.35 * wide, y + 0.02), (left + 1.85 * wide, y - 0.01)], 0.014)
    else:
        pen.line(TRIM, [(left, 0.62), (left + 1.95 * wide, 0.6)], 0.032)
        pen.box(PALE, left + wide * 0.7, 0.585, left + wide * 1.1, 0.64, 0.006)
    if back:
        pen.line(SEAM, [(left + 0.5 * wide, top + 0.05), (left + 0.5 * wide, 0.74)], 0.007)


def handbag(pen: Pen, form: Form, back: bool) -> None:
    """A bag with one round handle."""
    a, b, c, d, *_ = form
    upper, lower, top = 0.19 + 0.11 * a, 0.22 + 0.15 * b, 0.48 - 0.1 * c
    pen.ring(TRIM, 0.5, top + 0.02, 0.1 + 0.09 * a, 0.15 + 0.16 * d, 0.028)
    pen.even(
        BODY,
        curve(
            [
                (0.5 + upper, top),
                (0.5 + (upper + lower) / 2 + 0.01, (top + 0.8) / 2),
                (0.5 + lower, 0.77),
                (0.5 + lower - 0.04, 0.81),
            ]
        ),
    )
    if back:
        pen.box(SEAM, 0.5 - upper * 0.6, top + 0.12, 0.5 + upper * 0.6, top + 0.27, 0.015)
    elif b > 0.5:
        pen.even(TRIM, curve([(0.5 + upper, top), (0.5 + upper * 0.85, top + 0.13), (0.56, top + 0.19)]))
        pen.oval(PALE, 0.5, top + 0.16, 0.024, 0.024)
    elif c > 0.5:
        pen.box(TRIM, 0.5 - lower * 0.55, 0.57, 0.5 + lower * 0.55, 0.74, 0.02)
    else:
        pen.line(TRIM, [(0.5 - upper, top + 0.02), (0.5 + upper, top + 0.02)], 0.05)
        pen.pair(PALE, [(0.5 + 0.1 + 0.07 * a, top + 0.01), (0.5 + 0.1 + 0.07 * a, top + 0.05)], 0.02)


def backpack(pen: Pen, form: Form, back: bool) -> None:
    """A pack with straps; from behind they cross it."""
    a, b, c, d, *_ = form
    half, top, bottom = 0.19 + 0.06 * a, 0.26 - 0.06 * b, 0.84
    pen.ring(TRIM, 0.5, top, 0.055, 0.07, 0.02)
    pen.pair(TRIM, curve([(0.5 + half * 0.7, top + 0.06), (0.5 + half + 0.06, 0.46), (0.5 + half * 0.9, 0.74)]), 0.045)
    pen.box(BODY, 0.5 - half, top, 0.5 + half, bottom, 0.05 + 0.1 * c)
    if back:
        pen.pair(
            TRIM, curve([(0.5 + half * 0.35, top + 0.05), (0.5 + half * 0.6, 0.5), (0.5 + half * 0.75, 0.78)]), 0.07
        )
        return
    pen.box(TRIM if d > 0.5 else SEAM, 0.5 - half * 0.78, 0.54, 0.5 + half * 0.78, bottom - 0.03, 0.04)
    pen.line(DARK, [(0.5 - half * 0.7, 0.6), (0.5 + half * 0.7, 0.6)], 0.01)
    pen.line(DARK, curve([(0.5 - half * 0.9, 0.46), (0.5, top + 0.08 + 0.1 * c), (0.5 + half * 0.9, 0.46)]), 0.01)
    if b > 0.5:
        pen.pair(PALE, [(0.5 + half * 0.4, 0.4), (0.5 + half * 0.4, 0.62)], 0.025)


def cap(pen: Pen, form: Form, back: bool) -> None:
    """A dome with a peak; from behind with its opening."""
    a, b, c, d, *_ = form
    half, high, edge = 0.24 + 0.05 * a, 0.25 + 0.11 * b, 0.6
    steps = [i / 24 for i in range(25)]
    dome = [(0.43 + half * math.sin(t * math.pi / 2), edge - high * math.cos(t * math.pi / 2)) for t in steps]
    pen.shape(BODY, dome + [(0.86 - x, y) for x, y in reversed(dome)])
    reach = 0.14 + 0.11 * c
    brim: list[Point] = [
        (0.43 + half * 0.2, edge - 0.03),
        (0.43 + half, edge - 0.055),
        (0.43 + half + reach, edge + 0.04),
        (0.43 + half * 0.9, edge + 0.035),
        (0.43 + half * 0.2, edge + 0.01),
    ]
    pen.shape(TRIM, curve(brim))
    pen.oval(TRIM, 0.43, edge - high, 0.024, 0.016)
    for side in (-0.35, 0.3):
        pen.line(
            SEAM,
            curve(
                [(0.43, edge - high), (0.43 + half * side, edge - high * 0.7), (0.43 + half * side * 1.5, edge - 0.01)]
            ),
            0.006,
        )
    if d > 0.5 and not back:
        pen.box(PALE, 0.5, edge - high * 0.62, 0.59, edge - high * 0.3, 0.02)
    if back:
        pen.oval(DARK, 0.3, edge - 0.03, 0.05, 0.05)


def sunglasses(pen: Pen, form: Form, back: bool) -> None:
    """Round or square glasses; from behind the arms turn up."""
    a, b, c, d, *_ = form
    rx, ry, apart = 0.13 + 0.04 * a, 0.09 + 0.07 * b, 0.18 + 0.02 * a
    y, frame = 0.5, 0.018 + 0.022 * c
    pen.pair(
        BODY,
        [
            (0.5 + apart + rx - 0.02, y - ry * 0.45),
            (0.5 + apart + rx + 0.05, y - ry * 0.4),
            (0.5 + apart + rx + 0.075, y - ry * 0.4 - (0.16 if back else -0.13)),
        ],
        0.026,
    )
    pen.line(BODY, curve([(0.42, y - 0.02), (0.5, y - 0.045), (0.58, y - 0.02)]), 0.02 + 0.012 * c)
    for x in (0.5 - apart, 0.5 + apart):
        if d > 0.5:
            pen.oval(BODY, x, y, rx + frame, ry + frame)
            pen.oval(DARK, x, y, rx, ry)
        else:
            pen.box(BODY, x - rx - frame, y - ry - frame, x + rx + frame, y + ry + frame, 0.03 + 0.05 * b)
            pen.box(DARK, x - rx, y - ry, x + rx, y + ry, 0.02 + 0.05 * b)
        pen.line(TRIM, [(x - rx * 0.5, y - ry * 0.1), (x - rx * 0.1, y - ry * 0.55)], 0.014)


def cushion(pen: Pen, form: Form, back: bool) -> None:
    """A superellipse with piping or tassels."""
    a, b, c, d, *_ = form
    wide, high, power = 0.25 + 0.1 * a, 0.22 + 0.12 * b, 3.0 + 3 * c
    angles = [2 * math.pi * i / 96 for i in range(96)]

    def outline(grow: float) -> list[Point]:
        def along(value: float, size: float) -> float:
            return math.copysign(abs(value) ** (2 / power), value) * (size + grow)

        return [(0.5 + along(math.cos(w), wide), 0.5 + along(math.sin(w), high)) for w in angles]

    pen.shape(TRIM, outline(0.022 if d > 0.3 else 0.006))
    pen.shape(BODY, outline(0.0))
    if d > 0.75:
        for corner in (outline(0.03)[place] for place in (12, 36, 60, 84)):
            pen.oval(TRIM, *corner, 0.035, 0.035)
    if back:
        pen.line(SEAM, [(0.5 - wide * 0.8, 0.5 + high * 0.5), (0.5 + wide * 0.8, 0.5 + high * 0.5)], 0.008)
    elif a > 0.6:
        pen.oval(TRIM, 0.5, 0.5, 0.022, 0.022)
