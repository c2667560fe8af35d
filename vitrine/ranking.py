"""Exact search in blocks of queries: the reference that every index is measured against.

Memory is bounded by a block, never queries times gallery. Ties are decided by the gallery's order (callers sort it
by item id), so a ranking is the same on every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.metrics import ranking_metrics
from vitrine.progress import Track, quiet

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_CELLS = 1 << 19  # scores in memory at once: with their sort keys about 15 MB
_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)
_TOP = 10


@dataclass(frozen=True)
class Block:
    """The ranked lists of some consecutive queries.

    Attributes:
        start: row number of the first query.
        rows: int64 (Qb, K), gallery rows, best first; -1 fills a list that ends early.
        scores: float32 (Qb, K), inner products; -inf where the row is -1.
    """

    start: int
    rows: Rows
    scores: Vectors


@dataclass(frozen=True)
class RankingResult:
    """Metrics of all queries at full depth, with the top of each list.

    Attributes:
        metrics: name -> float64 (Q,), NaN where `n_relevant` is 0.
        n_relevant: int64 (Q,), gallery items of the query's label without the query itself.
        top_rows: int64 (Q, 10), gallery rows, -1 where the gallery is smaller.
        top_scores: float32 (Q, 10).
    """

    metrics: dict[str, NDArray[np.float64]]
    n_relevant: Rows
    top_rows: Rows
    top_scores: Vectors


def rank(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    depth: int | None = None,
    block_rows: int = 256,
) -> Iterator[Block]:
    """Rank the gallery for each query by inner product; an item of the same id is left out of its own list.

    Args:
        queries: (Q, D), unit length for cosine.
        gallery: (N, D), sorted by item id, which decides ties.
        query_ids: Q item ids.
        gallery_ids: N item ids, each once.
        depth: list length K; None for all of the gallery.
        block_rows: most queries in one block; fewer where the gallery is large.

    Raises:
        BadInput: shapes or ids do not fit, or a vector is not finite.
    """
    own = _own_rows(query_ids, gallery_ids)
    if len(own) != len(queries) or len(gallery_ids) != len(gallery):
        raise BadInput(
            f"{len(queries)} queries with {len(own)} ids and {len(gallery)} gallery vectors with "
            f"{len(gallery_ids)} ids; give one id a vector"
        )
    return nearest(queries, gallery, depth=depth, own_rows=own, block_rows=block_rows)


def nearest(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    depth: int | None = None,
    own_rows: Rows | None = None,
    block_rows: int = 256,
) -> Iterator[Block]:
    """As `rank`, without ids: `own_rows` (Q,) names the gallery row each query must not find, -1 for none."""
    left, right = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(gallery, np.float32)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise BadInput(f"queries {left.shape} and gallery {right.shape} do not fit: both (count, D) with the same D")
    for name, vectors in (("query", left), ("gallery", right)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise BadInput(f"{name} vector {bad[0]} is not finite; embed it again before ranking")
    own = np.full(len(left), -1, np.int64) if own_rows is None else own_rows
    longest = len(right) - int(len(own) > 0 and bool((own >= 0).all()))
    keep = longest if depth is None else max(0, min(depth, longest))
    return _blocks(left, right, own, keep, max(1, min(block_rows, _CELLS // max(1, len(right)))))


def _blocks(left: Vectors, right: Vectors, own: Rows, keep: int, step: int) -> Iterator[Block]:
    for start in range(0, len(left), step):
        scores = left[start : start + step] @ right.T
        yield Block(start, *_sorted_block(scores, own[start : start + step], keep))


def _sorted_block(scores: Vectors, own: Rows, keep: int) -> tuple[Rows, Vectors]:
    """Best `keep` of each row. One uint64 key holds score and row number, so one plain sort decides ties too."""
    if keep == 0:
        return np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32)
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 the same key as 0.0
    falling = np.where(bits >> np.uint32(31), bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = falling.astype(np.uint64) << np.uint64(32)
    keys |= np.arange(scores.shape[1], dtype=np.uint64)
    has_own = np.flatnonzero(own >= 0)
    keys[has_own, own[has_own]] = _LAST
    if keep < keys.shape[1]:
        keys = np.partition(keys, keep - 1, axis=1)[:, :keep]
    keys.sort(axis=1)
    ended = keys == _LAST
    rows = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    rows[ended] = 0
    best = np.take_along_axis(scores, rows, axis=1)
    rows[ended], best[ended] = -1, -np.inf
    return rows, best


def exact_metrics(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    *,
    track: Track = quiet,
) -> RankingResult:
    """Every metric at full depth, block by block.

    Args:
        queries: (Q, D).
        gallery: (N, D), sorted by item id.
        query_ids: Q item ids; a query never matches the gallery item of its id.
        gallery_ids: N item ids.
        query_labels: what makes a gallery item relevant: equal label (or product id).
        gallery_labels: the same of the gallery.
        track: progress over the blocks.

    Raises:
        BadInput: shapes, ids or labels do not fit.
    """
    if len(query_labels) != len(queries) or len(gallery_labels) != len(gallery):
        raise BadInput(
            f"{len(query_labels)} labels for {len(queries)} queries, {len(gallery_labels)} for {len(gallery)} "
            "gallery vectors; give one label a vector"
        )
    asked, offered = _codes(query_labels, gallery_labels)
    n_relevant = relevant_counts(asked, offered, _own_rows(query_ids, gallery_ids))
    top_rows = np.full((len(queries), _TOP), -1, np.int64)
    top_scores = np.full((len(queries), _TOP), -np.inf, np.float32)
    parts: list[dict[str, NDArray[np.float64]]] = []
    blocks = rank(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids)
    step = max(1, min(256, _CELLS // max(1, len(gallery))))
    for block in track(blocks, "ranking", -(-len(queries) // step)):
        span = slice(block.start, block.start + len(block.rows))
        relevant = (offered[block.rows] == asked[span, None]) & (block.rows >= 0)
        parts.append(ranking_metrics(relevant, n_relevant[span], full=True))
        width = min(_TOP, block.rows.shape[1])
        top_rows[span, :width], top_scores[span, :width] = block.rows[:, :width], block.scores[:, :width]
    parts = parts or [ranking_metrics(np.zeros((0, 0), bool), n_relevant, full=True)]
    metrics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return RankingResult(metrics, n_relevant, top_rows, top_scores)


def relevant_counts(query_codes: Rows, gallery_codes: Rows, own_rows: Rows) -> Rows:
    """How many gallery items each query could find, int64 (Q,); its own row does not count.

    Args:
        query_codes: int (Q,), label numbers from 0.
        gallery_codes: int (N,), label numbers of the gallery.
        own_rows: int (Q,), the gallery row of the query itself, -1 for none.
    """
    size = int(max(query_codes.max(initial=-1), gallery_codes.max(initial=-1))) + 1
    counts = np.bincount(gallery_codes, minlength=size)[query_codes].astype(np.int64)
    has_own = np.flatnonzero(own_rows >= 0)
    counts[has_own] -= gallery_codes[own_rows[has_own]] == query_codes[has_own]
    return counts


def _codes(left: Sequence[str], right: Sequence[str]) -> tuple[Rows, Rows]:
    numbers = {label: number for number, label in enumerate(sorted({*left, *right}))}
    return (
        np.fromiter((numbers[label] for label in left), np.int64, len(left)),
        np.fromiter((numbers[label] for label in right), np.int64, len(right)),
    )


def _own_rows(query_ids: Sequence[str], gallery_ids: Sequence[str]) -> Rows:
    rows = {item_id: row for row, item_id in enumerate(gallery_ids)}
    if len(rows) != len(gallery_ids):
        raise BadInput(f"{len(gallery_ids) - len(rows)} gallery ids occur twice; list each item once")
    return np.fromiter((rows.get(item_id, -1) for item_id in query_ids), np.int64, len(query_ids))
