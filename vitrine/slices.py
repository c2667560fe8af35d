"""Where one version is weak: its categories at every level of the tree, and its hardest queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.items import Item
from vitrine.stats import bootstrap_mean

Floats = NDArray[np.float64]

FEW = 10
"""Below so many queries a category's interval says little."""

_RESAMPLES = 1000


@dataclass(frozen=True)
class Slice:
    """One category's mean of a metric over its queries, with its 95 % interval.

    Attributes:
        level: 1 for the top of the category tree; 0 for the label, where items have no category.
        category: the path down to that level, joined by ` > `, or the label.
        low, high: ends of the interval; not finite for a single unit.
    """

    level: int
    category: str
    queries: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Slices:
    """The weakest categories.

    Attributes:
        worst: lowest mean first.
        categories: how many there are, over all levels.
        too_few: how many of them have under `FEW` queries and were left out.
    """

    worst: list[Slice]
    categories: int
    too_few: int


def worst_slices(values: Floats, items: Sequence[Item], units: Sequence[str], unit_kind: str, most: int = 50) -> Slices:
    """The categories with the lowest mean, over every level of the tree that has at least two of them.

    Photos of one product are resampled together; where products are unknown, a category's queries stand for themselves.

    Args:
        values: float64 (Q,), a metric; NaN where a query has nothing to find: it is left out.
        items: the Q queries.
        units: the unit of each query.
        unit_kind: `product_id` or `label`.
        most: how many are returned.
    """
    groups = _groups(items, ~np.isnan(values))
    enough = {key: rows for key, rows in groups.items() if len(rows) >= FEW}
    worst = sorted(enough, key=lambda key: (float(values[enough[key]].mean()), key))[:most]
    found = []
    for key in worst:
        rows = enough[key]
        by_query = unit_kind == "label"
        of = [items[row].item_id if by_query else units[row] for row in rows]
        interval = bootstrap_mean(values[rows], of, unit="query" if by_query else unit_kind, resamples=_RESAMPLES)
        found.append(Slice(*key, len(rows), interval.value, interval.low, interval.high))
    return Slices(found, len(groups), len(groups) - len(enough))


def _groups(items: Sequence[Item], kept: NDArray[np.bool_]) -> dict[tuple[int, str], list[int]]:
    """Rows by level and category; levels with a single category say nothing and are left out."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row in np.flatnonzero(kept).tolist():
        path = items[row].category
        for level in range(1, len(path) + 1):
            groups[level, " > ".join(path[:level])].append(row)
        if not path:
            groups[0, items[row].label].append(row)
    levels = Counter(level for level, _ in groups)
    return {key: rows for key, rows in groups.items() if levels[key[0]] > 1}


@dataclass(frozen=True)
class HardQuery:
    """One of the worst answered queries.

    Attributes:
        value: the primary metric.
        first_relevant: rank of the first relevant answer.
        nearest: what was found first instead, an item id; "" for an empty list.
    """

    query_id: str
    label: str
    value: float
    first_relevant: int
    nearest: str
    nearest_label: str


def hardest_queries(
    values: Floats,
    reciprocal_ranks: Floats,
    queries: Sequence[Item],
    gallery: Sequence[Item],
    nearest: NDArray[np.int64],
    most: int = 20,
) -> list[HardQuery]:
    """The queries with the lowest metric; of equals, those whose first relevant answer stands deepest, then by id.

    Args:
        values: float64 (Q,), the primary metric; NaN where a query has nothing to find: it is left out.
        reciprocal_ranks: float64 (Q,), 1 / rank of the first relevant answer.
        queries: Q items.
        gallery: N items.
        nearest: int64 (Q,), the gallery row that was found first, -1 for none.
        most: how many are returned.
    """
    known = np.flatnonzero(~np.isnan(values)).tolist()
    order = sorted(known, key=lambda row: (values[row], reciprocal_ranks[row], queries[row].item_id))
    found = []
    for row in order[:most]:
        first = gallery[int(nearest[row])] if nearest[row] >= 0 else None
        found.append(
            HardQuery(
                query_id=queries[row].item_id,
                label=queries[row].label,
                value=float(values[row]),
                first_relevant=round(1 / float(reciprocal_ranks[row])),
                nearest=first.item_id if first else "",
                nearest_label=first.label if first else "",
            )
        )
    return found
