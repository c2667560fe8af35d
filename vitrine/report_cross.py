"""Tuned on one dataset, evaluated on another: paired differences to the untuned backbone on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrine.metrics import PRIMARY
from vitrine.report_data import BASELINE, Cell, baseline_of, difference
from vitrine.report_leaderboard import gap
from vitrine.report_tables import Row, Table, Value

_FULL = 0.25
"""The difference at which a field's colour is strongest."""


@dataclass(frozen=True)
class Field:
    """One field of the heat map; `row` is None where that combination was not evaluated."""

    row: Row | None
    tone: str = "none"
    strength: float = 0.0

    @property
    def sign(self) -> str:
        """The same in a symbol, for eyes that do not see the colour."""
        return {"up": "▲", "down": "▼", "even": "≈"}.get(self.tone, "")


@dataclass(frozen=True)
class Matrix:
    """One backbone tuned one way: rows are where it was tuned, columns where it was evaluated."""

    backbone: str
    strategy: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Field, ...]], ...]


def crosses(cells: Sequence[Cell]) -> Table:
    """Every tuned version wherever it was evaluated."""
    columns = ("backbone", "tuned by", "tuned on", "evaluated on", "cell", "version", PRIMARY)
    rows = (_line(cell, cells) for cell in cells if cell.tuned_strategy != BASELINE)
    return Table("cross", (*columns, "difference", "difference low", "difference high", "verdict"), rows)


def _line(cell: Cell, cells: Sequence[Cell]) -> dict[str, Value]:
    baseline = baseline_of(cell, cells)
    return {
        "backbone": cell.backbone,
        "tuned by": cell.tuned_strategy,
        "tuned on": cell.tuned_on,
        "evaluated on": cell.dataset,
        "cell": cell.key,
        "version": cell.ref,
        PRIMARY: cell.exact["metrics"].get(PRIMARY),
        **gap(difference(cell, baseline) if baseline else None, "no untuned cell"),
    }


def matrices(table: Table) -> list[Matrix]:
    """One heat map a backbone and strategy; none where no version was evaluated away from home."""
    if all(row["tuned on"] == row["evaluated on"] for row in table.rows):
        return []
    groups = sorted({(row["backbone"], row["tuned by"]) for row in table.rows})
    return [_matrix(backbone, strategy, table) for backbone, strategy in groups]


def _matrix(backbone: str, strategy: str, table: Table) -> Matrix:
    rows = table.where(**{"backbone": backbone, "tuned by": strategy})
    places = {(row["tuned on"], row["evaluated on"]): row for row in rows}
    columns = tuple(sorted({there for _, there in places}))
    lines = tuple(
        (here, tuple(_field(places.get((here, there))) for there in columns))
        for here in sorted({here for here, _ in places})
    )
    return Matrix(backbone, strategy, columns, lines)


def _field(row: Row | None) -> Field:
    value = row.value("difference") if row else None
    if row is None or value is None:
        return Field(row)
    tone = {"better": "up", "worse": "down"}.get(row["verdict"], "even")
    return Field(row, tone, round(0.12 + 0.38 * min(1.0, abs(value) / _FULL), 2) if tone != "even" else 0.0)
