"""Outlines of the demo catalogue's garments, and the table of everything that is drawn flat.

Each drawer takes a pen in unit coordinates (x to the right, y down, both in [0, 1]), the product's form
(six parameters in [0, 1]) and whether its back is seen.
"""

from __future__ import annotations

from collections.abc import Callable

from vitrine.datasets import _accessories
from vitrine.datasets._pen import BODY, DARK, PALE, SEAM, TRIM, Form, Pen, Point, curve


def _neck(pen: Pen, deep: bool, back: bool, wide: float) -> None:
    """A round or pointed neckline; from behind it is shallow."""
    if deep and not back:
        pen.shape(TRIM, [(0.5 - wide - 0.02, 0.17), (0.5 + wide + 0.02, 0.17), (0.5, 0.36)])
        pen.shape(DARK, [(0.5 - wide, 0.17), (0.5 + wide, 0.17), (0.5, 0.325)])
        return
    drop = 0.03 if back else 0.075
    pen.oval(TRIM, 0.5, 0.185, wide + 0.025, drop + 0.022)
    pen.oval(DARK, 0.5, 0.18, wide, drop)


def _t_shirt(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    half, hem, sleeve = 0.17 + 0.05 * b, 0.74 + 0.12 * c, 0.1 + 0.14 * a
    shoulder = 0.5 + half
    outer, inner = (shoulder + 0.13, 0.24 + sleeve), (shoulder + 0.02, 0.3 + sleeve)
    pen.even(BODY, [(0.58, 0.17), (shoulder - 0.01, 0.205), outer, inner, (shoulder, 0.4), (shoulder + 0.02 * d, hem)])
    pen.pair(TRIM if d > 0.4 else SEAM, [outer, inner], 0.024)
    pen.line(SEAM, [(0.5 - half, hem - 0.025), (0.5 + half, hem - 0.025)], 0.005)
    _neck(pen, c > 0.55, back, 0.085)


def _jumper(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    half, hem, cuff = 0.18 + 0.05 * b, 0.74 + 0.08 * c, 0.66 + 0.1 * a
    shoulder = 0.5 + half
    arm = [
        (0.59, 0.17),
        (shoulder, 0.215),
        (shoulder + 0.09, 0.42),
        (shoulder + 0.13, cuff),
        (shoulder + 0.045, cuff + 0.015),
    ]
    pen.even(BODY, [*arm, (shoulder - 0.005, 0.42), (shoulder + 0.01, hem)])
    pen.pair(TRIM, [(shoulder + 0.135, cuff), (shoulder + 0.04, cuff + 0.012)], 0.05)
    pen.box(TRIM, 0.5 - half - 0.005, hem - 0.03, 0.5 + half + 0.005, hem + 0.03, 0.01)
    pen.pair(SEAM, [(shoulder - 0.015, 0.23), (shoulder - 0.01, 0.42)], 0.006)
    if d > 0.6:
        pen.box(TRIM, 0.42, 0.1, 0.58, 0.21, 0.03)
    else:
        _neck(pen, d > 0.35, back, 0.08)


def _jacket(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    half, hem, cuff = 0.19 + 0.05 * b, 0.7 + 0.16 * c, 0.66 + 0.08 * a
    shoulder = 0.5 + half
    arm = [
        (0.57, 0.15),
        (shoulder, 0.2),
        (shoulder + 0.09, 0.44),
        (shoulder + 0.11, cuff),
        (shoulder + 0.025, cuff + 0.01),
    ]
    pen.even(BODY, [*arm, (shoulder - 0.01, 0.42), (shoulder + 0.01, hem)])
    pen.pair(SEAM, [(shoulder - 0.02, 0.22), (shoulder - 0.012, 0.44)], 0.008)
    if back:
        pen.line(SEAM, [(0.5, 0.2), (0.5, hem)], 0.006)
        pen.oval(TRIM, 0.5, 0.165, 0.085, 0.035)
        return
    if a > 0.5:
        pen.even(TRIM, [(0.56, 0.13), (0.62, 0.2), (0.575, 0.36), (0.505, 0.42)])
        pen.shape(DARK, [(0.445, 0.15), (0.555, 0.15), (0.5, 0.36)])
    else:
        pen.box(TRIM, 0.41, 0.12, 0.59, 0.21, 0.02)
    pen.line(DARK, [(0.5, 0.36 if a > 0.5 else 0.2), (0.5, hem)], 0.01)
    for button in range(2 + int(4 * d)):
        pen.oval(PALE, 0.525, 0.44 + button * 0.07, 0.011, 0.011)
    pen.pair(TRIM if c > 0.4 else SEAM, [(0.58, hem - 0.16), (0.5 + half * 0.85, hem - 0.16)], 0.022)


def _dress(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    waist, flare, hem = 0.1 + 0.04 * b, 0.15 + 0.19 * a, 0.7 + 0.2 * c
    middle, bust = 0.4 + 0.07 * b, 0.15 + 0.02 * b
    if d > 0.5:
        pen.pair(BODY, [(0.5 + bust * 0.7, 0.26), (0.575, 0.1)], 0.03 + 0.02 * d)
        top: list[Point] = [(0.5 + bust * 0.5, 0.25 if back else 0.27), (0.5 + bust, 0.22)]
    else:
        top = [
            (0.57, 0.12),
            (0.5 + bust + 0.03, 0.15),
            (0.5 + bust + 0.1, 0.25 + 0.3 * d),
            (0.5 + bust + 0.01, 0.29 + 0.25 * d),
        ]
    side = curve(
        [
            (0.5 + bust, 0.32),
            (0.5 + waist, middle),
            (0.5 + (waist + flare) * 0.62, (middle + hem) / 2),
            (0.5 + flare, hem),
        ]
    )
    pen.even(BODY, [*top, *side])
    if d <= 0.5:
        _neck(pen, c > 0.5, back, 0.065)
    pen.box(TRIM, 0.5 - waist - 0.004, middle - 0.02, 0.5 + waist + 0.004, middle + 0.015, 0.005)
    for fold in (0.25, 0.55, 0.8):
        pen.pair(SEAM, [(0.5 + waist * fold, middle + 0.02), (0.5 + flare * fold, hem - 0.01)], 0.005)
    if a > 0.5:
        pen.line(TRIM, [(0.5 - flare, hem), (0.5 + flare, hem)], 0.022)


def _skirt(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    waist, flare, hem = 0.14 + 0.04 * b, 0.2 + 0.2 * a, 0.58 + 0.26 * c
    pen.even(BODY, curve([(0.5 + waist, 0.24), (0.5 + (waist + flare) * 0.56, 0.36), (0.5 + flare, hem)]))
    folds = 3 + int(5 * d)
    for fold in range(1, folds):
        share = fold / folds
        pen.pair(SEAM, [(0.5 + waist * share, 0.26), (0.5 + flare * share, hem)], 0.006)
    pen.box(TRIM, 0.5 - waist - 0.005, 0.2, 0.5 + waist + 0.005, 0.255, 0.008)
    if b > 0.5:
        pen.line(TRIM, [(0.5 - flare, hem), (0.5 + flare, hem)], 0.025)
    if back:
        pen.line(DARK, [(0.5, 0.2), (0.5, 0.38)], 0.008)


def _trousers(pen: Pen, form: Form, back: bool) -> None:
    a, b, c, d, *_ = form
    half, hem, leg = 0.15 + 0.035 * b, 0.58 + 0.32 * c, 0.06 + 0.07 * a
    knee = 0.5 + half * 0.66 + 0.02 * a
    inner = max(0.518, knee - leg)  # wide legs must not grow together
    outer: list[Point] = [(0.5 + half, 0.12), (0.5 + half + 0.025, 0.3), (knee + leg, hem)]
    pen.even(BODY, [*outer, (inner, hem), (0.503, 0.36)])
    pen.pair(SEAM, [(0.5 + half * 0.7, 0.4), ((inner + knee + leg) / 2, hem)], 0.005)
    pen.box(TRIM, 0.5 - half, 0.1, 0.5 + half, 0.15)
    if back:
        pen.box(SEAM, 0.5 + half * 0.3, 0.22, 0.5 + half * 0.85, 0.3, 0.01)
        pen.box(SEAM, 0.5 - half * 0.85, 0.22, 0.5 - half * 0.3, 0.3, 0.01)
    else:
        pen.line(DARK, [(0.5, 0.15), (0.5, 0.36)], 0.007)
        pen.pair(DARK, [(0.5 + half * 0.55, 0.16), (0.5 + half + 0.005, 0.25)], 0.008)
        pen.oval(PALE, 0.5, 0.125, 0.013, 0.013)
    if d > 0.5:
        pen.pair(TRIM, [(inner, hem), (knee + leg, hem)], 0.03)


SHAPES: dict[str, Callable[[Pen, Form, bool], None]] = {
    "cushion": _accessories.cushion,
    "t-shirt": _t_shirt,
    "jumper": _jumper,
    "jacket": _jacket,
    "dress": _dress,
    "skirt": _skirt,
    "trousers": _trousers,
    "trainers": _accessories.trainers,
    "boots": _accessories.boots,
    "handbag": _accessories.handbag,
    "backpack": _accessories.backpack,
    "cap": _accessories.cap,
    "sunglasses": _accessories.sunglasses,
}
