"""Bringing a collection up to the catalogue's last change: embed what has to be, write deltas, tell the index.

It may be done by several processes at once and be killed at any moment: deltas are written only forward, and what was
not claimed as applied is done again. A change of payload alone keeps the vector that is there.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitrine.catalogue import Catalogue
from vitrine.catalogue_changes import Change
from vitrine.collection import Collection
from vitrine.deltas import DeltaLog
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder
from vitrine.errors import Conflict, Unavailable, VitrineError
from vitrine.failpoints import point, reach
from vitrine.items import Item
from vitrine.ports import Delta, Index, Vectors
from vitrine.progress import Track, quiet

EMBEDDED = point("catchup.embedded", "some changed items are embedded, their deltas are not written")
WRITTEN = point("catchup.written", "the deltas of some changes are written, the index has not taken them in")

_AT_A_TIME = 32  # changes between two moments at which a killed run goes on: a batch of the model

Embed = Callable[[Sequence[Item]], Vectors]
"""Items -> one unit vector each, float32 (len(items), D), in order."""


@dataclass(frozen=True)
class CaughtUp:
    """What was done.

    Attributes:
        seq: the collection has every change of the catalogue up to this number.
        embedded, payload_only, deleted: items.
    """

    seq: int
    embedded: int = 0
    payload_only: int = 0
    deleted: int = 0


def catch_up(
    collection: Collection,
    catalogue: Catalogue,
    encoder: Encoder | Embed,
    index: Index | None = None,
    track: Track = quiet,
    *,
    seen: int | None = None,
) -> CaughtUp:
    """Make the collection, and the open index over it, right up to the catalogue's last change.

    Args:
        collection: as opened; its files stay as they are.
        catalogue: the one that it embeds.
        encoder: the collection's version, or what embeds by it; asked only if there is something to embed.
        index: open over the collection; None where none is open.
        track: told of changes, some at a time.
        seen: the index has all changes up to here, as an earlier call said; by default what is in the files.

    Raises:
        Conflict: the collection embeds another history or a later state of the catalogue, or has newer files than these.
        NotFound, Tampered, BadInput: a photo is missing, was changed or cannot be read; all other items are done.
        Unavailable: the index or the database cannot be reached; call again.
    """
    check_history(collection, catalogue)
    _check_not_ahead(collection, catalogue)
    embed = _by_encoder(encoder, catalogue) if isinstance(encoder, Encoder) else encoder
    done, head = CaughtUp(applied_seq(collection, catalogue.deltas)), catalogue.seq
    changes, failures = catalogue.changes(done.seq), list[VitrineError]()
    parts = [changes[start : start + _AT_A_TIME] for start in range(0, len(changes), _AT_A_TIME)]
    sound: set[int] = set()
    # Each process begins somewhere else and skips what others wrote meanwhile: together they embed each item about once.
    places = random.sample(range(len(parts)), len(parts))
    for place in track(places, f"bringing {collection.info.name} up to date", len(parts)):
        taken = take_in(parts[place], collection, catalogue.deltas, embed)
        failures += taken.failures
        sound |= set() if taken.failures else {place}
        done = replace(
            done,
            embedded=done.embedded + taken.embedded,
            payload_only=done.payload_only + taken.payload_only,
            deleted=done.deleted + taken.deleted,
        )
    whole = list(itertools.takewhile(sound.__contains__, range(len(parts))))
    if whole:
        done = replace(done, seq=parts[whole[-1]][-1].seq)
        catalogue.deltas.write(collection.info.name, [], applied=done.seq)
    if not failures and done.seq < head:  # the last numbers are of items that were erased since
        catalogue.deltas.write(collection.info.name, [], applied=head)
        done = replace(done, seq=head)
    if index is not None:
        refresh(index, collection, catalogue.deltas, seen)
    if failures:
        raise failures[0]
    return done


@dataclass(frozen=True)
class TakenIn:
    """What a collection now has of some changes.

    Attributes:
        deltas: theirs, also those that were there.
        embedded, payload_only, deleted: items that were written.
        failures: why items could not be embedded; they have no delta.
    """

    deltas: list[Delta]
    embedded: int
    payload_only: int
    deleted: int
    failures: list[VitrineError]


def take_in(changes: Sequence[Change], collection: Collection, log: DeltaLog, embed: Embed) -> TakenIn:
    """Write the deltas of some changes of the catalogue, in order of their numbers.

    Args:
        changes: what changed.
        collection: what has to follow.
        log: where its deltas are.
        embed: asked for those whose vector the collection does not have.

    Raises:
        Unavailable: the database, or what embeds, cannot be reached; nothing is lost.
    """
    name = collection.info.name
    known = log.at(name, [change.item_id for change in changes], after=collection.info.seq)
    waiting = [change for change in changes if not _has(known, change)]
    vectors = {change.item_id: _kept(collection, known, change) for change in waiting}
    missing = [change.item for change in waiting if change.item is not None and vectors[change.item_id] is None]
    made, failures = _embedded(missing, embed) if missing else ({}, [])
    reach(EMBEDDED)
    vectors.update(made)
    written = [_delta(c, vectors[c.item_id]) for c in waiting if c.item is None or vectors[c.item_id] is not None]
    log.write(name, written)
    reach(WRITTEN)
    deleted = sum(delta.vector is None for delta in written)
    there = [known[change.item_id] for change in changes if _has(known, change)]
    return TakenIn(there + written, len(made), len(written) - len(made) - deleted, deleted, failures)


def refresh(index: Index, collection: Collection, log: DeltaLog, seen: int | None = None) -> int:
    """Give an open index the deltas after `seen`, by default all since the collection's files were written.

    Returns:
        What to pass as `seen` the next time. It is what was applied without a gap: a delta of a lower number than the
        highest may still come, from a slower process.

    Raises:
        Conflict: there are newer files of the collection; open it again.
    """
    applied = applied_seq(collection, log)
    deltas = log.read(collection.info.name, collection.info.seq if seen is None else seen)
    if deltas:
        index.apply(deltas)
    return applied


def rejoin(index: Index, newest: Collection, catalogue: Catalogue, seen: int) -> None:
    """Give an index that fell behind removed deltas what newer files of its collection have of these changes.

    Args:
        index: open over older files.
        newest: the collection as it is now; go on with it and its number.
        catalogue: the one that it embeds.
        seen: the index has all changes up to here.
    """
    deltas = []
    for change in catalogue.changes(seen):
        vector = _kept(newest, {}, change)
        if change.item is None or vector is not None:  # what is newer than the files is a delta
            deltas.append(_delta(change, vector))
    index.apply(deltas)


def applied_seq(collection: Collection, log: DeltaLog) -> int:
    """Up to which number the collection, files and deltas together, has every change."""
    return max(collection.info.seq, log.applied(collection.info.name))


def when_needed(load: Callable[[], Encoder], catalogue: Catalogue) -> Embed:
    """An encoder that is loaded only if something must be embedded."""
    loaded: list[Encoder] = []

    def embed(items: Sequence[Item]) -> Vectors:
        if not loaded:
            loaded.append(load())
        return _by_encoder(loaded[0], catalogue)(items)

    return embed


def _by_encoder(encoder: Encoder, catalogue: Catalogue) -> Embed:
    return lambda items: embed_items(encoder, catalogue, items)


def check_history(collection: Collection, catalogue: Catalogue) -> None:
    """A collection can only follow the catalogue of which it has a state.

    Raises:
        Conflict: it does not follow this one.
    """
    info = collection.info
    if info.history != catalogue.history or info.catalogue != catalogue.name:
        raise Conflict(
            f"collection {info.name} does not follow the changes of catalogue {catalogue.name} of this registry: it was "
            f"embedded before there was one, or for another one; embed it again: vitrine promote {info.model}@{info.version}"
        )


def _check_not_ahead(collection: Collection, catalogue: Catalogue) -> None:
    info, last = collection.info, catalogue.seq
    if info.seq > last:
        raise Conflict(
            f"collection {info.name} has the changes of catalogue {catalogue.name} up to {info.seq}, the catalogue itself "
            f"only {last}: its database was restored from an older backup; remove {collection.root} and embed again: "
            f"vitrine promote {info.model}@{info.version}"
        )


def _embedded(items: Sequence[Item], embed: Embed) -> tuple[dict[str, NDArray[np.float32]], list[VitrineError]]:
    """Vectors by item id. One item that cannot be embedded does not keep the others from it."""
    try:
        return {item.item_id: vector for item, vector in zip(items, embed(items), strict=True)}, []
    except Unavailable:
        raise
    except VitrineError as error:
        if len(items) == 1:
            return {}, [error]
    found: dict[str, NDArray[np.float32]] = {}
    failures: list[VitrineError] = []
    for item in items:
        vectors, failed = _embedded([item], embed)
        found.update(vectors)
        failures += failed
    return found, failures


def _delta(change: Change, vector: NDArray[np.float32] | None) -> Delta:
    payload = None if change.item is None else change.item.payload()
    return Delta(change.seq, change.item_id, None if change.item is None else vector, payload)


def _has(known: dict[str, Delta], change: Change) -> bool:
    """Somebody wrote the change's delta already, or that of a later one."""
    return change.item_id in known and known[change.item_id].seq >= change.seq


def _kept(collection: Collection, known: dict[str, Delta], change: Change) -> NDArray[np.float32] | None:
    """The vector that the collection has of the item, if its content did not change since."""
    delta = known.get(change.item_id)
    if delta is not None:
        return delta.vector if delta.seq >= change.content_seq else None
    row = collection.row_of.get(change.item_id)
    if row is None or collection.info.seq < change.content_seq:
        return None
    vector: NDArray[np.float32] = np.array(collection.vectors[row])
    return vector
