"""A collection at one moment: its file and the changes since, searched as one table.

Dim names: Q queries, N rows, C candidates, D dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitrine.collection import Collection
from vitrine.indexes._checks import FieldType, field_types
from vitrine.indexes._nearest import scores_of
from vitrine.indexes._overlay import Overlay
from vitrine.indexes._rows import Rows
from vitrine.ports import Filter, Hit, Vectors


class Base:
    """The collection's files with the columns of their payloads."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.collection.item_ids, self.collection.payloads)

    @cached_property
    def types(self) -> dict[str, FieldType]:
        return field_types(self.collection.payloads)

    @cached_property
    def products(self) -> tuple[NDArray[np.int64], dict[str, int]]:
        return self.rows.product_codes({})


@dataclass(frozen=True)
class View:
    """Rows below the file's count are the file's, the others the overlay's. Never changed."""

    base: Base
    overlay: Overlay

    def __len__(self) -> int:
        return self.base.collection.info.count + len(self.overlay)

    @cached_property
    def hidden(self) -> NDArray[np.int64]:
        """Rows that a later change replaced or deleted."""
        row_of = self.base.collection.row_of
        replaced = [row_of[item_id] for item_id in self.overlay.place_of if item_id in row_of]
        return np.concatenate([np.array(replaced, np.int64), self.base.collection.info.count + self.overlay.dead])

    @cached_property
    def types(self) -> Mapping[str, FieldType]:
        return {**self.overlay.types, **self.base.types} if self.overlay.types else self.base.types

    @cached_property
    def products(self) -> NDArray[np.int64]:
        codes, known = self.base.products
        if not len(self.overlay):
            return codes
        return np.concatenate([codes, self.overlay.rows.product_codes(known, len(codes))[0]])

    def allowed(self, where: Filter) -> NDArray[np.bool_]:
        """Which rows may be found, as bool (N,)."""
        allowed = np.ones(len(self), np.bool_)
        allowed[self.hidden] = False
        for condition in where:
            kind, parts = self.types[condition.field], (self.base.rows, self.overlay.rows)
            allowed &= np.concatenate([part.meet(condition, kind) for part in parts])
        return allowed

    def scores(self, queries: Vectors, rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Cosines (Q, all rows or those)."""
        parts = (self.base.collection.vectors, self.overlay.vectors)
        if not len(parts[1]):
            return scores_of(parts[0], queries, rows)
        count = len(parts[0])
        split: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None] = (None, None)
        if rows is not None:
            cut = int(np.searchsorted(rows, count))
            split = rows[:cut], rows[cut:] - count
        return np.concatenate([scores_of(part, queries, some) for part, some in zip(parts, split, strict=True)], axis=1)

    def by_id(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        """Rows (C,) in the order of their item ids, and their vectors (C, D)."""
        count = self.base.collection.info.count
        if not len(rows) or rows[-1] < count:  # the file's rows are in that order
            return rows, self.base.collection.vectors[rows]
        rows = np.array(sorted(rows.tolist(), key=self.item_id), np.int64)
        vectors = np.empty((len(rows), self.base.collection.info.dim), np.float32)
        old = rows < count
        vectors[old], vectors[~old] = self.base.collection.vectors[rows[old]], self.overlay.vectors[rows[~old] - count]
        return rows, vectors

    def item_id(self, row: int) -> str:
        return self._part(row)[0].item_ids[self._part(row)[1]]

    def hit(self, row: int, score: float) -> Hit:
        rows, place = self._part(row)
        return Hit(rows.item_ids[place], score, rows.payloads[place])

    def row_of(self, item_id: str) -> int | None:
        """Where an item lies now; None if it was deleted or never there."""
        count = self.base.collection.info.count
        if item_id in self.overlay.place_of:
            place = self.overlay.place_of[item_id]
            return None if place is None else count + place
        return self.base.collection.row_of.get(item_id)

    def _part(self, row: int) -> tuple[Rows, int]:
        count = self.base.collection.info.count
        return (self.base.rows, row) if row < count else (self.overlay.rows, row - count)
