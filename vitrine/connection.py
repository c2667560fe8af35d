"""Dialling an SQL database by URL: SQLite as a file that several processes share, PostgreSQL as a server."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from vitrine.errors import BadInput, Unavailable

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def parse_url(url: str) -> sa.URL:
    """A database's address; `postgresql://` means the driver that Vitrine installs.

    Raises:
        BadInput: no URL, or one that names no lasting database.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise BadInput(f"{url!r} is no database URL; an example: sqlite:///.vitrine/registry.db") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise BadInput(f"{url!r} names no file, and a registry must last; an example: sqlite:///.vitrine/registry.db")
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def open_engine(url: sa.URL) -> sa.Engine:
    """An engine that connects when it is first used; a writer's transaction carries the option `vitrine_writes`.

    Raises:
        BadInput: another kind of database than SQLite and PostgreSQL.
        Unavailable: the driver is not installed.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # A SQLite connection is cheap and must not cross threads or forks; a server's is pooled.
    options: dict[str, Any] = (
        {"poolclass": NullPool, "connect_args": {"timeout": BUSY_TIMEOUT_S}} if sqlite else {"pool_pre_ping": True}
    )
    if url.get_backend_name() == "postgresql":
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S}
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


def use_wal(database: str) -> None:
    """Let readers of a SQLite file go on while somebody writes; the setting stays in the file."""
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


def vacuum(database: str) -> str:
    """Give back the pages of deleted rows, in a SQLite file and in the log beside it; returns what was in the way, or ""."""
    with closing(sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)) as connection:
        try:
            connection.execute("VACUUM")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            return str(error)
    return "somebody is reading it" if busy else ""  # it waited, and does not raise


def cause(error: BaseException) -> str:
    """The first line of what a database said."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _manual_transactions(connection: Any, _record: Any) -> None:
    # sqlite3 would begin by itself, late and without the write lock.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_now(connection: sa.Connection) -> None:
    # A writer takes the lock before it reads the last number, so that nobody comes in between.
    writes = connection.get_execution_options().get("vitrine_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
