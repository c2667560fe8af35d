"""What an approximate index finds of the truth: which Qdrant measures it, and how its lists are judged."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vitrine.ports import Vectors
from vitrine.progress import Track
from vitrine.qdrant_edge import EngineRun, GraphSettings
from vitrine.ranking import RankingResult

Rows = NDArray[np.int64]

TOP = 10
_TIE = 1e-6


def search_qdrant(
    gallery: Vectors, queries: Vectors, depth: int, settings: GraphSettings, url: str, track: Track
) -> EngineRun:
    """Through the server at `url`, or through the embedded engine where it is empty."""
    if url:
        from vitrine import qdrant_server

        return qdrant_server.measure(gallery, queries, depth, settings, url=url, track=track)
    from vitrine import qdrant_edge

    runs = [qdrant_edge.measure(gallery, queries, depth, settings) for _ in track([1], "searching Qdrant's engine", 1)]
    return runs[0]


def without_excluded(rows: Rows, excluded: tuple[Rows, Rows], depth: int) -> Rows:
    """Take what is no answer out of each query's list (Q, K) and cut at `depth`; -1 fills what is missing.

    Args:
        rows: int64 (Q, K), gallery rows, best first, -1 where a list ends early.
        excluded: pairs of query number and gallery row, such as each query itself.
        depth: length of the lists that are returned.
    """
    queries, left_out = excluded
    kept = np.full((len(rows), depth), -1, np.int64)
    for number, found in enumerate(rows):
        others = found[~np.isin(found, left_out[queries == number]) & (found >= 0)][:depth]
        kept[number, : len(others)] = others
    return kept


def recall_at_10(rows: Rows, exact: RankingResult, gallery: Vectors, queries: Vectors) -> float:
    """Share of the exact ten nearest that `rows` (Q, K) holds; an answer as near as the tenth counts as it."""
    shares = []
    for number, found in enumerate(rows[:, :TOP]):
        truth = exact.top_scores[number][exact.top_rows[number] >= 0]
        if len(truth):
            scores = gallery[found[found >= 0]] @ queries[number]
            shares.append(min(len(truth), int((scores >= truth.min() - _TIE).sum())) / len(truth))
    return float(np.mean(shares)) if shares else math.nan
