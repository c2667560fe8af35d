"""Changes of embedded catalogues since their files were written: one row a changed item, in the registry's database.

A collection's readers take its files and, on top, these. Writing never replaces a row of a higher number, so any
number of processes may bring a collection up to date at once and as often as they like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from vitrine.catalogue_tables import deltas as _deltas
from vitrine.catalogue_tables import open_tables
from vitrine.catalogue_tables import states as _states
from vitrine.database import Database, add_if_absent, batches, put
from vitrine.errors import Conflict
from vitrine.ports import Delta


class DeltaLog:
    """The deltas of all collections at one SQLAlchemy URL. Safe for several threads and processes.

    Raises:
        BadInput, Tampered, Unavailable: as `vitrine.database.Database`.
    """

    def __init__(self, source: str | Database) -> None:
        self._database = open_tables(source) if isinstance(source, str) else source

    def read(self, collection: str, after: int) -> list[Delta]:
        """Deltas with a number over `after`, in order; at most one an item.

        Raises:
            Conflict: some of them were folded into newer files of the collection and are gone.
        """
        query = sa.select(_deltas).where(_deltas.c.collection == collection, _deltas.c.seq > after)
        with self._database.reading() as connection:
            pruned = _state(connection, collection)[1]
            if after < pruned:
                raise Conflict(
                    f"the changes {after + 1} to {pruned} of collection {collection} are in newer files of it by now; "
                    "open the collection again"
                )
            return [_delta(row) for row in connection.execute(query.order_by(_deltas.c.seq)).mappings()]

    def misses(self, collection: str, after: int) -> bool:
        """Whether `read` would refuse that number: deltas after it are in newer files of the collection alone."""
        with self._database.reading() as connection:
            return after < _state(connection, collection)[1]

    def at(self, collection: str, item_ids: Sequence[str], after: int = 0) -> dict[str, Delta]:
        """The deltas of these items, as far as they have one with a number over `after`."""
        found = {}
        with self._database.reading() as connection:
            for some in batches(list(item_ids)):
                query = sa.select(_deltas).where(
                    _deltas.c.collection == collection, _deltas.c.seq > after, _deltas.c.item_id.in_(some)
                )
                found.update({row["item_id"]: _delta(row) for row in connection.execute(query).mappings()})
        return found

    def applied(self, collection: str) -> int:
        """Every change of the catalogue up to this number is in the collection's files or here; 0 at first."""
        with self._database.reading() as connection:
            return _state(connection, collection)[0]

    def write(self, collection: str, deltas: Sequence[Delta], applied: int | None = None) -> None:
        """Add deltas in one transaction; of each item the one with the highest number stays.

        Args:
            collection: its name.
            deltas: at most one an item.
            applied: the collection has every change up to here now; None claims nothing.
        """
        in_order = sorted(deltas, key=lambda delta: delta.item_id)  # or two writers could wait for each other's rows
        with self._database.writing() as connection:
            put(connection, _deltas, [_row(collection, delta) for delta in in_order], newer="seq")
            if applied is not None:
                add_if_absent(connection, _states, {"collection": collection, "applied": 0, "pruned": 0})
                connection.execute(
                    _states.update()
                    .where(_states.c.collection == collection, _states.c.applied < applied)
                    .values(applied=applied)
                )

    def count(self, collection: str, after: int) -> int:
        """How many items have a delta with a number over `after`."""
        query = sa.select(sa.func.count()).where(_deltas.c.collection == collection, _deltas.c.seq > after)
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def collections(self) -> list[str]:
        """Names of the collections that have deltas or a state, sorted."""
        query = sa.union(sa.select(_states.c.collection), sa.select(_deltas.c.collection))
        with self._database.reading() as connection:
            return sorted(connection.scalars(query))

    def prune(self, collection: str, up_to: int) -> int:
        """Remove deltas that are in the collection's files; returns how many. Readers behind them are told by `read`."""
        with self._database.writing() as connection:
            add_if_absent(connection, _states, {"collection": collection, "applied": 0, "pruned": 0})
            gone = connection.execute(
                _deltas.delete().where(_deltas.c.collection == collection, _deltas.c.seq <= up_to)
            ).rowcount
            if gone:
                connection.execute(
                    _states.update()
                    .where(_states.c.collection == collection, _states.c.pruned < up_to)
                    .values(pruned=up_to)
                )
        return gone

    def drop(self, collection: str) -> None:
        """Forget everything of a collection, as when its files are removed."""
        with self._database.writing() as connection:
            connection.execute(_deltas.delete().where(_deltas.c.collection == collection))
            connection.execute(_states.delete().where(_states.c.collection == collection))


def _state(connection: sa.Connection, collection: str) -> tuple[int, int]:
    """(applied, pruned)."""
    query = sa.select(_states.c.applied, _states.c.pruned).where(_states.c.collection == collection)
    row = connection.execute(query).first()
    return (row.applied, row.pruned) if row else (0, 0)


def _row(collection: str, delta: Delta) -> dict[str, Any]:
    return {
        "collection": collection,
        "item_id": delta.item_id,
        "seq": delta.seq,
        "vector": None if delta.vector is None else np.asarray(delta.vector, "<f4").tobytes(),
        "payload": None if delta.payload is None else json.dumps(delta.payload, sort_keys=True),
    }


def _delta(row: sa.RowMapping) -> Delta:
    vector = None if row["vector"] is None else np.frombuffer(row["vector"], "<f4").astype(np.float32)
    payload = None if row["payload"] is None else json.loads(row["payload"])
    return Delta(row["seq"], row["item_id"], vector, payload)
