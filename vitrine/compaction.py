"""Folding the deltas of a collection into new files when they have become many."""

from __future__ import annotations

from dataclasses import asdict

from vitrine.catchup import applied_seq
from vitrine.collection import Collection, write_collection
from vitrine.collection_content import content
from vitrine.deltas import DeltaLog

SHARE = 0.1
"""Deltas are folded into the files when they are this share of the items, or more."""

_LEAST = 256  # fewer deltas are cheap for every reader


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
    merged = content(collection, log)
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
