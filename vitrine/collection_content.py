"""What readers see of a collection, files and deltas as one, and how much of it an index finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrine.collection import Collection
from vitrine.deltas import DeltaLog
from vitrine.ports import Delta, Index, Vectors
from vitrine.sampling import sample_rows

DEPTH = 10
_QUERIES = 64
_TIE = 1e-4
"""Scores that differ by less count as equal: engines round differently."""


@dataclass(frozen=True)
class Content:
    """What a collection holds, sorted by item id: N ids, unit vectors (N, D) and payloads."""

    item_ids: Sequence[str]
    vectors: Vectors
    payloads: Sequence[dict[str, Any]] = ()


def content(collection: Collection, log: DeltaLog) -> Content:
    """Files and deltas together, as they are now.

    Raises:
        Conflict: there are newer files of the collection; open it again.
    """
    return merge(collection, log.read(collection.info.name, collection.info.seq))


def merge(collection: Collection, deltas: Sequence[Delta]) -> Content:
    """The files of a collection with these deltas on top, at most one an item; without any, nothing is copied."""
    if not deltas:
        return Content(collection.item_ids, collection.vectors, collection.payloads)
    changed = {delta.item_id for delta in deltas}
    kept = [row for row, item_id in enumerate(collection.item_ids) if item_id not in changed]
    added = [delta for delta in deltas if delta.vector is not None]
    item_ids = [*(collection.item_ids[row] for row in kept), *(delta.item_id for delta in added)]
    payloads = [*(collection.payloads[row] for row in kept), *(dict(delta.payload or {}) for delta in added)]
    new = np.array([delta.vector for delta in added], np.float32).reshape(len(added), collection.info.dim)
    vectors = np.concatenate([collection.vectors[kept], new])
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    return Content([item_ids[row] for row in order], vectors[order], [payloads[row] for row in order])


def sampled_recall(found: Content, index: Index) -> float:
    """Share of the exact ten nearest that the index finds too, over a seeded sample of the items as queries."""
    if not len(found.item_ids):
        return 1.0
    queries = found.vectors[sample_rows(len(found.item_ids), _QUERIES)]  # (Q, D)
    depth = min(DEPTH, len(found.item_ids))
    scores = queries @ found.vectors.T  # (Q, N)
    kth = np.partition(scores, -depth, axis=1)[:, -depth]
    row_of = {item_id: row for row, item_id in enumerate(found.item_ids)}
    right = 0
    for place, hits in enumerate(index.search(queries, depth)):
        rows = [row_of[hit.item_id] for hit in hits if hit.item_id in row_of]
        right += int((scores[place, rows] >= kth[place] - _TIE).sum())
    return right / (depth * len(queries))
