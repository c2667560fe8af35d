"""What the lists of nearest neighbours say about a space: hubs, items that are never found, near-copies.

Read off the ten nearest that an exact ranking has found already, so it costs no search of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.ranking import TOP

NEAR_COPY = 0.999
"""Cosine from which on two items count as near-copies: their distance is below 0.045."""

_SHOWN = 20


@dataclass(frozen=True)
class Hubness:
    """How unevenly the gallery is found (Radovanović et al. 2010), by the number of queries whose ten nearest an item is in.

    Attributes:
        k: depth of the lists.
        skewness: third standardised moment of those numbers; 0 for even lists, large where a few items are everywhere.
        never_found: share of the gallery that is in no list (anti-hubs); a gallery much larger than the number of
            queries has many of them whatever the space.
        largest: the item that most queries find.
        largest_share: share of the queries that find it.
    """

    k: int
    skewness: float
    never_found: float
    largest: str
    largest_share: float


def hubness(top_rows: NDArray[np.int64], gallery_ids: Sequence[str]) -> Hubness:
    """Hubness of a gallery under its queries.

    Args:
        top_rows: (Q, K), gallery rows, -1 where a list ends early.
        gallery_ids: N item ids.
    """
    counts = np.bincount(top_rows[top_rows >= 0], minlength=len(gallery_ids)).astype(np.float64)
    away = counts - counts.mean()
    spread = float(np.sqrt((away**2).mean()))
    hub = int(counts.argmax())
    return Hubness(
        k=top_rows.shape[1],
        skewness=float((away**3).mean() / spread**3) if spread else 0.0,
        never_found=float((counts == 0).mean()),
        largest=gallery_ids[hub],
        largest_share=float(counts[hub] / max(1, len(top_rows))),
    )


def near_copies(
    top_rows: NDArray[np.int64],
    top_scores: NDArray[np.float32],
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
) -> list[list[str]]:
    """Groups of items whose vectors nearly coincide: connected parts of the graph of near pairs, largest first.

    Only pairs of a query and one of its nearest are seen, and never those whose photos are identical: the ranking
    leaves them out. Ids in a group are sorted; equal sizes come by first id.

    Args:
        top_rows: (Q, K), gallery rows, -1 where a list ends early.
        top_scores: (Q, K), cosines.
        query_ids: Q item ids.
        gallery_ids: N item ids.
    """
    close = np.argwhere((top_scores >= NEAR_COPY) & (top_rows >= 0))
    pairs = ((query_ids[query], gallery_ids[int(top_rows[query, place])]) for query, place in close.tolist())
    return sorted(connected(pairs), key=lambda group: (-len(group), group[0]))


def connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The connected parts of a graph of pairs, each sorted."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for one, other in pairs:
        leader[lead(one)] = lead(other)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in leader:
        groups[lead(name)].append(name)
    return [sorted(group) for group in groups.values()]


def near_copies_json(groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How many groups and items, and the first groups with at most so many of their ids."""
    return {
        "cosine": NEAR_COPY,
        "depth": TOP,
        "groups": len(groups),
        "items": sum(len(group) for group in groups),
        "largest": [list(group[:_SHOWN]) for group in groups[:_SHOWN]],
    }
