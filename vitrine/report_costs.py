"""What quality costs: the stages' own figures, and two pictures of quality against effort and speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from vitrine.metrics import PRIMARY
from vitrine.report_data import Cell
from vitrine.report_leaderboard import effort, who
from vitrine.report_tables import Row, Table

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 16, 14, 34
_LABEL = 13

_COSTS = ("stage", "cell", "seconds", "images_per_s", "peak_mb", "parameters_trained", "device", "price", "currency")


@dataclass(frozen=True)
class Mark:
    """A version in a picture; lengths are in the units of its view box."""

    letter: str
    strategy: str
    x: float
    y: float
    low: float
    high: float
    label_y: float
    says: str


@dataclass(frozen=True)
class Scatter:
    """Quality upwards, a logarithmic measure of effort or speed to the right; ticks are (place, text)."""

    measure: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def stage_costs(costs: Sequence[Mapping[str, Any]]) -> Table:
    """One row a stage that was run."""
    return Table("costs", _COSTS, ({name: cost.get(name) or None for name in _COSTS} for cost in costs))


def quality_and_cost(cells: Sequence[Cell], costs: Sequence[Mapping[str, Any]]) -> Table:
    """One row a version: quality, what its tuning took, how fast it embeds, how long its vectors are."""
    names = ("dataset", "cell", "version", "strategy", "backbone", "letter", PRIMARY, "low", "high", "dim")
    rows = []
    seen: dict[str, int] = {}
    for cell in cells:
        place = seen[cell.dataset] = seen.get(cell.dataset, -1) + 1
        low, high = cell.ends(PRIMARY) or (None, None)
        value = cell.exact["metrics"].get(PRIMARY)
        facts = {"letter": _letter(place), PRIMARY: value, "low": low, "high": high, "dim": cell.dim}
        rows.append({**who(cell), **facts, **effort(cell, costs)})
    return Table("quality_cost", (*names, "tuning seconds", "price", "currency", "images_per_s"), rows)


def _letter(place: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    rest, last = divmod(place, len(ascii_uppercase))
    return (_letter(rest - 1) if rest else "") + ascii_uppercase[last]


def scatters(rows: Sequence[Row]) -> list[Scatter]:
    """Quality against tuning time and against embedding speed, where two versions or more have both figures."""
    measures = (("tuning seconds", "seconds of tuning"), ("images_per_s", "photos embedded per second"))
    found = []
    for column, words in measures:
        known = [row for row in rows if row.known(PRIMARY) and (row.value(column) or 0) > 0]
        if len(known) > 1:
            found.append(_scatter(known, column, words))
    return found


def _scatter(rows: Sequence[Row], column: str, words: str) -> Scatter:
    lows, highs = zip(*(_ends(row) for row in rows), strict=True)
    across = [math.log10(row.value(column) or 1) for row in rows]
    x_scale = _scale(min(across) - 0.15, max(across) + 0.15, _LEFT, WIDTH - _RIGHT)
    y_scale = _scale(max(0.0, min(lows) - 0.02), min(1.0, max(highs) + 0.02), HEIGHT - _BOTTOM, _TOP)
    placed: list[tuple[float, float]] = []
    marks = []
    for row, place in zip(rows, across, strict=True):
        low, high = _ends(row)
        x, y = x_scale(place), y_scale(row.value(PRIMARY) or 0.0)
        placed.append((x, _free(x, y, placed)))
        marks.append(
            Mark(row["letter"], row["strategy"], x, y, y_scale(low), y_scale(high), placed[-1][1], row["cell"])
        )
    x_range = (min(across) - 0.15, max(across) + 0.15)
    x_ticks = tuple((x_scale(math.log10(value)), f"{value:,g}") for value in _decades(*x_range))
    y_ticks = tuple((y_scale(value), f"{value:.2f}".rstrip("0")) for value in _steps(min(lows), max(highs)))
    return Scatter(words, tuple(marks), x_ticks, y_ticks)


def _ends(row: Row) -> tuple[float, float]:
    value = row.value(PRIMARY) or 0.0
    low, high = row.value("low"), row.value("high")
    return (value, value) if low is None or high is None else (low, high)


def _scale(low: float, high: float, first: float, last: float) -> Any:
    """A line from [low, high] to [first, last], to a tenth."""
    width = max(high - low, 1e-9)
    return lambda value: round(first + (value - low) / width * (last - first), 1)


def _free(x: float, y: float, placed: Sequence[tuple[float, float]]) -> float:
    """A height for the letter beside a mark that covers no earlier letter."""
    while any(abs(x - other_x) < _LABEL and abs(y - other_y) < _LABEL for other_x, other_y in placed):
        y += _LABEL
    return y


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two logarithms; the powers alone where those are many."""
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    wanted = (1, 2, 5) if high - low < 2 else (1,)
    return [step * 10.0**power for power in powers for step in wanted if low <= math.log10(step * 10.0**power) <= high]


def _steps(low: float, high: float) -> list[float]:
    """Round values between two shares, five of them or fewer."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if (high - low) / step <= 5)
    return [
        round(number * step, 2) for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
