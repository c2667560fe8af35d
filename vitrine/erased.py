"""Items that a catalogue has forgotten, in files that somebody was writing meanwhile.

A catalogue keeps a row of every item that it ever had, deleted ones included, until `vitrine data forget` removes it. So
an item of a collection that has no row was erased, and whoever holds such files writes them anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection as Container
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from vitrine.catalogue import Catalogue
from vitrine.collection import ROWS, Collection, open_collection, write_collection
from vitrine.collection_content import merge
from vitrine.ports import Delta

_TOLD_ANEW = {"dim", "count", "vectors_sha256", "rows_sha256", "segment"}


def strip_erased(collection: Collection, catalogue: Catalogue) -> Collection:
    """The collection as it is now, loaded, without what its catalogue has forgotten; older files that name it go too.

    Raises:
        Tampered: its files are damaged, or were written anew at this very moment; promote again.
    """
    newest = open_collection(collection.root)
    newest.load()
    erased = set(newest.item_ids) - catalogue.known_ids()
    if not erased:
        return newest
    clean = without(newest, erased)
    clean.load()
    for segment in segments_with(clean, erased):
        shutil.rmtree(segment, ignore_errors=True)
    return clean


def without(collection: Collection, item_ids: Container[str]) -> Collection:
    """New files of the collection without these items, as of the same number."""
    info = collection.info
    merged = merge(collection, [Delta(info.seq, item_id, None, None) for item_id in sorted(item_ids)])
    kept = {key: value for key, value in asdict(info).items() if key not in _TOLD_ANEW}
    return write_collection(
        collection.root, vectors=merged.vectors, item_ids=merged.item_ids, payloads=merged.payloads, **kept
    )


def segments_with(collection: Collection, item_ids: Container[str]) -> list[Path]:
    """Segments of the collection, old ones too, whose rows name one of these items."""
    tables = sorted(collection.root.glob(f"*/{ROWS}"))
    return [path.parent for path in tables if not _ids(path).isdisjoint(item_ids)]


def _ids(path: Path) -> set[str]:
    return set(pq.read_table(path, columns=["item_id"])["item_id"].to_pylist())
