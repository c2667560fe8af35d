"""Exact search in blocks of queries: the reference that every index is measured against.

Memory is bounded by a block, never queries times gallery. Ties are decided by the gallery's order (callers sort it
by item id), so a ranking is the same on every run and with every number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vitrine.errors import BadInput
from vitrine.metric_definitions import GRADED_DEPTH, Answers
from vitrine.metrics import METRICS, compute_metrics
from vitrine.progress import Track, quiet
from vitrine.ranking_store import keeping
from vitrine.relevance import Pair, Paths, Relevance, Rows, own_rows, relevance_of
from vitrine.scoring import Arrays, open_arrays, ranks, top

_T = TypeVar("_T")
Vectors = NDArray[np.float32]

TOP = 10
_ROWS = 256
_BYTES = 9  # a score, its copy while it is ordered, and one comparison
_RELEVANT_BYTES = 64  # a relevant row: its number, score, counts and rank


@dataclass(frozen=True)
class Block:
    """The ranked lists of some consecutive queries.

    Attributes:
        start: row number of the first query.
        rows: int64 (B, K), gallery rows, best first; -1 fills a list that ends early.
        scores: float32 (B, K), inner products; -inf where the row is -1.
    """

    start: int
    rows: Rows
    scores: Vectors


@dataclass(frozen=True)
class RankingResult:
    """Metrics of all queries at full depth, with the top of each list.

    Attributes:
        metrics: name -> float64 (Q,), NaN where `n_relevant` is 0.
        n_relevant: int64 (Q,), gallery items of the query's label without the query itself and its copies.
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
    block_rows: int = _ROWS,
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
    own = own_rows(query_ids, gallery_ids)
    _check_ids(queries, gallery, query_ids, gallery_ids)
    return nearest(queries, gallery, depth=depth, own=own, block_rows=block_rows)


def nearest(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    depth: int | None = None,
    own: Rows | None = None,
    block_rows: int = _ROWS,
) -> Iterator[Block]:
    """As `rank`, without ids: `own` (Q,) names the gallery row each query must not find, -1 for none."""
    left, right = _vectors(queries, gallery)
    itself = np.full(len(left), -1, np.int64) if own is None else own
    longest = len(right) - int(len(itself) > 0 and bool((itself >= 0).all()))
    keep = longest if depth is None else max(0, min(depth, longest))
    return _blocks(open_arrays(left, right, "cpu"), itself, keep, min(block_rows, _block_rows(len(right), keep, 128)))


def _blocks(arrays: Arrays, own: Rows, keep: int, step: int) -> Iterator[Block]:
    for start in range(0, len(own), step):
        stop = min(start + step, len(own))
        scores = arrays.scores(start, stop)
        has_own = np.flatnonzero(own[start:stop] >= 0)
        scores.leave_out(has_own, own[start:stop][has_own])
        yield Block(start, *top(scores, stop - start, keep))


@dataclass(frozen=True)
class Limits:
    """What a ranking may use.

    Attributes:
        threads: blocks worked on at a time, each by one thread; None for one a processor core.
        memory_mb: for the scores of one block, so `threads` times that in all, beside the vectors themselves.
        device: `cpu`, or a device of torch such as `cuda`.
        resume: a folder where finished blocks are kept, so that a repeated call goes on; removed at the end.
    """

    threads: int | None = None
    memory_mb: float = 128
    device: str = "cpu"
    resume: Path | None = None


def exact_metrics(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    *,
    paths: Paths | None = None,
    copies: Pair | None = None,
    limits: Limits | None = None,
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
        paths: category paths of queries and gallery from the root down, for metrics with graded relevance.
        copies: a key of each query's and each gallery item's content, such as a photo's hash; an exact copy of the
            query is no answer: it is left out of the ranking and of R.
        limits: threads, memory, device and where to go on from.
        track: progress over the blocks.

    Raises:
        BadInput: shapes, ids or labels do not fit.
        Unavailable: no such device.
    """
    _check_ids(queries, gallery, query_ids, gallery_ids)
    relevance = relevance_of(query_ids, gallery_ids, query_labels, gallery_labels, paths=paths, copies=copies)
    return measure(queries, gallery, relevance, limits=limits, track=track)


def measure(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    relevance: Relevance,
    *,
    limits: Limits | None = None,
    track: Track = quiet,
) -> RankingResult:
    """As `exact_metrics`, with the relevance as codes."""
    limits = limits or Limits()
    left, right = _vectors(queries, gallery)
    if not len(right):
        raise BadInput("the gallery is empty; give at least one vector to search among")
    step = _block_rows(len(right), int(np.bincount(relevance.gallery, minlength=1).max()), limits.memory_mb)
    names = [metric.name for metric in METRICS.values() if relevance.graded or not metric.needs_grades]
    with keeping(limits.resume, (left, right, relevance), names, TOP, step) as kept:
        missing = [start for start in range(0, len(left), step) if not kept.has(start // step)]
        work = partial(_measure_block, open_arrays(left, right, limits.device), relevance, step)
        for start, found in track(_in_order(work, missing, limits), "ranking", len(missing)):
            kept.put(start // step, start, *found)
        metrics = {name: np.array(column) for name, column in zip(kept.names, kept.metrics, strict=True)}
        return RankingResult(
            metrics, np.array(kept.n_relevant), np.array(kept.top_rows), np.array(kept.top_scores)
        )  # copies: a folder's files go away


def _measure_block(
    arrays: Arrays, relevance: Relevance, step: int, start: int
) -> tuple[dict[str, NDArray[np.float64]], Rows, Rows, Vectors]:
    """Metrics of the queries from `start` on, their R, and the top of their lists."""
    stop = min(start + step, len(relevance.query))
    excluded = relevance.excluded(start, stop)
    scores = arrays.scores(start, stop)
    scores.leave_out(*excluded)
    relevant = relevance.relevant(start, stop, excluded)
    answers = Answers(ranks(scores, relevant), (relevant >= 0).sum(axis=1).astype(np.int64))
    rows, best = top(scores, stop - start, TOP)
    if relevance.graded:
        ideal = relevance.ideal(start, stop, excluded, GRADED_DEPTH)
        answers = replace(answers, grades=relevance.grades(start, rows[:, :GRADED_DEPTH]), ideal=ideal)
    return compute_metrics(answers), answers.n_relevant, rows, best


def _in_order(work: Callable[[int], _T], starts: Sequence[int], limits: Limits) -> Iterator[tuple[int, _T]]:
    """Results in the order of `starts`, some blocks ahead in threads; each block's product runs on one thread."""
    threads = (limits.threads or os.cpu_count() or 1) if limits.device == "cpu" else 1
    ahead: deque[tuple[int, Future[_T]]] = deque()
    with threadpool_limits(1 if limits.device == "cpu" else None, "blas"), ThreadPoolExecutor(threads) as pool:
        for start in starts:
            ahead.append((start, pool.submit(work, start)))
            if len(ahead) > threads:
                first, found = ahead.popleft()
                yield first, found.result()
        for start, found in ahead:
            yield start, found.result()


def _block_rows(gallery: int, relevant: int, memory_mb: float) -> int:
    """Queries of a block whose scores, and whose up to `relevant` relevant rows each, fit `memory_mb`."""
    return max(1, min(_ROWS, int(memory_mb * 2**20 / (_BYTES * max(1, gallery) + _RELEVANT_BYTES * relevant))))


def _vectors(queries: NDArray[np.floating], gallery: NDArray[np.floating]) -> tuple[Vectors, Vectors]:
    left, right = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(gallery, np.float32)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise BadInput(f"queries {left.shape} and gallery {right.shape} do not fit: both (count, D) with the same D")
    for name, vectors in (("query", left), ("gallery", right)):
        bad = np.flatnonzero(~np.isfinite(vectors.sum(axis=1)))
        if len(bad):
            raise BadInput(f"{name} vector {bad[0]} is not finite; embed it again before ranking")
    return left, right


def _check_ids(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
) -> None:
    if len(query_ids) != len(queries) or len(gallery_ids) != len(gallery):
        raise BadInput(
            f"{len(queries)} queries with {len(query_ids)} ids and {len(gallery)} gallery vectors with "
            f"{len(gallery_ids)} ids; give one id a vector"
        )
