"""One SQL database behind several kinds of tables: transactions that read or write, errors in sentences.

The registry's events, the living catalogue and the deltas of its collections share one SQLAlchemy URL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, ProgrammingError

from vitrine.connection import cause, open_engine, parse_url, use_wal
from vitrine.errors import BadInput, Tampered, Unavailable

_AT_A_TIME = 500  # rows of one statement: far below every database's limit of parameters


class Database:
    """Tables of one schema at one URL; they are made where there are none yet.

    Args:
        url: an SQLAlchemy URL, SQLite or PostgreSQL.
        tables: what is made.
        meta: a table of `key` and `value` that keeps the schema's number.
        schema: the number that this release reads and writes.
        what: what the messages call it.
        remedy: what they advise where it is damaged.

    Raises:
        BadInput: no such kind of URL, or tables written by a newer release.
        Tampered: the file is no database or is damaged.
        Unavailable: the database cannot be reached, written or unlocked in time.
    """

    def __init__(
        self,
        url: str,
        tables: sa.MetaData,
        meta: sa.Table,
        schema: int,
        *,
        what: str = "database",
        remedy: str = "restore a backup",
    ) -> None:
        self.url = parse_url(url)
        self._what, self._remedy = what, remedy
        self._tables, self._meta, self._schema = tables, meta, schema
        self._engine = open_engine(self.url)
        self._prepare()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view: what others commit meanwhile is not seen."""
        options: dict[str, Any] = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._explained(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, all or nothing."""
        options = {"vitrine_writes": True}
        with self._explained(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @property
    def _sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def _prepare(self) -> None:
        if self._sqlite:
            with self._explained():
                Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
                use_wal(str(self.url.database))
        found = self._found()
        if found is None:
            found = self._created()
        if found != str(self._schema):
            raise BadInput(
                f"the {self._what} at {self._where()} has schema {found} of {self._meta.name}, this release reads "
                f"{self._schema}; it was written by {_release(found, self._schema)}: use that one, "
                "or name another database in VITRINE_REGISTRY_URL"
            )

    def _found(self) -> str | None:
        with self.reading() as connection:
            if not sa.inspect(connection).has_table(self._meta.name):
                return None
            return self._schema_row(connection)

    def _created(self) -> str:
        try:
            with self.writing() as connection:
                return self._create(connection)
        except (IntegrityError, ProgrammingError):  # a server where somebody made the tables this very moment
            with self.writing() as connection:
                return self._create(connection)

    def _create(self, connection: sa.Connection) -> str:
        self._tables.create_all(connection)
        found = self._schema_row(connection)
        if found is None:
            connection.execute(self._meta.insert(), {"key": "schema", "value": str(self._schema)})
        return found or str(self._schema)

    def _schema_row(self, connection: sa.Connection) -> str | None:
        found: str | None = connection.scalar(sa.select(self._meta.c.value).where(self._meta.c.key == "schema"))
        return found

    def _where(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the database's errors into sentences; a race for a key is the caller's."""
        try:
            yield
        except (IntegrityError, ProgrammingError):
            raise
        except (OperationalError, OSError, sqlite3.OperationalError) as error:
            raise Unavailable(
                f"the {self._what} at {self._where()} cannot be used: {cause(error)}; "
                "check that the address is right, the database is running and its folder is writable"
            ) from error
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise Tampered(
                f"the {self._what} at {self._where()} is damaged or no {self._what}: {cause(error)}; {self._remedy}"
            ) from error


def put(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    newer: str = "",
) -> None:
    """Insert rows or replace those of the same primary key.

    Args:
        connection: of a writing transaction.
        table: where to.
        rows: each names every column.
        newer: a column; a row there with an equal or higher value of it stays.
    """
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    statement = statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: statement.excluded[column.name] for column in table.c if column.name not in keys},
        where=statement.excluded[newer] > table.c[newer] if newer else None,
    )
    for some in batches(list(rows)):
        connection.execute(statement, some)


def add_if_absent(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Insert a row unless its primary key is there; waits for somebody who is inserting the same."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(table).on_conflict_do_nothing(), dict(row))


def batches(things: Sequence[Any]) -> Iterable[list[Any]]:
    """Lists of at most as many as one statement takes."""
    for at in range(0, len(things), _AT_A_TIME):
        yield list(things[at : at + _AT_A_TIME])


def _release(found: str, ours: int) -> str:
    newer = found.isdigit() and int(found) > ours
    return "a newer release" if newer else "another release"
