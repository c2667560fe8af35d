"""Erasing an item from embedded catalogues: files, deltas, indexes, and vectors of unfinished promotions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from vitrine.collection import POINTER, Collection, open_collection
from vitrine.collection_content import content
from vitrine.collection_roles import Use, collections_here
from vitrine.deltas import DeltaLog
from vitrine.erased import segments_with, without
from vitrine.errors import Conflict
from vitrine.events import IndexBuilt
from vitrine.home import Home
from vitrine.ports import Delta
from vitrine.registry import Registry

_TRIES = 5


@dataclass(frozen=True)
class Embedded:
    """All collections of a catalogue.

    Attributes:
        renew: makes an index over new files of a collection and takes the item out of it.
    """

    home: Home
    deltas: DeltaLog
    catalogue: str
    item_id: str
    renew: Callable[[Collection, str], None]

    def all(self) -> list[Collection]:
        """Every finished collection of the catalogue, in use or not."""
        pointers = sorted(self.home.collections.glob(f"[!.]*/{POINTER}"))
        found = [open_collection(pointer.parent) for pointer in pointers]
        return [collection for collection in found if collection.info.catalogue == self.catalogue]

    def _holds(self, collection: Collection) -> bool:
        deltas = self.deltas.at(collection.info.name, [self.item_id])
        return self.item_id in collection.row_of or bool(deltas) or bool(segments_with(collection, {self.item_id}))

    def named(self) -> list[str]:
        """Names of the collections that hold the item."""
        return [found.info.name for found in self.all() if self._holds(found)]

    def clean(self, seq: int | None) -> None:
        """Write files without the item, mark it as deleted by the change `seq`, renew the indexes."""
        for collection in self.all():
            shutil.rmtree(self.home.root / "building" / collection.info.name, ignore_errors=True)
            if self._holds(collection):
                self._clean(collection, seq)

    def _clean(self, collection: Collection, seq: int | None) -> None:
        name = collection.info.name
        if seq is not None:
            self.deltas.write(name, [Delta(seq, self.item_id, None, None)])
        for _ in range(_TRIES):
            if self.item_id not in collection.row_of:
                break
            collection = without(collection, {self.item_id})  # somebody's newer files may have come between
        else:
            raise Conflict(f"collection {name} is being written by others without end; run the command again")
        self.renew(collection, self.item_id)
        for segment in segments_with(collection, {self.item_id}):
            shutil.rmtree(segment, ignore_errors=True)

    def announce(self, registry: Registry, why: str) -> None:
        """Let servers load the collections in use anew, those too that do not reach the database at this moment."""
        for name, use in collections_here(registry.log.read(), self.home.collections).items():
            if use.production.catalogue != self.catalogue or use.role == "promotion":
                continue
            registry.append(self._built_again(registry, name, use, why))

    def _built_again(self, registry: Registry, name: str, use: Use, why: str) -> IndexBuilt:
        collection, number = open_collection(self.home.collections / name), use.production.version
        known = registry.state().model(use.model).versions[number].indexes
        before = next((event for event in reversed(known) if event.collection == name), None)
        told = {
            "catalogue_digest": collection.info.catalogue_digest,
            "items": len(content(collection, self.deltas).item_ids),
            "segment": collection.info.segment,
            "why": why,
            "seq": 0,
            **registry.stamp(),
        }
        if before is not None:
            return replace(before, **told)
        return IndexBuilt(model=use.model, version=number, catalogue=self.catalogue, collection=name, **told)
