"""What an approximate index finds of the truth: which Qdrant measures it, and how its lists are judged.

Dim names: Q queries, N gallery, K depth of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.ports import Vectors
from vitrine.progress import Track
from vitrine.qdrant_plan import EngineRun, Pass, QdrantSettings, parts_of
from vitrine.ranking import nearest
from vitrine.retrieval import Retrieval

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

TOP = 10
_TIE = 1e-6
_BLOCK = 256


def search_qdrant(
    gallery: Vectors, queries: Vectors, passes: Sequence[Pass], settings: QdrantSettings, url: str, track: Track
) -> EngineRun:
    """Through the server at `url`, or through the embedded engine where it is empty."""
    if url:
        from vitrine import qdrant_server

        return qdrant_server.measure(gallery, queries, passes, settings, url=url, track=track)
    from vitrine import qdrant_edge

    return qdrant_edge.measure(gallery, queries, passes, settings, track=track)


def without_excluded(rows: Rows, excluded: tuple[Rows, Rows], depth: int) -> Rows:
    """Take what is no answer out of each query's list (Q, K) and cut at `depth`; -1 fills what is missing.

    Args:
        rows: int64 (Q, K), gallery rows, best first, -1 where a list ends early.
        excluded: pairs of query number and gallery row, such as each query itself.
        depth: length of the lists that are returned.
    """
    queries, left_out = excluded
    order = np.argsort(queries, kind="stable")
    starts = np.searchsorted(queries[order], np.arange(len(rows) + 1))
    kept = np.full((len(rows), depth), -1, np.int64)
    for number, found in enumerate(rows):
        out = left_out[order[starts[number] : starts[number + 1]]]
        others = found[~np.isin(found, out) & (found >= 0)][:depth]
        kept[number, : len(others)] = others
    return kept


def recall_at_10(rows: Rows, truth: Rows, gallery: Vectors, queries: Vectors) -> Floats:
    """Share of each query's exact ten nearest `truth` (Q, 10) that `rows` (Q, K) holds, float64 (Q,).

    An answer as near as the last of them counts as one of them; NaN where there is nothing to find.
    """
    shares = np.full(len(rows), np.nan)
    for number, found in enumerate(rows[:, :TOP]):
        right = truth[number][truth[number] >= 0]
        if len(right):
            worst = (gallery[right] @ queries[number]).min()
            near = gallery[found[found >= 0]] @ queries[number] >= worst - _TIE
            shares[number] = min(len(right), int(near.sum())) / len(right)
    return shares


@dataclass(frozen=True)
class Truth:
    """Exact search under a filter.

    Attributes:
        rows: int64 (Q, 10), gallery rows, best first, -1 where the part holds fewer.
        n_relevant: int64 (Q,), relevant rows in the query's part.
    """

    rows: Rows
    n_relevant: Rows


def truth_in_parts(task: Retrieval, parts: int) -> Truth:
    """The ten nearest of each query among the rows of its part, as `vitrine.qdrant_plan.Pass` deals them."""
    numbers, excluded = parts_of(len(task.gallery)) % parts, task.excluded()
    most = most_excluded(excluded)
    rows = np.full((len(task.queries), TOP + most), -1, np.int64)
    for part in range(min(parts, len(rows))):
        offered = np.flatnonzero(numbers == part)
        asked = np.arange(part, len(rows), parts)
        for block in nearest(task.query_vectors[asked], task.gallery_vectors[offered], depth=TOP + most):
            some = asked[block.start : block.start + len(block.rows)]
            rows[some, : block.rows.shape[1]] = np.where(block.rows >= 0, offered[block.rows], -1)
    return Truth(without_excluded(rows, excluded, TOP), _relevant_in_parts(task, numbers, parts))


def most_excluded(excluded: tuple[Rows, Rows]) -> int:
    """Places of a list that the query itself and its copies may take."""
    return int(np.bincount(excluded[0]).max(initial=0))


def _relevant_in_parts(task: Retrieval, numbers: Rows, parts: int) -> Rows:
    counts = np.zeros(len(task.queries), np.int64)
    for start in range(0, len(counts), _BLOCK):
        stop = min(start + _BLOCK, len(counts))
        relevant = task.relevance.relevant(start, stop, task.relevance.excluded(start, stop))
        own_part = np.arange(start, stop)[:, None] % parts
        counts[start:stop] = ((relevant >= 0) & (numbers[relevant] == own_part)).sum(axis=1)
    return counts
