"""Erasing an item from embedded catalogues: files, deltas, indexes, and vectors of unfinished promotions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from vitrine.collection import POINTER, ROWS, Collection, open_collection, write_collection
from vitrine.collection_content import merge
from vitrine.deltas import DeltaLog
from vitrine.errors import Conflict
from vitrine.home import Home
from vitrine.ports import Delta

_TRIES = 5
_KEPT = ("name", "catalogue", "catalogue_digest", "model", "version", "digest", "seq", "history", "precision")


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
        return self.item_id in collection.row_of or bool(deltas) or bool(_segments_with(collection, self.item_id))

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
            collection = _without(collection, self.item_id)  # somebody's newer files may have come between
        else:
            raise Conflict(f"collection {name} is being written by others without end; run the command again")
        self.renew(collection, self.item_id)
        for segment in _segments_with(collection, self.item_id):
            shutil.rmtree(segment, ignore_errors=True)


def _segments_with(collection: Collection, item_id: str) -> list[Path]:
    """Segments of the collection, old ones too, whose rows name the item."""
    tables = sorted(collection.root.glob(f"*/{ROWS}"))
    return [
        path.parent for path in tables if item_id in pq.read_table(path, columns=["item_id"])["item_id"].to_pylist()
    ]


def _without(collection: Collection, item_id: str) -> Collection:
    """The collection's files without an item, as of the same number."""
    merged, info = merge(collection, [Delta(collection.info.seq, item_id, None, None)]), collection.info
    kept = {key: getattr(info, key) for key in _KEPT}
    return write_collection(
        collection.root, vectors=merged.vectors, item_ids=merged.item_ids, payloads=merged.payloads, **kept
    )
