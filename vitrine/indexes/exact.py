"""Exact search: a blocked matrix product over the collection's memory-mapped file.

Nothing is built, so any number of processes can open it. Right up to about 100,000 x 768.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.collection import Collection
from vitrine.errors import NotFound
from vitrine.indexes._checks import FieldType, check_search, field_types, stored_vectors
from vitrine.ports import Condition, Filter, Hit, Vectors

_SCORES_IN_MEMORY = 8_000_000
"""Scores held at once (32 MB): the block of rows shrinks as the number of queries grows."""

_SLACK = 1e-5
"""Matrix products of other shapes round differently by about this much; candidates are scored again."""


class ExactIndex:
    """Every row is compared with every query. Safe for several threads: it only reads."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.collection = collection.info.name

    def search(self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False) -> list[list[Hit]]:
        """The K nearest items of each of Q unit vectors (Q, D); `exact` changes nothing here."""
        del exact
        vectors = np.asarray(vectors, dtype=np.float32)
        check_search(vectors, self._collection.info.dim, k, where, self._types)
        allowed = self._allowed(where) if where else None
        return [self._hits(found) for found in _top(self._collection.vectors, vectors, k, allowed)]

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors in the order asked for."""
        return stored_vectors(self._collection, item_ids)

    def count(self) -> int:
        """Rows of the mapped file."""
        return len(self._collection.vectors)

    def close(self) -> None:
        """Nothing is held but the mapping, which goes with the object."""

    def _hits(self, found: list[tuple[int, float]]) -> list[Hit]:
        ids, payloads = self._collection.item_ids, self._collection.payloads
        return [Hit(ids[row], score, payloads[row]) for row, score in found]

    @cached_property
    def _types(self) -> dict[str, FieldType]:
        return field_types(self._collection.payloads)

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.float64] | dict[str, NDArray[np.int64]]]:
        return {}

    def _allowed(self, where: Filter) -> NDArray[np.bool_]:
        """Which rows meet every condition, as bool (N,)."""
        allowed = np.ones(self.count(), np.bool_)
        for condition in where:
            allowed &= self._meets(condition)
        return allowed

    def _meets(self, condition: Condition) -> NDArray[np.bool_]:
        if self._types[condition.field] == "number":
            values = self._numbers(condition.field)
            low = -np.inf if condition.low is None else condition.low
            high = np.inf if condition.high is None else condition.high
            inside: NDArray[np.bool_] = (values >= low) & (values <= high)  # a missing number is NaN: never inside
            return inside
        met = np.zeros(self.count(), np.bool_)
        rows_by_value = self._values(condition.field)
        for value in condition.any_of:
            met[rows_by_value.get(value, [])] = True
        return met

    def _numbers(self, field: str) -> NDArray[np.float64]:
        column = self._columns.get(field)
        if not isinstance(column, np.ndarray):
            column = np.array([p.get(field, np.nan) for p in self._collection.payloads], np.float64)
            self._columns[field] = column
        return column

    def _values(self, field: str) -> dict[str, NDArray[np.int64]]:
        column = self._columns.get(field)
        if not isinstance(column, dict):
            rows: dict[str, list[int]] = {}
            for row, payload in enumerate(self._collection.payloads):
                held = payload.get(field, [])
                for value in held if isinstance(held, list) else [held]:
                    rows.setdefault(value, []).append(row)
            column = {value: np.array(found, np.int64) for value, found in rows.items()}
            self._columns[field] = column
        return column


def _top(
    gallery: Vectors, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None
) -> list[list[tuple[int, float]]]:
    """The K best (row, score) of each query: falling score, equal scores by rising row."""
    rows = np.arange(len(gallery)) if allowed is None else np.flatnonzero(allowed)
    block = max(1024, _SCORES_IN_MEMORY // max(1, len(queries)))
    best: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(queries)
    for start in range(0, len(rows), block):
        taken = rows[start : start + block]
        part = gallery[taken[0] : taken[-1] + 1] if allowed is None else gallery[taken]
        scores = queries @ part.T
        for number, row_scores in enumerate(scores):
            best[number] = np.concatenate([best[number], taken[_candidates(row_scores, k)]])
    return [_ranked(gallery, found, query, k) for found, query in zip(best, queries, strict=True)]


def _candidates(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places whose score reaches the K-th best, or nearly."""
    if len(scores) <= k:
        return np.arange(len(scores))
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= kth - _SLACK)


def _ranked(gallery: Vectors, rows: NDArray[np.int64], query: Vectors, k: int) -> list[tuple[int, float]]:
    """Score candidates row by row, so that equal vectors have equal scores wherever they lie."""
    scores = np.einsum("nd,d->n", gallery[rows], query)
    order = np.argsort(-scores, kind="stable")[:k]  # rows rise, so a stable sort keeps the lower one first
    return [(int(rows[place]), float(scores[place])) for place in order]


def build(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Nothing to build: the collection's files are the index."""
    del collection, settings


def open(collection: Collection, settings: Mapping[str, Any]) -> ExactIndex:  # noqa: A001 -- the port's name
    """Open a collection for exact search.

    Raises:
        NotFound: the collection's vectors are not there.
    """
    del settings
    if not (collection.folder / "vectors.npy").is_file():
        name, model, version = collection.info.name, collection.info.model, collection.info.version
        raise NotFound(
            f"the vectors of collection {name} are missing; make them again: vitrine promote {model}@{version}"
        )
    return ExactIndex(collection)


def drop(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Nothing to drop: the files stay."""
    del collection, settings
