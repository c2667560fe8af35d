"""The append-only log of events in an SQL database: SQLite by default, PostgreSQL by URL.

    events  seq (1, 2, 3, ... without gaps), kind, model, at, actor, why, payload (JSON text)
    meta    key, value: the schema's version and the log's identity, drawn when it was made

An append states the last number it has seen. If somebody was faster, nothing is written and the
error says who. The primary key on `seq` holds this on every database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, ProgrammingError

from vitrine.connection import cause
from vitrine.database import Database, add_if_absent
from vitrine.errors import BadInput, Conflict, Tampered, Unavailable
from vitrine.events import Event, from_payload, to_payload

SCHEMA = 1

_T = TypeVar("_T")
_tables = sa.MetaData()
_events = sa.Table(
    "events",
    _tables,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("model", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
)
_meta = sa.Table(
    "meta",
    _tables,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


class Overtaken(Conflict):
    """Another event took the number; a decision that still holds may be appended after it."""


class EventLog:
    """The log behind one SQLAlchemy URL; it is created where there is none yet. Opening one takes no lock.

    Raises:
        BadInput: no such kind of URL, or a log written by a newer release.
        Tampered: the file is no SQLite database or is damaged.
        Unavailable: the database cannot be reached, written or unlocked in time.
    """

    def __init__(self, url: str) -> None:
        remedy = "restore a backup, or move it away and rebuild it with: vitrine models sync"
        with _allowed():
            self._database = Database(url, _tables, _meta, SCHEMA, what="registry", remedy=remedy)
        self.url = self._database.url

    def append(self, events: Sequence[Event], *, expected_seq: int) -> list[Event]:
        """Add events in one transaction, all or none; returns them with `seq` set.

        Raises:
            Overtaken: the last number is not `expected_seq`; the message names the event that came first.
        """
        numbered = [replace(event, seq=expected_seq + place) for place, event in enumerate(events, start=1)]
        if not numbered:
            return []
        rows = [_row(event) for event in numbered]
        with _allowed():
            try:
                with self._database.writing() as connection:
                    if _last(connection) == expected_seq:
                        connection.execute(_events.insert(), rows)
                        return numbered
            except IntegrityError:  # PostgreSQL locks nothing before it: the key decided the race
                pass
        raise self._conflict(expected_seq)

    def read(self, after: int = 0, model: str | None = None) -> list[Event]:
        """Events with a number over `after`, in order; of one model, if it is given."""
        query = sa.select(_events).where(_events.c.seq > after).order_by(_events.c.seq)
        if model is not None:
            query = query.where(_events.c.model == model)
        return self._reading(lambda connection: _all(connection, query))

    def follow(self, identity: str, after: int) -> tuple[str, list[Event]]:
        """What a reader that knows the log `identity` up to `after` lacks.

        Returns:
            The identity of the log, drawn when it was made, and the events over `after`; all of them where it is
            another log than the reader knew, because somebody replaced or restored it.
        """
        query = sa.select(_events).order_by(_events.c.seq)

        def lacking(connection: sa.Connection) -> tuple[str | None, list[Event]]:
            found = _identity(connection)
            same = found == identity and _last(connection) >= after
            return found, _all(connection, query.where(_events.c.seq > after) if same else query)

        found, events = self._reading(lacking)
        return found or self._identify(), events

    def last_seq(self) -> int:
        """The last event's number, 0 in an empty log."""
        return self._reading(_last)

    def redact(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
        """Change what events say of an erased item in their own fields; how many were changed.

        It is the only change that an event ever sees, and no fold depends on it: the caller keeps every other field.
        """
        with _allowed(), self._database.writing() as connection:
            held = sa.select(_events.c.seq, _events.c.payload).order_by(_events.c.seq).with_for_update()
            rows = connection.execute(held).all()  # of two erasures at once the second sees what the first one wrote
            after = {row.seq: json.dumps(change(json.loads(row.payload)), sort_keys=True) for row in rows}
            found = [{"at_seq": row.seq, "text": after[row.seq]} for row in rows if after[row.seq] != row.payload]
            if found:
                redacted = _events.update().where(_events.c.seq == sa.bindparam("at_seq"))
                connection.execute(redacted.values(payload=sa.bindparam("text")), found)
        return len(found)

    def _identify(self) -> str:
        with _allowed(), self._database.writing() as connection:
            add_if_absent(connection, _meta, {"key": "identity", "value": uuid4().hex})
        return self._reading(_identity) or ""

    def _reading(self, ask: Callable[[sa.Connection], _T]) -> _T:
        with _allowed(), self._database.reading() as connection:
            return ask(connection)

    def _conflict(self, expected_seq: int) -> Overtaken:
        since = self.read(after=expected_seq)
        if since:
            return lost_to(since[0])
        return Overtaken(
            f"the registry has no event {expected_seq}, which the command had seen: somebody replaced or restored it; "
            "nothing was written, run the command again"
        )


def lost_to(winner: Event) -> Overtaken:
    """The error of a command that `winner` took the ground from."""
    return Overtaken(
        f"somebody else was first: {winner.actor} {winner.sentence()} at {winner.at}; "
        "nothing was written, look at the new state and run the command again"
    )


@contextmanager
def _allowed() -> Iterator[None]:
    try:
        yield
    except ProgrammingError as error:
        raise Unavailable(
            f"the registry's database does not allow it: {cause(error)}; check the rights of its user"
        ) from error


def _last(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(_events.c.seq))) or 0


def _identity(connection: sa.Connection) -> str | None:
    found: str | None = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "identity"))
    return found


def _all(connection: sa.Connection, query: sa.Select[Any]) -> list[Event]:
    return [_event(row) for row in connection.execute(query).mappings()]


def _row(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "kind": type(event).__name__,
        "model": event.model,
        "at": event.at,
        "actor": _text(event.actor, "actor"),
        "why": _text(event.why, "why"),
        "payload": json.dumps(to_payload(event), sort_keys=True),
    }


def _text(value: str, field: str) -> str:
    # A terminal can pass on bytes that are no text; not every database would take them.
    if "\0" in value or value.encode(errors="ignore").decode() != value:
        raise BadInput(f"{field} is no plain text: {value!r}; use UTF-8 without NUL", field=field)
    return value


def _event(row: sa.RowMapping) -> Event:
    common = {key: row[key] for key in ("model", "at", "actor", "why", "seq")}
    try:
        payload = json.loads(row["payload"])
    except ValueError as error:
        raise Tampered(f"event {row['seq']} of the registry is damaged: {error}; restore a backup") from error
    return from_payload(row["kind"], payload, **common)
