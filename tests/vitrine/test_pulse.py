"""Whether a database was written to since: what servers ask instead of reading it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from tests.postgres import Server
from vitrine.database import Database
from vitrine.eventlog import EventLog
from vitrine.events import AliasMoved
from vitrine.pulse import Beat, Pulse


def event(number: int) -> AliasMoved:
    return AliasMoved(model="shop", alias="best", version=number, at="2026-11-21T08:00:00+00:00", actor="ada", why="")


def long_ago(url: str, seconds: float = 3600) -> None:
    """As if the files of a SQLite database had been written at that time."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            os.utime(file, (time.time() - seconds,) * 2)


@pytest.fixture
def log(database_url: str) -> EventLog:
    found = EventLog(database_url)
    found.append([event(1)], expected_seq=0)
    found.follow("", 0)  # the first reader gives it its identity
    return found


def quiet_beat(pulse: Pulse, url: str, seconds: float = 3600) -> Beat:
    long_ago(url, seconds)
    return pulse.beat()


def test_it_stays_the_same_while_others_only_read(database_url: str, log: EventLog) -> None:
    pulse = Pulse(database_url)
    before = quiet_beat(pulse, database_url)

    assert before is not None
    log.follow("", 0)
    EventLog(database_url).last_seq()
    assert pulse.beat() == before


def test_it_differs_after_a_commit(database_url: str, log: EventLog) -> None:
    pulse = Pulse(database_url)
    before = quiet_beat(pulse, database_url)

    log.append([event(2)], expected_seq=1)
    assert pulse.beat() != before


def test_it_differs_for_good_once_the_write_is_old(database_url: str, log: EventLog) -> None:
    pulse = Pulse(database_url)
    before = quiet_beat(pulse, database_url)

    log.append([event(2)], expected_seq=1)
    after = quiet_beat(pulse, database_url, seconds=1800)
    assert after is not None
    assert after != before
    assert pulse.beat() == after


def test_it_differs_when_a_commit_is_still_in_the_log_of_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    EventLog(url)
    other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    pulse = Pulse(url)
    before = quiet_beat(pulse, url)

    other.execute("INSERT INTO meta VALUES ('a', 'b')")  # its connection stays open: no checkpoint
    assert (tmp_path / "registry.db-wal").stat().st_size
    assert quiet_beat(pulse, url, seconds=1800) not in {None, before}
    other.close()


def test_what_was_written_a_moment_ago_is_no_answer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    EventLog(url)
    pulse = Pulse(url)

    assert pulse.beat() is None
    assert quiet_beat(pulse, url, seconds=9) is None
    assert quiet_beat(pulse, url, seconds=11) is not None


def test_another_file_in_its_place_is_noticed_though_it_is_as_old_and_as_large(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    EventLog(url)
    shutil.copy(tmp_path / "registry.db", tmp_path / "backup.db")
    pulse = Pulse(url)
    moment = time.time() - 3600
    for name in ("registry.db", "backup.db"):
        os.utime(tmp_path / name, (moment, moment))
    before = pulse.beat()

    (tmp_path / "backup.db").replace(tmp_path / "registry.db")
    assert before is not None
    assert pulse.beat() != before


def test_a_database_that_is_not_there_is_not_known(tmp_path: Path) -> None:
    assert Pulse(f"sqlite:///{tmp_path}/registry.db").beat() is None
    assert Pulse("postgresql://nobody@127.0.0.1:1/none").beat() is None


def test_only_a_database_behind_a_network_makes_an_event_loop_wait(tmp_path: Path) -> None:
    assert not Pulse(f"sqlite:///{tmp_path}/registry.db").waits
    assert Pulse("postgresql://nobody@127.0.0.1:1/none").waits


def test_it_is_not_the_same_before_an_open_transaction_commits(postgres: Server) -> None:
    url = postgres.database()
    log = EventLog(url)
    pulse = Pulse(url)
    database: Database = log._database
    with database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
        during = pulse.beat()

    assert pulse.beat() != during


def test_it_goes_on_after_its_connection_was_cut(postgres: Server) -> None:
    url = postgres.database()
    log = EventLog(url)
    pulse = Pulse(url)
    before = pulse.beat()
    database: Database = log._database
    with database.writing() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )

    assert before is not None
    assert pulse.beat() is None
    assert pulse.beat() is not None
    pulse.close()
