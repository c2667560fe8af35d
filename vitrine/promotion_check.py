"""What must hold of a collection and its index before they may go live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitrine.catalogue import Catalogue
from vitrine.collection import Collection, open_collection
from vitrine.collection_content import DEPTH, Content, sampled_recall
from vitrine.errors import Refused, Unavailable
from vitrine.gates import Evidence, GateSettings
from vitrine.gates.soundness import health as health_gate
from vitrine.health import health
from vitrine.items import Item
from vitrine.ports import Index, Vectors

_ITEMS_PER_RANK = 8


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


def check_files(collection: Collection) -> None:
    """The files that were looked at are still the collection's.

    Raises:
        Unavailable: somebody wrote newer ones, such as `vitrine data forget`.
    """
    if open_collection(collection.root).info != collection.info:
        raise Unavailable(
            f"the files of {collection.info.name} were written anew while they were checked, by vitrine data forget or "
            "index sync; promote again"
        )


def check_recall(found: Content, index: Index, least: float) -> float:
    """Share of the exact ten nearest that the index finds too, over a seeded sample of the items as queries.

    Raises:
        Refused: less than `least`.
    """
    recall = sampled_recall(found, index)
    if recall < least:
        raise Refused(
            f"the index finds {recall:.4f} of the exact {DEPTH} nearest items, at least {least} are needed "
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
