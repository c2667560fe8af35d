"""Keeps what this server searches right: the living catalogue, the deltas of loaded collections, and their indexes.

`refresh` is called at every look of the follower; `take_in` by the RPC that has just changed the catalogue. Both may run
at once, here and in other servers: deltas are written only forward, and an index takes a change in as often as it is told.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.snapshot import Following, Snapshot
from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catalogue_changes import Change
from vitrine.catchup import Embed, catch_up, check_history, rejoin, take_in
from vitrine.collection import open_collection
from vitrine.encoder import Encoder, pool_images
from vitrine.errors import Unsupported, VitrineError
from vitrine.home import Home
from vitrine.items import Item
from vitrine.ports import Index, Vectors

log = logging.getLogger("vitrine.serving")

Pixels = NDArray[np.uint8]
Run = Callable[[Encoder, Pixels], Vectors]
"""Runs a version over prepared photos (B, H, W, 3), in a thread of its choice: unit vectors (B, D)."""

_BATCH = 8  # photos of the background in one run of the model: requests wait for no more than that


class Keeper:
    """The catalogues behind the collections of this server. Safe for several threads.

    Args:
        home: where catalogues and photos are.
        model: the one thread that runs models; the background waits its turn there.
    """

    def __init__(self, home: Home, model: Executor) -> None:
        self._model = model
        self._open = lru_cache(8)(lambda name: open_catalogue(home, name))
        self._told: set[str] = set()
        # One a collection: a candidate that has much to embed keeps no switch waiting.
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def catalogue(self, snapshot: Snapshot) -> Catalogue:
        """The catalogue that the snapshot's collection follows.

        Raises:
            Unsupported: it has no collection.
            Conflict, NotFound: its collection follows no catalogue of this registry.
        """
        following, _ = _searched(snapshot)
        catalogue: Catalogue = self._open(following.files.info.catalogue)
        check_history(following.files, catalogue)
        return catalogue

    def refresh(self, snapshot: Snapshot) -> bool:
        """Take over what changed since the last call.

        Returns:
            False if that failed, or was done in part: it is logged, and searches go on with what there is.
        """
        return self._follow(snapshot, self._beside_requests)

    def refresh_here(self, snapshot: Snapshot) -> None:
        """The same, with the version run in the calling thread: for a candidate, whose engine no request waits for."""
        self._follow(snapshot, _in_this_thread)

    def _follow(self, snapshot: Snapshot, run: Run) -> bool:
        if snapshot.index is None or snapshot.following is None:
            return True
        try:
            with self._busy[snapshot.collection]:
                self._refresh(snapshot, run)
        except VitrineError as error:
            self._tell(f"{snapshot.collection}: {error}")
            return False
        except Exception:
            log.exception("bringing a collection up to date failed unexpectedly")
            return False
        return True

    def take_in(self, snapshot: Snapshot, changes: Sequence[Change], vectors: dict[str, Vectors]) -> None:
        """Make searches of this snapshot see these changes now.

        Args:
            snapshot: its index is told.
            changes: of its catalogue, in order.
            vectors: float32 (D,) by item id, of those that are embedded already, by this very version.

        Raises:
            VitrineError: what could not be embedded, or the index or database that cannot be reached.
        """
        following, index = _searched(snapshot)
        catalogue = self.catalogue(snapshot)
        embed = _embedding(snapshot.encoder, catalogue, self._beside_requests)

        def ready_or_embedded(items: Sequence[Item]) -> Vectors:
            rest = [item for item in items if item.item_id not in vectors]
            ready = vectors | {
                item.item_id: vector for item, vector in zip(rest, embed(rest) if rest else [], strict=True)
            }
            return np.stack([ready[item.item_id] for item in items])

        taken = take_in(changes, following.files, catalogue.deltas, ready_or_embedded)
        index.apply(taken.deltas)
        if taken.failures:
            raise taken.failures[0]

    def _refresh(self, snapshot: Snapshot, run: Run) -> None:
        following, index = _searched(snapshot)
        catalogue = self.catalogue(snapshot)
        if following.seq is not None and catalogue.seq == following.seq:
            return
        self._join_newer_files(following, index, catalogue)
        embed = _embedding(snapshot.encoder, catalogue, run)
        done = catch_up(following.files, catalogue, embed, index, seen=following.seq)
        following.seq = done.seq
        if done.embedded or done.payload_only or done.deleted:
            log.info("catalogue followed", extra={"collection": snapshot.collection, "seq": done.seq})

    @staticmethod
    def _join_newer_files(following: Following, index: Index, catalogue: Catalogue) -> None:
        """Deltas that this server never saw may have gone into newer files of the collection."""
        seen = following.files.info.seq if following.seq is None else following.seq
        if not catalogue.deltas.misses(following.files.info.name, seen):
            return
        newest = open_collection(following.files.root)
        newest.load()
        rejoin(index, newest, catalogue, seen)
        following.files, following.seq = newest, newest.info.seq

    def _beside_requests(self, encoder: Encoder, pixels: Pixels) -> Vectors:
        """In the thread of all models, in turn with requests."""
        return self._model.submit(encoder.run, pixels).result().vectors

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:  # not twice a second
            self._told.add(sentence)
            log.warning("the collection cannot follow its catalogue", extra={"reason": sentence})


def _searched(snapshot: Snapshot) -> tuple[Following, Index]:
    if snapshot.index is None or snapshot.following is None:
        raise Unsupported(
            f"this server has {snapshot.name} but no embedded catalogue, so there is nothing to change; start it with "
            "VITRINE_HOME or VITRINE_REGISTRY_URL naming a registry where a version was promoted (vitrine promote)"
        )
    return snapshot.following, snapshot.index


def _in_this_thread(encoder: Encoder, pixels: Pixels) -> Vectors:
    return encoder.run(pixels).vectors


def _embedding(encoder: Encoder, catalogue: Catalogue, run: Run) -> Embed:
    """Items through a loaded version, a few photos at a time."""

    def embed(items: Sequence[Item]) -> Vectors:
        photos = [image for item in items for image in item.images]
        parts = [photos[at : at + _BATCH] for at in range(0, len(photos), _BATCH)]
        rows = [run(encoder, np.stack([encoder.decode(catalogue.photo(image)) for image in part])) for part in parts]
        return pool_images(np.concatenate(rows), [len(item.images) for item in items])

    return embed
