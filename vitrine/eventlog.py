"""The append-only log of events in an SQL database: SQLite by default, PostgreSQL by URL.

    events  seq (1, 2, 3, ... without gaps), kind, model, at, actor, why, payload (JSON text)
    meta    key, value: the schema's version

An append states the last number it has seen. If somebody was faster, nothing is written and the
error says who. The primary key on `seq` holds this on every database.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import NullPool

from vitrine.errors import BadInput, Conflict, Tampered, Unavailable
from vitrine.events import Event, from_payload, to_payload

SCHEMA = 1
BUSY_TIMEOUT_S = 30.0

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


class EventLog:
    """The log behind one SQLAlchemy URL; it is created where there is none yet.

    Raises:
        BadInput: no such kind of URL, or a log written by a newer release.
        Tampered: the file is no SQLite database or is damaged.
        Unavailable: the database cannot be reached, written or unlocked in time.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self._engine = _engine(self.url)
        with self._explained():
            self._prepare()

    def append(self, events: Sequence[Event], *, expected_seq: int) -> list[Event]:
        """Add events in one transaction, all or none; returns them with `seq` set.

        Raises:
            Conflict: the last number is not `expected_seq`; the message names the latest event.
        """
        numbered = [replace(event, seq=expected_seq + place) for place, event in enumerate(events, start=1)]
        if not numbered:
            return []
        with self._explained():
            try:
                with self._begin(writes=True) as connection:
                    if self._last(connection) != expected_seq:
                        raise self._conflict(connection)
                    connection.execute(_events.insert(), [_row(event) for event in numbered])
            except IntegrityError as error:  # a database without BEGIN IMMEDIATE: the key decided the race
                with self._begin() as connection:
                    raise self._conflict(connection) from error
        return numbered

    def read(self, after: int = 0, model: str | None = None) -> list[Event]:
        """Events with a number over `after`, in order; of one model, if it is given."""
        query = sa.select(_events).where(_events.c.seq > after).order_by(_events.c.seq)
        if model is not None:
            query = query.where(_events.c.model == model)
        with self._explained(), self._begin() as connection:
            return [_event(row) for row in connection.execute(query).mappings()]

    def last_seq(self) -> int:
        """The last event's number, 0 in an empty log."""
        with self._explained(), self._begin() as connection:
            return self._last(connection)

    @contextmanager
    def _begin(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(vitrine_writes=writes) as connection, connection.begin():
            yield connection

    def _prepare(self) -> None:
        if self.url.get_backend_name() == "sqlite":
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
            _use_wal(str(self.url.database))
        try:
            found = self._create()
        except (IntegrityError, ProgrammingError):  # a server where somebody made the tables this very moment
            found = self._create()
        if found != str(SCHEMA):
            raise BadInput(
                f"the registry at {self._where()} has schema {found}, this release reads {SCHEMA}; "
                "use the release that wrote it, or name another one in VITRINE_REGISTRY_URL"
            )

    def _create(self) -> str:
        """Make what is missing; returns the schema's version."""
        with self._begin(writes=True) as connection:
            _tables.create_all(connection)
            found: str | None = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "schema"))
            if found is None:
                connection.execute(_meta.insert(), {"key": "schema", "value": str(SCHEMA)})
        return found or str(SCHEMA)

    @staticmethod
    def _last(connection: sa.Connection) -> int:
        return connection.scalar(sa.select(sa.func.max(_events.c.seq))) or 0

    @staticmethod
    def _conflict(connection: sa.Connection) -> Conflict:
        latest = connection.execute(sa.select(_events).order_by(_events.c.seq.desc()).limit(1)).mappings().first()
        if latest is None:
            return Conflict("the registry is empty, but the command had seen events in it; run the command again")
        event = _event(latest)
        return Conflict(
            f"somebody else was first: {event.actor} {event.sentence()} at {event.at}; "
            "nothing was written, look at the new state and run the command again"
        )

    def _where(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the database's errors into sentences."""
        try:
            yield
        except (OperationalError, OSError, sqlite3.OperationalError) as error:
            raise Unavailable(
                f"the registry at {self._where()} cannot be used: {_cause(error)}; "
                "check that the address is right, the database is running and its folder is writable"
            ) from error
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise Tampered(
                f"the registry at {self._where()} is damaged or no event log: {_cause(error)}; restore a backup, "
                "or move the file away and rebuild it with: vitrine models sync"
            ) from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise BadInput(f"{url!r} is no database URL; an example: sqlite:///.vitrine/registry.db") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise BadInput(f"{url!r} names no file, and a registry must last; an example: sqlite:///.vitrine/registry.db")
    return parsed


def _engine(url: sa.URL) -> sa.Engine:
    sqlite = url.get_backend_name() == "sqlite"
    # A SQLite connection is cheap and must not cross threads or forks; a server's is pooled.
    options: dict[str, Any] = (
        {"poolclass": NullPool, "connect_args": {"timeout": BUSY_TIMEOUT_S}} if sqlite else {"pool_pre_ping": True}
    )
    try:
        engine = sa.create_engine(url, **options)
    except NoSuchModuleError as error:
        raise BadInput(f"{url.drivername!r} is no kind of database; use sqlite or postgresql") from error
    except ModuleNotFoundError as error:
        raise Unavailable(f"{url.drivername} needs the Python package {error.name}; install it with pip") from error
    if sqlite:
        sa.event.listen(engine, "connect", _manual_transactions)
        sa.event.listen(engine, "begin", _begin_now)
    return engine


def _manual_transactions(connection: Any, _record: Any) -> None:
    # sqlite3 would begin by itself, late and without the write lock.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_now(connection: sa.Connection) -> None:
    # A writer takes the lock before it reads the last number, so that nobody comes in between.
    writes = connection.get_execution_options().get("vitrine_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _use_wal(database: str) -> None:
    """Let readers go on while somebody writes; the setting stays in the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # the switch itself does not wait for other openers
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()


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


def _cause(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
