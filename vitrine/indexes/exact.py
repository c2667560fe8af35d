"""Exact search: a matrix product over the collection's memory-mapped file and the changes since.

Nothing is built, so any number of processes can open it. Right up to about 100,000 x 768.
Changes lie in memory beside the file. A search takes one `View` and never looks back, so it needs no lock and sees
each item before or after its change; a change makes the next view and swaps it in.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.collection import Collection
from vitrine.errors import NotFound
from vitrine.indexes._checks import check_search, newest, refuse_unknown
from vitrine.indexes._nearest import candidates, first_of_each, product_candidates, ranked
from vitrine.indexes._overlay import Overlay
from vitrine.indexes._view import Base, View
from vitrine.ports import Delta, Filter, Hit, Vectors

_SCORES_IN_MEMORY = 8_000_000
"""Scores held at once (32 MB): so many queries are answered together."""

_COPIED_SHARE = 0.25
"""Where fewer rows pass a filter, they are copied together and compared alone; else all are, in place."""


class ExactIndex:
    """Every row is compared with every query. Safe for several threads."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection.info.name
        self._dim = collection.info.dim
        self._writing = threading.Lock()
        self._view = View(Base(collection), Overlay.empty(self._dim))

    def search(
        self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False, by_product: bool = False
    ) -> list[list[Hit]]:
        """The K nearest items or products of each of Q unit vectors (Q, D); `exact` changes nothing here."""
        del exact
        view, vectors = self._view, np.asarray(vectors, dtype=np.float32)
        check_search(vectors, self._dim, k, where, view.types)
        rows, barred = _rows_to_score(view, where)
        block = max(1, _SCORES_IN_MEMORY // max(1, len(view) if rows is None else len(rows)))
        found: list[list[Hit]] = []
        for start in range(0, len(vectors), block):
            queries = vectors[start : start + block]
            scores = view.scores(queries, rows)
            if rows is None:
                scores[:, barred] = -np.inf
            found += [_best(view, *pair, k, rows, by_product) for pair in zip(queries, scores, strict=True)]
        return found

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors in the order asked for."""
        view = self._view
        held = {item_id: row for item_id in item_ids if (row := view.row_of(item_id)) is not None}
        refuse_unknown(item_ids, held, self.collection)
        rows, stored = view.by_id(np.array(sorted(set(held.values())), np.int64))
        place_of = {row: place for place, row in enumerate(rows.tolist())}
        return stored[[place_of[held[item_id]] for item_id in item_ids]]

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Take changes in; each search sees all of one call or none."""
        changes = newest(deltas, self._dim)
        with self._writing:
            view = self._view
            self._view = View(view.base, view.overlay.after(changes, view.base.collection.info.seq))

    def count(self) -> int:
        """Items that a search without a filter can find."""
        return len(self._view) - len(self._view.hidden)

    def close(self) -> None:
        """Nothing is held but the mapping, which goes with the object."""


def _rows_to_score(view: View, where: Filter) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """The few rows that pass, alone; or all of them (None) and which of those may not be found."""
    if not where:
        return None, view.hidden
    allowed = view.allowed(where)
    if np.count_nonzero(allowed) < _COPIED_SHARE * len(view):
        return np.flatnonzero(allowed), view.hidden
    return None, np.flatnonzero(~allowed)


def _best(
    view: View, query: Vectors, scores: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None, by_product: bool
) -> list[Hit]:
    """The K best hits of one query from its scores with all rows, or with some."""
    if by_product:
        products = view.products if rows is None else view.products[rows]
        places = product_candidates(scores, k, products)
    else:
        places = candidates(scores, k)
    near, vectors = view.by_id(places if rows is None else rows[places])
    order, cosines = ranked(vectors, query)
    if by_product:
        firsts = first_of_each(view.products[near[order]])
        order, cosines = order[firsts], cosines[firsts]
    return [view.hit(row, score) for row, score in zip(near[order[:k]].tolist(), cosines[:k].tolist(), strict=True)]


def build(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Nothing to build: the collection's files are the index."""
    del collection, settings


def open(collection: Collection, settings: Mapping[str, Any]) -> ExactIndex:  # noqa: A001 -- the port's name
    """Open a collection for exact search.

    Raises:
        NotFound: the collection's vectors are not there.
    """
    del settings
    try:
        _ = collection.vectors
    except FileNotFoundError as error:
        name, model, version = collection.info.name, collection.info.model, collection.info.version
        raise NotFound(
            f"the vectors of collection {name} are missing; make them again: vitrine promote {model}@{version}"
        ) from error
    return ExactIndex(collection)


def publish(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Nothing to publish: servers follow the registry."""
    del collection, settings


def forget(collection: Collection, item_ids: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Nothing to take out: there is nothing but the files."""
    del collection, item_ids, settings


def drop(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Nothing to drop: the files stay."""
    del collection, settings
