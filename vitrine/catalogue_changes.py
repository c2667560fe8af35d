"""One transaction over a catalogue: what becomes of each item, and the numbers of the changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from secrets import token_hex
from types import TracebackType
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from vitrine.catalogue_records import content_digest, from_text, record_digest, to_text
from vitrine.catalogue_tables import catalogues as _catalogues
from vitrine.catalogue_tables import items as _items
from vitrine.database import Database, add_if_absent, batches, put
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.progress import Track, quiet

Row = Mapping[str, Any] | sa.RowMapping
"""Column name -> value."""


class Outcome(Enum):
    """What became of one item."""

    ADDED = "added"
    CHANGED = "changed"
    PAYLOAD_CHANGED = "payload changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ABSENT = "absent"


EMBEDDED = frozenset({Outcome.ADDED, Outcome.CHANGED})
"""After these an item needs a new vector."""


@dataclass(frozen=True)
class Change:
    """The latest change of an item.

    Attributes:
        seq: its number.
        content_seq: number of the last change after which the item had to be embedded anew, or was deleted.
        item: the item since then; None where it was deleted.
    """

    seq: int
    content_seq: int
    item_id: str
    item: Item | None


@dataclass(frozen=True)
class Changed:
    """What a request did.

    Attributes:
        seq: the number of the catalogue's last change, these included.
        outcomes: one an item, in the order of the request.
        changes: the items that really changed, as they are now.
    """

    seq: int
    outcomes: tuple[tuple[str, Outcome], ...]
    changes: tuple[Change, ...]

    def counts(self) -> dict[str, int]:
        """Items by outcome; outcomes that nothing met are left out."""
        found = Counter(outcome for _, outcome in self.outcomes)
        return {outcome.value: found[outcome] for outcome in Outcome if found[outcome]}


class Head(NamedTuple):
    """A catalogue's own row."""

    seq: int
    synced: str
    history: str


class Changing:
    """A writing transaction: commits at the end of its block, or leaves everything as it was."""

    def __init__(self, database: Database, catalogue: str, track: Track = quiet) -> None:
        self._database, self._catalogue, self._track = database, catalogue, track
        self._outcomes: list[tuple[str, Outcome]] = []
        self._rows: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self._transaction = self._database.writing()
        self._connection = self._transaction.__enter__()
        row = {"name": self._catalogue, "seq": 0, "synced": "", "history": token_hex(8)}
        add_if_absent(self._connection, _catalogues, row)
        # The row's lock is held to the end: numbers become visible in the order in which they were given out.
        head = read_head(self._connection, self._catalogue, lock=True)
        assert head is not None
        self.synced, self._before, self._seq = head.synced, head.seq, head.seq
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            parts = list(batches(list(self._rows.values())))
            for some in self._track(parts, f"writing changes of {self._catalogue}", len(parts)):
                put(self._connection, _items, some)
            self._connection.execute(
                _catalogues.update()
                .where(_catalogues.c.name == self._catalogue)
                .values(seq=self._seq, synced=self.synced)
            )
        self._transaction.__exit__(kind, error, trace)

    def upsert(self, items: Sequence[Item], synced: Mapping[str, str] | None = None) -> None:
        """Add or replace items; `synced` has the digests of those that a dataset gave."""
        known = read_known(self._connection, self._catalogue, [item.item_id for item in items])
        for item in self._track(items, f"comparing items of {self._catalogue}", len(items)):
            old = known.get(item.item_id)
            outcome = outcome_of(old, item)
            self._outcomes.append((item.item_id, outcome))
            mark = (synced or {}).get(item.item_id) or (old["synced"] if old else None)
            if outcome is not Outcome.UNCHANGED:
                seq = self._next()
                content_seq = seq if old is None or outcome in EMBEDDED else old["content_seq"]
                self._put(item.item_id, seq, content_seq, item, mark)
            elif old is not None and mark != old["synced"]:
                self._put(item.item_id, old["seq"], old["content_seq"], item, mark)

    def delete(self, item_ids: Sequence[str], *, synced: bool = False) -> None:
        """Take items out; with `synced` the dataset has none of them any more."""
        known = read_known(self._connection, self._catalogue, item_ids)
        for item_id in item_ids:
            old = known.get(item_id)
            there = old is not None and old["record"] is not None
            self._outcomes.append((item_id, Outcome.DELETED if there else Outcome.ABSENT))
            if old is not None and (there or synced):
                seq = self._next() if there else old["seq"]
                self._put(item_id, seq, seq, None, None if synced else old["synced"])

    def taken_over(self) -> dict[str, str]:
        """Item id -> digest of the dataset's record that was taken over last, of all items that a dataset has given."""
        return read_taken_over(self._connection, self._catalogue)

    def result(self) -> Changed:
        """What the transaction did."""
        changes = (read_change(row) for row in self._rows.values() if row["seq"] > self._before)
        return Changed(self._seq, tuple(self._outcomes), tuple(changes))

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _put(self, item_id: str, seq: int, content_seq: int, item: Item | None, synced: str | None) -> None:
        self._rows[item_id] = {
            "catalogue": self._catalogue,
            "item_id": item_id,
            "seq": seq,
            "content_seq": content_seq,
            "record": to_text(item) if item else None,
            "content": content_digest(item) if item else None,
            "synced": synced,
        }


def outcome_of(old: Row | None, item: Item) -> Outcome:
    """What an upsert of `item` means for its row."""
    if old is None or old["record"] is None:
        return Outcome.ADDED
    if old["content"] != content_digest(item):
        return Outcome.CHANGED
    return Outcome.UNCHANGED if old["record"] == to_text(item) else Outcome.PAYLOAD_CHANGED


def read_head(connection: sa.Connection, catalogue: str, *, lock: bool = False) -> Head | None:
    """A catalogue's own row, or None; `lock` keeps other writers out until the transaction ends."""
    query = sa.select(_catalogues.c.seq, _catalogues.c.synced, _catalogues.c.history)
    query = query.where(_catalogues.c.name == catalogue)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Head(*row) if row else None


def read_known(connection: sa.Connection, catalogue: str, item_ids: Sequence[str]) -> dict[str, sa.RowMapping]:
    """The rows of these items, deleted ones included, by id."""
    found: dict[str, sa.RowMapping] = {}
    for some in batches(item_ids):
        query = sa.select(_items).where(_items.c.catalogue == catalogue, _items.c.item_id.in_(some))
        found.update({row["item_id"]: row for row in connection.execute(query).mappings()})
    return found


def read_taken_over(connection: sa.Connection, catalogue: str) -> dict[str, str]:
    """As `Changing.taken_over`."""
    query = sa.select(_items.c.item_id, _items.c.synced).where(
        _items.c.catalogue == catalogue, _items.c.synced.is_not(None)
    )
    return {row.item_id: row.synced for row in connection.execute(query)}


def read_change(row: Row) -> Change:
    """A row as a change."""
    item = from_text(row["record"]) if row["record"] is not None else None
    return Change(row["seq"], row["content_seq"], row["item_id"], item)


def refuse_twice(item_ids: Iterable[str]) -> None:
    """Each id once.

    Raises:
        BadInput: one comes twice.
    """
    for item_id, count in Counter(item_ids).items():
        if count > 1:
            raise BadInput(f"item {item_id!r} comes {count} times in one request; send each item once", field="items")


def sync_records(changing: Changing, items: Sequence[Item], digest: str) -> None:
    """Take over what changed in a dataset since its last sync, and nothing else.

    An item whose record in the dataset is the one last taken over keeps whatever was done to it since.
    """
    taken = changing.taken_over()
    different, gone = to_take_over(taken, items)
    changing.upsert(different, {item.item_id: record_digest(item) for item in items})
    changing.delete(gone, synced=True)
    changing.synced = digest


def to_take_over(taken: Mapping[str, str], items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Items of a dataset whose records differ from those taken over, and ids of those that it has no more."""
    records = {item.item_id: record_digest(item) for item in items}
    different = [item for item in items if taken.get(item.item_id) != records[item.item_id]]
    return different, sorted(set(taken) - set(records))
