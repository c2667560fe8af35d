"""Files and deltas of a collection as one, and folding the deltas into new files when they have become many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitrine.catchup import applied_seq
from vitrine.collection import Collection, write_collection
from vitrine.deltas import DeltaLog
from vitrine.ports import Delta, Vectors

SHARE = 0.1
"""Deltas are folded into the files when they are this share of the items, or more."""

_LEAST = 256  # fewer deltas are cheap for every reader


@dataclass(frozen=True)
class Merged:
    """What readers see: the files with the deltas on top, sorted by item id.

    Attributes:
        vectors: float32 (N, D).
    """

    item_ids: list[str]
    vectors: Vectors
    payloads: list[dict[str, Any]]


def merge(collection: Collection, deltas: Sequence[Delta]) -> Merged:
    """The files of a collection with these deltas on top, at most one an item."""
    changed = {delta.item_id: delta for delta in deltas}
    kept = [row for row, item_id in enumerate(collection.item_ids) if item_id not in changed]
    added = sorted(
        (delta for delta in deltas if delta.vector is not None and delta.payload is not None),
        key=lambda delta: delta.item_id,
    )
    item_ids = [collection.item_ids[row] for row in kept] + [delta.item_id for delta in added]
    payloads = [collection.payloads[row] for row in kept] + [dict(delta.payload or {}) for delta in added]
    new = [np.asarray(delta.vector, np.float32) for delta in added]
    vectors = np.concatenate(
        [collection.vectors[kept], np.array(new, np.float32).reshape(len(new), collection.info.dim)]
    )
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    return Merged([item_ids[row] for row in order], vectors[order], [payloads[row] for row in order])


def is_due(collection: Collection, log: DeltaLog) -> bool:
    """Whether so many items changed since the files were written that new ones are worth their time."""
    count = log.count(collection.info.name, collection.info.seq)
    return count >= max(_LEAST, SHARE * collection.info.count)


def compact(collection: Collection, log: DeltaLog) -> Collection:
    """Write files that hold the deltas too, and open them. The deltas stay until `vitrine index gc`.

    Killed at any moment it leaves the collection as it was or as it becomes; both hold the same items.
    """
    info = collection.info
    applied = applied_seq(collection, log)
    if applied == info.seq:
        return collection
    # A delta beyond `applied` may come along: it is read again as a delta, and says the same.
    merged = merge(collection, log.read(info.name, info.seq))
    fields = asdict(info)
    for told in ("dim", "count", "vectors_sha256", "rows_sha256", "segment", "seq"):
        del fields[told]
    return write_collection(
        collection.root,
        **fields,
        seq=applied,
        vectors=merged.vectors,
        item_ids=merged.item_ids,
        payloads=merged.payloads,
    )
