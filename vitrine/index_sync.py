"""`vitrine index sync`: what changed in a dataset goes into its catalogue, and from there into the collections in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catalogue_changes import Changed
from vitrine.catchup import CaughtUp, catch_up, when_needed
from vitrine.collection import open_collection
from vitrine.collection_roles import Use, collections_in_use
from vitrine.compaction import compact, is_due
from vitrine.dataset import dataset_names, find_dataset
from vitrine.encoder import load_encoder
from vitrine.errors import Conflict
from vitrine.home import Home
from vitrine.index_choice import open_index
from vitrine.progress import Track, quiet
from vitrine.registry import Registry


@dataclass(frozen=True)
class Synced:
    """What became of one collection.

    Attributes:
        compacted: its deltas are in new files now.
    """

    collection: str
    role: str
    caught_up: CaughtUp
    compacted: bool


@dataclass(frozen=True)
class CatalogueSynced:
    """What became of one catalogue and of its collections in use; `changes` counts items by outcome."""

    catalogue: str
    seq: int
    changes: Mapping[str, int]
    collections: tuple[Synced, ...]


def sync_catalogue(registry: Registry, home: Home, name: str, index: str, *, track: Track = quiet) -> CatalogueSynced:
    """Bring a catalogue up to its dataset, where it has one, and its collections up to the catalogue.

    Args:
        registry: says which collections are in use.
        home: where they lie.
        name: the catalogue.
        index: the kind of index that servers use.
        track: told of items to embed.

    Raises:
        NotFound: no such catalogue.
        Conflict: a collection does not follow this catalogue.
        Unavailable: the index or the database cannot be reached; run it again.
    """
    catalogue = open_catalogue(home, name)
    changes = catalogue.sync(find_dataset(home, name)) if name in dataset_names(home) else Changed(0, (), ())
    uses = collections_in_use(registry.log.read())
    wanted = [use for use in uses.values() if use.role != "promotion" and use.production.catalogue == name]
    done = tuple(_sync(registry, home, catalogue, use, index, track) for use in wanted)
    return CatalogueSynced(name, catalogue.seq, changes.counts(), done)


def searched_catalogues(registry: Registry) -> list[str]:
    """Catalogues with a collection in use, sorted."""
    uses = collections_in_use(registry.log.read()).values()
    return sorted({use.production.catalogue for use in uses if use.role != "promotion"})


def _sync(registry: Registry, home: Home, catalogue: Catalogue, use: Use, kind: str, track: Track) -> Synced:
    collection = open_collection(home.collections / use.production.collection)
    version = registry.resolve(f"{use.model}@{use.production.version}")
    if collection.info.digest != version.digest:
        raise Conflict(
            f"collection {collection.info.name} was embedded by other content than {use.model}@{version.number}; "
            f"embed the catalogue again: vitrine promote {use.model}@{version.number}"
        )
    load = partial(load_encoder, registry.open(f"{use.model}@{version.number}"))
    index = open_index(collection, home, kind)
    try:
        done = catch_up(collection, catalogue, when_needed(load, catalogue, track), index)
    finally:
        index.close()
    compacted = is_due(collection, catalogue.deltas)
    if compacted:
        compact(collection, catalogue.deltas)
    return Synced(collection.info.name, use.role, done, compacted)
