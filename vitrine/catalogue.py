"""The living catalogue: the latest state of each item, numbered changes, photos by content.

It is seeded from the imported dataset of its name. `Upsert` and `Delete` change it while servers answer, `vitrine index
sync` takes over what changed in the dataset. Every change has a number; a collection that knows up to which number
it is right needs no more than the changes after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from vitrine.artifacts import ArtifactStore
from vitrine.artifacts_remote import open_artifacts
from vitrine.catalogue_changes import (
    Change,
    Changed,
    Changing,
    Head,
    Outcome,
    outcome_of,
    read_change,
    read_head,
    read_known,
    read_taken_over,
    refuse_twice,
    sync_records,
    to_take_over,
)
from vitrine.catalogue_records import from_text
from vitrine.catalogue_tables import items as _items
from vitrine.catalogue_tables import open_tables
from vitrine.database import Database
from vitrine.dataset import Dataset, find_dataset, read_photo
from vitrine.deltas import DeltaLog
from vitrine.errors import BadInput, NotFound
from vitrine.failpoints import point, reach
from vitrine.home import Home
from vitrine.items import Item
from vitrine.progress import Track, quiet
from vitrine.storing import photo_name

PHOTOS_STORED = point("catalogue.photos", "the photos of changed items are stored, their rows are not")
CHANGED = point("catalogue.changed", "the catalogue has the changes, no collection has them yet")


class Catalogue:
    """One catalogue of an installation. Safe for several threads and processes.

    Attributes:
        name: that of the dataset it began with.
        deltas: what its collections know beyond their files.
    """

    def __init__(self, name: str, database: Database, artifacts: ArtifactStore, folder: Path) -> None:
        self.name = name
        self.deltas = DeltaLog(database)
        self._database, self._artifacts, self._folder = database, artifacts, folder

    @property
    def seq(self) -> int:
        """The number of the last change."""
        return self._head().seq

    @property
    def synced(self) -> str:
        """Digest of the dataset that was last taken over."""
        return self._head().synced

    @cached_property
    def history(self) -> str:
        """Names this sequence of numbers: a database that is made anew counts from 1 under another name."""
        return self._head().history

    def snapshot(self) -> tuple[int, list[Item]]:
        """The number of the last change, and all items as they are then, sorted by id."""
        query = self._rows().where(_items.c.record.is_not(None))
        with self._database.reading() as connection:
            head = read_head(connection, self.name)
            found = [from_text(row["record"]) for row in connection.execute(query).mappings()]
        return head.seq if head else 0, sorted(found, key=lambda item: item.item_id)

    def changes(self, after: int) -> list[Change]:
        """Items that changed after that number, each once with its latest change, in order of the numbers."""
        query = self._rows().where(_items.c.seq > after).order_by(_items.c.seq)
        with self._database.reading() as connection:
            return [read_change(row) for row in connection.execute(query).mappings()]

    def find(self, item_ids: Sequence[str]) -> dict[str, Item]:
        """The items of these ids, as far as they are there."""
        with self._database.reading() as connection:
            known = read_known(connection, self.name, item_ids)
        return {item_id: from_text(row["record"]) for item_id, row in known.items() if row["record"] is not None}

    def known_ids(self) -> set[str]:
        """Ids of all items that were ever here and are not erased, deleted ones included."""
        query = sa.select(_items.c.item_id).where(_items.c.catalogue == self.name)
        with self._database.reading() as connection:
            return set(connection.scalars(query))

    def preview(self, items: Sequence[Item]) -> list[Outcome]:
        """What `upsert` would say of each; changes nothing."""
        with self._database.reading() as connection:
            known = read_known(connection, self.name, [item.item_id for item in items])
        return [outcome_of(known.get(item.item_id), item) for item in items]

    def upsert(self, items: Sequence[Item], photos: Mapping[str, bytes] | None = None) -> Changed:
        """Add or replace items, all or none; equal ones change nothing.

        Args:
            items: each id once; their `images` are named as `vitrine.storing.photo_name` names them.
            photos: image name -> bytes of those that are not stored yet.

        Raises:
            BadInput: an id comes twice, or a photo's bytes are not those of its name.
            NotFound: an image that is neither in `photos` nor stored.
        """
        refuse_twice(item.item_id for item in items)
        self._store(photos or {})
        self._refuse_missing({image for item in items for image in item.images} - set(photos or {}))
        reach(PHOTOS_STORED)
        with Changing(self._database, self.name) as changing:
            changing.upsert(items)
        reach(CHANGED)
        return changing.result()

    def delete(self, item_ids: Sequence[str]) -> Changed:
        """Take items out, all or none; one that is not there is no error.

        Raises:
            BadInput: an id comes twice.
        """
        refuse_twice(item_ids)
        with Changing(self._database, self.name) as changing:
            changing.delete(item_ids)
        reach(CHANGED)
        return changing.result()

    def sync(self, dataset: Dataset, track: Track = quiet) -> Changed:
        """Take over what changed in the dataset since its last sync.

        An item whose record in the dataset is still the one last taken over keeps what was done to it since: it is not
        overwritten, and does not come back if it was deleted.
        """
        with Changing(self._database, self.name, track) as changing:
            if changing.synced != dataset.digest:
                sync_records(changing, dataset.catalogue_items(), dataset.digest)
        reach(CHANGED)
        return changing.result()

    def preview_sync(self, dataset: Dataset) -> list[Item]:
        """The items as `sync` with this dataset would leave them, sorted by id; changes nothing."""
        items = {item.item_id: item for item in self.snapshot()[1]}
        if self.synced != dataset.digest:
            with self._database.reading() as connection:
                taken = read_taken_over(connection, self.name)
            different, gone = to_take_over(taken, dataset.catalogue_items())
            items |= {item.item_id: item for item in different}
            for item_id in gone:
                items.pop(item_id, None)
        return sorted(items.values(), key=lambda item: item.item_id)

    def photo(self, image: str) -> bytes:
        """The bytes of a photo, compared with the hash that is its name.

        Raises:
            NotFound: neither upserted nor in the dataset's folder.
            Tampered: the bytes changed since.
        """
        sha = self._artifact(image)
        return self._artifacts.read(sha) if sha else read_photo(self._folder, image, self.name)

    def photo_digests(self) -> set[str]:
        """sha256 of every photo that an item shows now: what must not be removed from the artifacts."""
        _, items = self.snapshot()
        return {image.partition(".")[0] for item in items for image in item.images}

    def _store(self, photos: Mapping[str, bytes]) -> None:
        for image, data in photos.items():
            name = photo_name(data)
            if name != image:
                raise BadInput(
                    f"the photo that is called {image!r} has the content of {name!r}; call it by its content"
                )
            self._artifacts.put_bytes(data)

    def _refuse_missing(self, images: set[str]) -> None:
        """Stored photos count as put just now, so that no clean-up takes them before an item shows them."""
        for image in sorted(images):
            sha = self._artifact(image)
            if not (sha and self._artifacts.hold(sha)):
                read_photo(self._folder, image, self.name)

    def _artifact(self, image: str) -> str:
        """The photo's digest if it is an artifact, else ""."""
        sha = image.partition(".")[0]
        try:
            return sha if self._artifacts.has(sha) else ""
        except BadInput:  # no digest at all
            return ""

    def _head(self) -> Head:
        with self._database.reading() as connection:
            return read_head(connection, self.name) or Head(0, "", "")

    def _rows(self) -> sa.Select[tuple[object, ...]]:
        return sa.select(_items).where(_items.c.catalogue == self.name)


def open_catalogue(home: Home, name: str, track: Track = quiet) -> Catalogue:
    """The living catalogue of that name, seeded from the imported dataset when it is first used; that is tracked.

    Raises:
        NotFound: it was never used and no dataset of the name is imported.
        Unavailable, Tampered: the registry's database cannot be used.
    """
    catalogue = Catalogue(name, open_tables(home.registry_url), open_artifacts(home), home.datasets / name)
    if not catalogue.history:
        try:
            dataset = find_dataset(home, name)
        except NotFound as error:
            raise NotFound(f"there is no catalogue {name!r}: {error}") from error
        catalogue.sync(dataset, track)
        del catalogue.history  # it was read before there was one
    return catalogue


def catalogue_names(home: Home) -> list[str]:
    """Names of the catalogues that were ever used, sorted."""
    from vitrine.catalogue_tables import catalogues

    with open_tables(home.registry_url).reading() as connection:
        return sorted(connection.scalars(sa.select(catalogues.c.name)))
