"""Where the best version of a dataset wins and loses: its categories against the version it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from vitrine.metrics import PRIMARY
from vitrine.report_data import Cell, Pair, pairs, rival_of
from vitrine.report_leaderboard import gap
from vitrine.report_tables import Row, Table, Value
from vitrine.stats import paired_bootstrap

FEW = 10
"""Below so many queries a category's interval says little, and the page says so."""

_ENDS = 5


def slices(cells: Sequence[Cell]) -> Table:
    """Each category of each dataset: the best version, its rival and their paired difference, worst first.

    Photos of one product are resampled together; where products are unknown a category's queries stand for themselves.
    """
    columns = ("dataset", "category", "queries", "version", PRIMARY, "rival", "rival value")
    rows = (row for _, group in groupby(cells, key=lambda cell: cell.dataset) for row in _of_dataset(list(group)))
    return Table("slices", (*columns, "difference", "difference low", "difference high", "verdict"), rows)


def ends(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The categories with the largest losses and with the largest gains; all of them where they are few."""
    if len(rows) <= 2 * _ENDS:
        return [("All categories, largest loss first", list(rows))] if rows else []
    return [("Least gained", list(rows[:_ENDS])), ("Most gained", list(rows[: -_ENDS - 1 : -1]))]


def _of_dataset(cells: Sequence[Cell]) -> list[dict[str, Value]]:
    best = cells[0]
    rival = rival_of(best, cells)
    if rival is None:
        return []
    found = sorted(pairs(best, rival), key=lambda pair: pair.label)
    rows = [
        {"dataset": best.dataset, "category": label, "version": best.ref, "rival": rival.ref, **_slice(list(group))}
        for label, group in groupby(found, key=lambda pair: pair.label)
    ]
    return sorted(rows, key=lambda row: (row["difference"], row["category"]))


def _slice(found: Sequence[Pair]) -> dict[str, Value]:
    ours = np.array([pair.ours for pair in found])
    theirs = np.array([pair.theirs for pair in found])
    by_query = found[0].unit_kind == "label"
    units = [pair.query_id if by_query else pair.unit for pair in found]
    interval = paired_bootstrap(ours, theirs, units, unit="query" if by_query else found[0].unit_kind)
    return {
        "queries": len(found),
        PRIMARY: float(ours.mean()),
        "rival value": float(theirs.mean()),
        **gap(interval, "few queries"),
        **({"verdict": "few queries"} if len(found) < FEW else {}),
    }
