"""One cheap question to a database: may something have been written since? A server asks it twice a second, all day.

Reading events and catalogue takes milliseconds of a processor; this takes microseconds. Equal answers mean that nothing
was committed between them, as far as the database tells:

- SQLite: size and time of its file and of the log beside it. No connection is kept, because that would keep committed
  changes in the log, out of a copied file. A writer touches the log shortly before its commit can be seen (on a slow
  disk, seconds), so what was written lately is no answer.
- PostgreSQL: the transactions that a reader would see now, over a kept connection. Other databases of the server count.

Whoever relies on it reads again after a while all the same (`services.follower`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from vitrine.connection import open_engine, parse_url

_LATELY_S = 10.0  # longer than a disk takes to confirm a write
_SEEN = "SELECT pg_current_snapshot()::text || ' since ' || pg_postmaster_start_time()::text"

Beat = tuple[object, ...] | None
"""Equal to another one: nothing was committed in between. None: not known, equal to nothing."""


class Pulse:
    """The question to one SQLAlchemy URL. One thread at a time asks it.

    Raises:
        BadInput, Unavailable: no URL of a database that Vitrine can use.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._engine = open_engine(self._url).execution_options(isolation_level="AUTOCOMMIT")
        self._connection: sa.Connection | None = None

    @property
    def waits(self) -> bool:
        """Whether the question goes over a network; an event loop asks such a one in a thread."""
        return self._url.get_backend_name() != "sqlite"

    def beat(self) -> Beat:
        """What to compare with the next one; never raises: a database that does not answer is not known."""
        return self._server_beat() if self.waits else _file_beat(Path(str(self._url.database)), time.time())

    def close(self) -> None:
        """Let go of the connection; it may be asked again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _server_beat(self) -> Beat:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            return (self._connection.exec_driver_sql(_SEEN).scalar_one(),)
        except SQLAlchemyError:  # whoever reads in earnest says what is wrong
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.invalidate()
                connection.close()
            return None


def _file_beat(database: Path, now: float) -> Beat:
    found, log = _stat(database), _stat(database.with_name(f"{database.name}-wal"))
    if found is None:
        return None
    files = [found, log] if log is not None and log.st_size else [found]  # readers come and go with an empty log
    if any(abs(now - file.st_mtime) < _LATELY_S for file in files):
        return None
    return tuple((file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns) for file in files)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
