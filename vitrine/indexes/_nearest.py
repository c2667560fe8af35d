"""Scores of many rows -> the K best of them, in an order that does not depend on where a row lies.

Dim names: Q queries, N rows, K depth, D dim, C candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrine.ports import Vectors

SLACK = 1e-5
"""Matrix products of other shapes round differently by about this much; candidates are scored again."""

_LOWEST = np.float32(-2)
"""Below every cosine and above the minus infinity of a row that may not be found."""

_GATHERED_ROWS = 16_384
"""Rows copied at once (48 MB at 768 numbers) where few pass a filter."""


def scores_of(gallery: Vectors, queries: Vectors, rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Cosines of unit queries (Q, D) with all N rows, or with some: float32 (Q, N or len(rows))."""
    if rows is None:
        return queries @ gallery.T
    scores = np.empty((len(queries), len(rows)), np.float32)
    for start in range(0, len(rows), _GATHERED_ROWS):
        part = slice(start, start + _GATHERED_ROWS)
        np.matmul(queries, gallery[rows[part]].T, out=scores[:, part])
    return scores


def candidates(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places whose score (N,) reaches the K-th best, or nearly; never one at minus infinity."""
    return np.flatnonzero(scores >= max(_kth(scores, k) - SLACK, _LOWEST))


def product_candidates(scores: NDArray[np.float32], k: int, products: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same, deep enough for K products (N,), or everything where there are fewer."""
    depth = k
    while True:
        kth = max(_kth(scores, depth), _LOWEST)
        if depth >= len(scores) or len(np.unique(products[scores >= kth])) >= k:
            return np.flatnonzero(scores >= max(kth - SLACK, _LOWEST))
        depth *= 4


def _kth(scores: NDArray[np.float32], k: int) -> np.float32:
    if len(scores) <= k:
        return _LOWEST
    kth: np.float32 = np.partition(scores, len(scores) - k)[len(scores) - k]
    return kth


def ranked(vectors: Vectors, query: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Candidates' vectors (C, D), by rising item id -> their places by falling score, and those scores.

    Row by row, so that equal vectors have equal scores; a stable sort keeps the lower id first.
    """
    scores = np.einsum("nd,d->n", vectors, query)
    order = np.argsort(-scores, kind="stable")
    return order, scores[order]


def first_of_each(products: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places (rising) where a product comes for the first time."""
    return np.sort(np.unique(products, return_index=True)[1])
