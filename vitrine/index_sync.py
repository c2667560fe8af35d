"""`vitrine index sync`: what changed in a dataset goes into its catalogue, and from there into the collections in use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catalogue_changes import Changed
from vitrine.catchup import CaughtUp, catch_up
from vitrine.collection import open_collection
from vitrine.collection_roles import Use, collections_here
from vitrine.compaction import compact, is_due
from vitrine.dataset import dataset_names, find_dataset
from vitrine.home import Home
from vitrine.promotion_tools import Tools
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


def sync_catalogue(tools: Tools, name: str) -> CatalogueSynced:
    """Bring a catalogue up to its dataset, where it has one, and its collections up to the catalogue.

    Raises:
        NotFound: no such catalogue.
        Conflict: a collection does not follow this catalogue.
        Unavailable: the index or the database cannot be reached; run it again.
    """
    catalogue = open_catalogue(tools.home, name, tools.track)
    datasets = dataset_names(tools.home)
    dataset = find_dataset(tools.home, name) if name in datasets else None
    changes = catalogue.sync(dataset, tools.track) if dataset else Changed(0, (), ())
    uses = collections_here(tools.registry.log.read(), tools.home.collections)
    wanted = [use for use in uses.values() if use.role != "promotion" and use.production.catalogue == name]
    done = tuple(_sync(tools, catalogue, use) for use in wanted)
    return CatalogueSynced(name, catalogue.seq, changes.counts(), done)


def searched_catalogues(registry: Registry, home: Home) -> list[str]:
    """Catalogues with a collection in use, sorted."""
    uses = collections_here(registry.log.read(), home.collections).values()
    return sorted({use.production.catalogue for use in uses if use.role != "promotion"})


def _sync(tools: Tools, catalogue: Catalogue, use: Use) -> Synced:
    collection = open_collection(tools.home.collections / use.production.collection)
    version = tools.registry.resolve(f"{use.model}@{use.production.version}")
    collection.insist_on(version.digest)
    collection.load()
    tools.build_index(collection)  # what a killed run left unfinished
    with closing(tools.open_index(collection)) as index:
        done = catch_up(collection, catalogue, tools.embedding(version, catalogue, collection), index, tools.track)
    compacted = is_due(collection, catalogue.deltas)
    if compacted:
        tools.build_index(compact(collection, catalogue.deltas))
    if use.role == "live":
        tools.publish(use.model, use.production)
    return Synced(collection.info.name, use.role, done, compacted)
