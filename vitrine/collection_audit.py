"""What `vitrine index ls` shows of a collection and what `vitrine index verify` finds wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitrine.catalogue import Catalogue, catalogue_names, open_catalogue
from vitrine.catchup import applied_seq, refresh
from vitrine.collection import POINTER, Collection, open_collection
from vitrine.collection_content import Content, content, sampled_recall
from vitrine.collection_roles import Use, collections_in_use
from vitrine.deltas import DeltaLog
from vitrine.errors import Unavailable, VitrineError
from vitrine.home import Home
from vitrine.index_choice import open_index
from vitrine.lifecycle import Production
from vitrine.ports import Delta, Index
from vitrine.progress import Track, quiet
from vitrine.registry import Registry

LEAST_RECALL = 0.98
"""Of a sample's ten nearest items by exact search, the share that the index must find."""

_UNREADABLE = "its files are missing or damaged; see: vitrine index verify"
_UNIT = 1e-3  # how far from 1 a vector's length may be


@dataclass(frozen=True)
class Summary:
    """One row of `vitrine index ls`.

    Attributes:
        role: "live", "rollback", "shadow", "promotion", or "none".
        lag: changes of the catalogue that the collection does not have yet; None where it follows none.
        size: bytes on disk, old segments included.
        problem: why nothing is known of its content; "" where it can be read.
    """

    collection: str
    catalogue: str
    model: str
    version: int
    role: str
    items: int
    seq: int
    lag: int | None
    deltas: int
    size: int
    problem: str = ""


def summaries(registry: Registry, home: Home) -> list[Summary]:
    """Every finished collection, sorted by name; vectors are not read."""
    uses = collections_in_use(registry.log.read())
    log = DeltaLog(home.registry_url)
    return [_summary_or_problem(folder, uses, home, log) for folder in collection_folders(home.collections)]


def verify_collections(
    registry: Registry, home: Home, name: str | None, kind: str, *, track: Track = quiet
) -> tuple[list[str], list[str]]:
    """Read collections again, one or all; an index is looked at where the collection is in use.

    Returns:
        Names of the collections, and one sentence a problem.

    Raises:
        NotFound: no collection of that name.
        Unavailable: the index server cannot be reached.
    """
    uses = collections_in_use(registry.log.read())
    folders = [open_collection(home.collections / name).root] if name else collection_folders(home.collections)
    found: list[str] = []
    for folder in track(folders, "verifying collections"):
        found += _problems(folder, registry, home, kind if folder.name in uses else "")
    return [folder.name for folder in folders], found


def collection_folders(root: Path) -> list[Path]:
    """Folders of finished collections, sorted by name."""
    return sorted(path.parent for path in root.glob(f"[!.]*/{POINTER}"))


def _summary_or_problem(folder: Path, uses: dict[str, Use], home: Home, log: DeltaLog) -> Summary:
    try:
        return _summary(folder, uses, home, log)
    except Unavailable:
        raise
    except (VitrineError, OSError, pa.ArrowInvalid) as error:
        use, problem = uses.get(folder.name), str(error) if isinstance(error, VitrineError) else _UNREADABLE
    production = use.production if use else Production(0, "", folder.name)
    return Summary(
        folder.name,
        production.catalogue,
        use.model if use else "",
        production.version,
        use.role if use else "none",
        items=0,
        seq=0,
        lag=None,
        deltas=0,
        size=_size(folder),
        problem=problem,
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _summary(folder: Path, uses: dict[str, Use], home: Home, log: DeltaLog) -> Summary:
    collection = open_collection(folder)
    info, applied = collection.info, applied_seq(collection, log)
    deltas = log.read(info.name, info.seq)
    catalogue = _followed(collection, home)
    use = uses.get(info.name)
    return Summary(
        info.name,
        info.catalogue,
        info.model,
        info.version,
        use.role if use else "none",
        len(_item_ids(collection, deltas)),
        applied,
        len(catalogue.changes(applied)) if catalogue else None,
        len(deltas),
        _size(folder),
    )


def _followed(collection: Collection, home: Home) -> Catalogue | None:
    """The catalogue whose changes the collection follows, or None."""
    if collection.info.catalogue not in catalogue_names(home):
        return None
    catalogue = open_catalogue(home, collection.info.catalogue)
    return catalogue if catalogue.history == collection.info.history else None


def _problems(folder: Path, registry: Registry, home: Home, kind: str) -> list[str]:
    try:
        collection = open_collection(folder)
        collection.insist_on(registry.resolve(f"{collection.info.model}@{collection.info.version}").digest)
        collection.load()
        index = open_index(collection, home, kind) if kind else None
    except Unavailable:
        raise
    except VitrineError as error:
        return [f"{folder.name}: {error}"]
    log = DeltaLog(home.registry_url)
    try:
        if index is not None:
            refresh(index, collection, log)
        return problems(collection, _followed(collection, home), log, index)
    finally:
        if index is not None:
            index.close()


def problems(collection: Collection, catalogue: Catalogue | None, log: DeltaLog, index: Index | None) -> list[str]:
    """Read a collection, its deltas and its index again; one sentence a problem, none if all is well."""
    name = collection.info.name
    try:
        collection.load()
        there = content(collection, log)
    except (VitrineError, ValueError) as error:
        return [f"{name}: {error}"]
    found = [*_bad_vectors(there)]
    if catalogue is not None:
        found += _against_catalogue(there, catalogue, applied_seq(collection, log))
    if index is not None and not found:
        found += _against_index(there, index)
    return [f"{name}: {sentence}" for sentence in found]


def _item_ids(collection: Collection, deltas: Sequence[Delta]) -> set[str]:
    gone = {delta.item_id for delta in deltas if delta.vector is None}
    return (set(collection.item_ids) | {delta.item_id for delta in deltas}) - gone


def _bad_vectors(there: Content) -> list[str]:
    lengths = np.linalg.norm(there.vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < _UNIT))
    if not len(bad):
        return []
    first = there.item_ids[int(bad[0])]
    return [f"{len(bad)} vectors are not of length 1, the first is that of item {first!r}; promote the version again"]


def _against_catalogue(there: Content, catalogue: Catalogue, applied: int) -> list[str]:
    """The items that the collection should have by now, with the payloads that they should have."""
    held = dict(zip(there.item_ids, there.payloads, strict=True))
    changes = catalogue.changes(0)
    known = {change.item_id for change in changes}
    settled = [change for change in changes if change.seq <= applied]
    wrong = {
        "are missing": [c.item_id for c in settled if c.item is not None and c.item_id not in held],
        "were deleted from the catalogue and are still there": [
            c.item_id for c in settled if c.item is None and c.item_id in held
        ],
        "are in no catalogue": sorted(set(held) - known),
        "have another payload than in the catalogue": [
            c.item_id
            for c in settled
            if c.item is not None and c.item_id in held and held[c.item_id] != c.item.payload()
        ],
    }
    return [
        f"{len(ids)} items {what}, the first is {ids[0]!r}; promote the version again"
        for what, ids in wrong.items()
        if ids
    ]


def _against_index(there: Content, index: Index) -> list[str]:
    count = index.count()
    if count != len(there.item_ids):
        return [f"the index holds {count} items, the collection {len(there.item_ids)}; run: vitrine index sync"]
    recall = sampled_recall(there, index)
    if recall < LEAST_RECALL:
        return [f"the index finds {recall:.3f} of the nearest items of a sample, at least {LEAST_RECALL} is needed"]
    return []
