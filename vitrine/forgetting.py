"""`vitrine data forget`: erase an item of a catalogue from everything that this installation keeps.

Order: a journal of what to do (it does not name the item), the catalogue's tombstone, so that searches stop finding it,
then photos, features, collections with their indexes, stored results; last the tombstone itself. Each step may be
repeated, so a killed command is finished by the same command.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from vitrine import plugins
from vitrine.catalogue import catalogue_names, open_catalogue
from vitrine.catalogue_tables import deltas as _deltas
from vitrine.catalogue_tables import items as _items
from vitrine.catalogue_tables import open_tables
from vitrine.collection import POINTER, Collection
from vitrine.collection_roles import collections_here
from vitrine.connection import parse_url, vacuum
from vitrine.dataset import dataset_names, find_dataset
from vitrine.deltas import DeltaLog
from vitrine.errors import BadInput, Conflict, NotFound, Unavailable
from vitrine.failpoints import point, reach
from vitrine.files import read_json, sha256_bytes, write_json
from vitrine.forgetting_collections import Embedded
from vitrine.forgetting_results import Results
from vitrine.forgetting_sources import Sources
from vitrine.home import Home
from vitrine.index_choice import build_index, index_kind, index_settings
from vitrine.progress import Track, quiet
from vitrine.registry import Registry

WRITTEN_DOWN = point("forget.journal", "what is to be erased is written down, nothing is erased")
TOMBSTONE = point("forget.tombstone", "the catalogue has no content of the item")
DATASET = point("forget.dataset", "the dataset and its photos are clean")
ARTIFACTS = point("forget.artifacts", "photos of upserts are gone")
FEATURES = point("forget.features", "cached features are clean")
COLLECTIONS = point("forget.collections", "files of every collection are clean, their indexes too")
ANNOUNCED = point("forget.announced", "servers are told to load the clean files")
RESULTS = point("forget.results", "stored results have a pseudonym")
PURGED = point("forget.purged", "the tombstone is gone, the journal is there")

GRACE_S = 3.0
"""Servers look for changes several times in this; then nobody needs the tombstone any more."""
UNREACHED = (
    "DVC's cache keeps older outputs: dvc gc -w",
    "reports show photos of queries: dvc repro report, or remove the folder",
    "bentos that were built before carry their collection: build them anew and delete the old ones",
    "back-ups, exports and the source that the dataset was imported from are yours to clean",
    "versions that were trained on the item keep what they learned; train anew if that must go too",
    "a server cut off from the database finds the item until it is back: half a minute, and loading, after that",
)


@dataclass(frozen=True)
class Forgetting:
    """What was, or with a dry run would be, erased: sentences about this installation, and what it cannot reach."""

    catalogue: str
    erased: tuple[str, ...]
    unreached: tuple[str, ...] = UNREACHED


@dataclass(frozen=True)
class _Journal:
    """What a repeated command could not find out any more.

    Attributes:
        photos: image names of the item.
        pseudonym: what stored results call it.
    """

    photos: list[str]
    pseudonym: str


@dataclass(frozen=True)
class _Step:
    """One kind of thing to erase; `what` is empty where there is nothing."""

    what: str
    erase: Callable[[], None]
    after: str


class Eraser:
    """Finds and erases one item of one catalogue.

    Args:
        registry: whose results are renamed.
        home: the installation.
        catalogue: name of the catalogue or dataset.
        item_id: who goes.
        renew: makes an index over new files of a collection and takes the item out of it.
        why: a reason, kept with the event.
        grace_s: how long servers have to take the deletion in.

    Raises:
        NotFound: no catalogue or dataset of that name.
    """

    def __init__(
        self,
        registry: Registry,
        home: Home,
        catalogue: str,
        item_id: str,
        renew: Callable[[Collection, str], None],
        *,
        why: str = "",
        grace_s: float = GRACE_S,
    ) -> None:
        self._registry, self._home, self._name, self._item_id = registry, home, catalogue, item_id
        self._why, self._grace_s = why, grace_s
        self._living = open_catalogue(home, catalogue) if catalogue in catalogue_names(home) else None
        if self._living is None:
            find_dataset(home, catalogue)  # raises NotFound and names the known ones
        digest = sha256_bytes(f"{catalogue}\n{item_id}".encode())
        self._journal_path = home.root / "forgetting" / f"{digest}.json"
        self._work = home.datasets.parent / "work"
        self._embedded = Embedded(home, DeltaLog(home.registry_url), catalogue, item_id, renew)

    @property
    def catalogue(self) -> str:
        """Whose item it is."""
        return self._name

    def finds_anything(self) -> bool:
        """Whether there is something to erase, or an erasure to finish."""
        return self._journal_path.is_file() or any(step.what for step in self._steps())

    def plan(self) -> Forgetting:
        """What would be erased; changes nothing.

        Raises:
            NotFound: nothing of the item is anywhere.
        """
        if not self.finds_anything():
            raise NotFound(f"nothing is kept of an item {self._item_id!r} of {self._name}; was it erased before?")
        return Forgetting(self._name, tuple(step.what for step in self._steps() if step.what))

    def erase(self, track: Track = quiet) -> Forgetting:
        """Erase the item; repeat it after a crash.

        Raises:
            NotFound: nothing of the item is anywhere.
            Conflict: a collection of the catalogue is being embedded.
            Unavailable: the index or the database cannot be reached; run it again.
        """
        done = self.plan()
        self._refuse_unfinished()
        write_json(self._journal_path, asdict(self._journal))
        reach(WRITTEN_DOWN)
        steps = self._steps()
        for step in track(steps, "erasing the item", len(steps)):
            step.erase()
            reach(step.after)
        _shrink(self._home.registry_url)
        self._journal_path.unlink(missing_ok=True)
        return done

    def _steps(self) -> list[_Step]:
        sources, results = self._sources(self._journal.photos), self._results()
        row = "its row" if self._row_seq() is not None else ""
        return [
            _Step(_told("catalogue", row), self._bury, TOMBSTONE),
            _Step(_told("dataset", sources.in_dataset()), sources.clean_dataset, DATASET),
            _Step(_told("photos of upserts", *sources.artifacts()), sources.remove_artifacts, ARTIFACTS),
            _Step(_told("features", *sources.features()), sources.clean_features, FEATURES),
            _Step(_told("collections", *self._embedded.named()), self._clean_collections, COLLECTIONS),
            _Step("", self._announce, ANNOUNCED),
            _Step(_told("stored results", *results.named()), results.rename, RESULTS),
            _Step("", self._purge, PURGED),
        ]

    # --- the catalogue's row ------------------------------------------------------------------------

    def _row_seq(self) -> int | None:
        changes = self._living.changes(0) if self._living else []
        return next((change.seq for change in changes if change.item_id == self._item_id), None)

    def _bury(self) -> None:
        if self._living is not None:
            self._living.delete([self._item_id])
            self._refuse_unfinished()  # one that was begun since; it will see the deletion

    def _purge(self) -> None:
        """The tombstones themselves, once servers have seen them.

        What a promotion writes from now on, it compares with the rows itself (`vitrine.erased`); what it wrote before goes here.
        """
        if self._row_seq() is None:
            return
        time.sleep(self._grace_s)
        self._clean_collections()
        with open_tables(self._home.registry_url).writing() as connection:
            names = [found.info.name for found in self._embedded.all()]
            delta = _deltas.delete().where(_deltas.c.collection.in_(names), _deltas.c.item_id == self._item_id)
            connection.execute(delta)
            row = _items.delete().where(_items.c.catalogue == self._name, _items.c.item_id == self._item_id)
            connection.execute(row)
        self._clean_collections()

    # --- what is kept where ---------------------------------------------------------------------------

    @cached_property
    def _journal(self) -> _Journal:
        if self._journal_path.is_file():
            return _Journal(**read_json(self._journal_path, "journal of an erasure"))
        dataset = self._sources().dataset()
        items = [item for item in dataset.items if item.item_id == self._item_id] if dataset else []
        items += self._living.find([self._item_id]).values() if self._living else []
        return _Journal(sorted({image for item in items for image in item.images}), f"forgotten-{secrets.token_hex(6)}")

    def _sources(self, photos: Sequence[str] = ()) -> Sources:
        return Sources(self._registry.artifacts, self._home, self._work, self._name, self._item_id, tuple(photos))

    def _clean_collections(self) -> None:
        self._embedded.clean(self._row_seq())

    def _announce(self) -> None:
        if self._living is not None:
            self._embedded.announce(self._registry, self._why)

    def _results(self) -> Results:
        pseudonym = self._journal.pseudonym
        return Results(self._registry, self._work, self._name, self._item_id, pseudonym, self._why)

    def _refuse_unfinished(self) -> None:
        """A collection whose files are being made would bring the item back."""
        for name, use in collections_here(self._registry.log.read(), self._home.collections).items():
            if use.production.catalogue == self._name and not (self._home.collections / name / POINTER).is_file():
                raise Conflict(
                    f"{use.model}@{use.production.version} is being embedded for {self._name}; finish that first: "
                    f"vitrine promote {use.model}@{use.production.version} (or: vitrine models retire), then repeat this"
                )


def eraser(
    registry: Registry,
    home: Home,
    item_id: str,
    catalogue: str | None = None,
    *,
    index: str | None = None,
    why: str = "",
    grace_s: float = GRACE_S,
) -> Eraser:
    """The eraser of an item; the catalogue may be left out where only one has the id.

    Raises:
        NotFound: no such catalogue, or no catalogue has the item.
        BadInput: several have it.
    """
    kind = index or index_kind(home)

    def renew(collection: Collection, item_id: str) -> None:
        build_index(collection, home, kind)
        plugins.load("indexes", kind).forget(collection, [item_id], index_settings(home, kind))

    names = [catalogue] if catalogue else sorted({*dataset_names(home), *catalogue_names(home)})
    found = [Eraser(registry, home, name, item_id, renew, why=why, grace_s=grace_s) for name in names]
    holding = found if catalogue else [one for one in found if one.finds_anything()]
    if not holding:
        raise NotFound(
            f"nothing is kept of an item {item_id!r} in any catalogue: {', '.join(names) or 'there is none'}"
        )
    if len(holding) > 1:
        named = ", ".join(one.catalogue for one in holding)
        raise BadInput(
            f"item {item_id!r} is in several catalogues: {named}; say which with --catalogue", field="catalogue"
        )
    return holding[0]


def _told(where: str, *found: str) -> str:
    held = [one for one in found if one]
    return f"{where}: {', '.join(held)}" if held else ""


def _shrink(url: str) -> None:
    """Give back what deleted rows left in a SQLite file; a server does it by itself."""
    parsed = parse_url(url)
    problem = vacuum(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else ""
    if problem:
        raise Unavailable(
            f"the database at {url} is in use, so freed pages may still hold the item ({problem}); run the command again"
        )
