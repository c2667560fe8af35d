"""What must hold of a collection and its index before they may go live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitrine.catalogue import Catalogue
from vitrine.collection import Collection
from vitrine.deltas import DeltaLog
from vitrine.errors import Refused, Unavailable
from vitrine.gates import Evidence, GateSettings
from vitrine.gates.soundness import health as health_gate
from vitrine.health import health
from vitrine.items import Item
from vitrine.ports import Index, Vectors
from vitrine.sampling import sample_rows

DEPTH = 10
_QUERIES = 64
_TIE = 1e-4
"""Scores that differ by less count as equal: engines round differently."""

_ITEMS_PER_RANK = 8


@dataclass(frozen=True)
class Content:
    """What a collection holds, its deltas included: N ids and unit vectors (N, D)."""

    item_ids: Sequence[str]
    vectors: Vectors


def content(collection: Collection, log: DeltaLog) -> Content:
    """Files and deltas together."""
    changed = {delta.item_id: delta for delta in log.read(collection.info.name, collection.info.seq)}
    kept = [row for row, item_id in enumerate(collection.item_ids) if item_id not in changed]
    added = {item_id: delta.vector for item_id, delta in changed.items() if delta.vector is not None}
    base: Vectors = np.asarray(collection.vectors[kept] if changed else collection.vectors)
    vectors = np.concatenate([base, np.stack(list(added.values()))]) if added else base
    return Content([*(collection.item_ids[row] for row in kept), *added], vectors)


def check_counts(found: Content, index: Index, catalogue: Catalogue, seq: int) -> None:
    """The collection holds exactly the catalogue's items, and so many does the index.

    Args:
        found: the collection's content.
        index: open over it, changes up to `seq` included.
        catalogue: it may change meanwhile; what changes after `seq` is not looked at.
        seq: up to where the collection was brought.

    Raises:
        Unavailable: something is missing or too much.
    """
    wanted = {item.item_id for item in catalogue.snapshot()[1]}
    moving = {change.item_id for change in catalogue.changes(seq)}
    wrong = sorted((wanted ^ set(found.item_ids)) - moving)
    if wrong:
        raise Unavailable(
            f"{len(wrong)} items are in the catalogue {catalogue.name} or in the collection, not in both, such as "
            f"{wrong[0]!r}; promote again"
        )
    count = index.count()
    if count != len(found.item_ids):
        raise Unavailable(f"the index holds {count} of {len(found.item_ids)} items; promote again")


def check_recall(found: Content, index: Index, least: float) -> float:
    """Share of the exact ten nearest that the index finds too, over a seeded sample of the items as queries.

    Raises:
        Refused: less than `least`.
    """
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
    recall = right / (depth * len(queries))
    if recall < least:
        raise Refused(
            f"the index finds {recall:.4f} of the exact {depth} nearest items, at least {least} are needed "
            "(gates.min_ann_recall); build it with other settings and promote again"
        )
    return recall


def check_health(ref: str, vectors: Vectors, items: Sequence[Item], settings: GateSettings) -> None:
    """The embedded catalogue is finite, of unit length, spread out, not collapsed.

    Raises:
        Refused: it is not; the message tells the numbers.
    """
    # A handful of items cannot span more dimensions than it has members.
    reachable = min(settings.min_effective_rank, len({item.images for item in items}) / _ITEMS_PER_RANK)
    evidence = Evidence(ref, None, health=health(vectors, items))
    verdict = health_gate(evidence, replace(settings, min_effective_rank=reachable))
    if not verdict.lets_pass:
        raise Refused(f"{ref} is not promoted, its embedded catalogue is not sound: {verdict.reason}")
