from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tests.postgres import Server
from vitrine.connection import open_engine, parse_url
from vitrine.errors import BadInput, Conflict, Tampered, Unavailable
from vitrine.eventlog import EventLog, _events, _meta
from vitrine.events import AliasMoved, Event, Registered


def event(version: int = 1, model: str = "shop", actor: str = "ann") -> Registered:
    return Registered(
        model=model, version=version, digest="a" * 64, at="2026-01-01T00:00:00", actor=actor, lineage={"ä": [1.5, None]}
    )


@pytest.fixture
def url(database_url: str) -> str:
    """Every test that asks for it runs on both databases."""
    return database_url


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/down/registry.db"


def test_a_log_begins_empty_and_makes_its_folder(url: str) -> None:
    log = EventLog(url)

    assert (log.last_seq(), log.read()) == (0, [])


def test_events_come_back_numbered_and_equal(url: str) -> None:
    written = EventLog(url).append([event(1), event(2)], expected_seq=0)

    assert [e.seq for e in written] == [1, 2]
    assert EventLog(url).read() == written


def test_reading_goes_on_after_a_number_and_keeps_to_a_model(url: str) -> None:
    log = EventLog(url)
    log.append([event(1), event(1, model="jobs"), event(2)], expected_seq=0)

    assert [e.seq for e in log.read(after=1)] == [2, 3]
    assert [e.seq for e in log.read(model="shop")] == [1, 3]


def test_the_loser_is_told_who_was_first_and_writes_nothing(url: str) -> None:
    log = EventLog(url)
    log.append([event(1, actor="bea")], expected_seq=0)

    with pytest.raises(Conflict, match="somebody else was first: bea registered shop@1"):
        log.append([event(2), event(3)], expected_seq=0)
    assert log.last_seq() == 1


def test_a_number_from_the_future_is_a_conflict_too(url: str) -> None:
    with pytest.raises(Conflict, match="has no event 5, which the command had seen: somebody replaced or restored it"):
        EventLog(url).append([event()], expected_seq=5)


def test_appending_nothing_writes_nothing(url: str) -> None:
    assert EventLog(url).append([], expected_seq=0) == []


def test_all_events_of_an_append_are_written_or_none(url: str) -> None:
    log = EventLog(url)
    odd = AliasMoved(model="shop", alias="x", version={1, 2}, at="", actor="")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        log.append([event(), odd], expected_seq=0)

    assert log.last_seq() == 0


def compete(url: str, actor: str, start: object, results: object) -> None:
    log = EventLog(url)
    start.wait()  # type: ignore[attr-defined]
    try:
        log.append([event(actor=actor)], expected_seq=0)
    except Conflict as error:
        results.put((actor, str(error)))  # type: ignore[attr-defined]
    else:
        results.put((actor, ""))  # type: ignore[attr-defined]


def test_of_racing_processes_exactly_one_wins(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(4), spawn.Queue()
    racers = [spawn.Process(target=compete, args=(url, f"actor-{n}", start, results)) for n in range(4)]
    for racer in racers:
        racer.start()
    outcome = dict(results.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join(timeout=60)

    (winner,) = [actor for actor, lost in outcome.items() if not lost]
    assert all(f"{winner} registered" in lost for actor, lost in outcome.items() if actor != winner)
    assert [e.actor for e in EventLog(url).read()] == [winner]


def test_many_threads_that_try_again_leave_no_gap_and_lose_nothing(url: str) -> None:
    log = EventLog(url)

    def add(actor: str) -> None:
        for _ in range(5):
            while True:
                try:
                    log.append([event(actor=actor)], expected_seq=log.last_seq())
                    break
                except Conflict:
                    continue

    threads = [threading.Thread(target=add, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events: list[Event] = log.read()
    assert [e.seq for e in events] == list(range(1, 21))
    assert sorted(e.actor for e in events) == sorted(f"t{n}" for n in range(4) for _ in range(5))


def test_a_reader_goes_on_while_somebody_writes(file_url: str, tmp_path: Path) -> None:
    log = EventLog(file_url)
    log.append([event()], expected_seq=0)
    writer = sqlite3.connect(tmp_path / "deep/down/registry.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert log.last_seq() == 1
    finally:
        writer.close()


def test_a_file_that_is_no_database_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("this is a text about mugs and not a database at all " * 30)

    with pytest.raises(
        Tampered,
        match="damaged or no registry: file is not a database; restore a backup, or move it away and rebuild it with: vitrine models sync",
    ):
        EventLog(f"sqlite:///{tmp_path}/registry.db")


def test_a_damaged_page_is_an_error_in_words(file_url: str, tmp_path: Path) -> None:
    log = EventLog(file_url)
    log.append([event(n) for n in range(1, 200)], expected_seq=0)
    path = tmp_path / "deep/down/registry.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)

    with pytest.raises(Tampered, match="restore a backup"):
        EventLog(file_url).read()


def test_a_log_of_a_newer_release_is_not_touched(url: str) -> None:
    EventLog(url).append([event()], expected_seq=0)
    with open_engine(parse_url(url)).begin() as connection:
        connection.execute(sa.text("UPDATE meta SET value = '2' WHERE key = 'schema'"))

    with pytest.raises(BadInput) as caught:
        EventLog(url)
    assert "has schema 2 of meta, this release reads 1; it was written by a newer release: use that one" in str(
        caught.value
    )


def test_opening_a_log_waits_for_no_writer(file_url: str, tmp_path: Path) -> None:
    EventLog(file_url).append([event()], expected_seq=0)
    writer = sqlite3.connect(tmp_path / "deep/down/registry.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert EventLog(file_url).last_seq() == 1
    finally:
        writer.close()


def test_the_loser_by_several_events_is_told_of_the_one_that_took_its_place(url: str) -> None:
    log = EventLog(url)
    log.append([event(1, actor="bea"), event(2, actor="cid"), event(3, actor="dan")], expected_seq=0)

    with pytest.raises(Conflict, match="cid registered shop@2 "):
        log.append([event(9)], expected_seq=1)


def test_a_reader_gets_what_it_lacks(url: str) -> None:
    log = EventLog(url)
    identity, events = log.follow("", 0)
    assert (len(identity), events) == (32, [])
    log.append([event(1), event(2)], expected_seq=0)

    assert [e.seq for e in log.follow(identity, 1)[1]] == [2]
    assert EventLog(url).follow(identity, 2) == (identity, [])


def test_a_reader_of_a_log_that_was_replaced_gets_everything(file_url: str, tmp_path: Path) -> None:
    log = EventLog(file_url)
    log.append([event(1), event(2), event(3)], expected_seq=0)
    identity, _ = log.follow("", 0)
    for file in (tmp_path / "deep/down").iterdir():
        file.unlink()
    EventLog(file_url).append([event(n) for n in (5, 6, 7, 8)], expected_seq=0)

    other, events = log.follow(identity, 3)
    assert other != identity
    assert [e.version for e in events] == [5, 6, 7, 8]  # type: ignore[attr-defined]


def test_a_reader_of_an_older_backup_gets_everything(url: str) -> None:
    log = EventLog(url)
    log.append([event(1)], expected_seq=0)
    identity, _ = log.follow("", 0)

    assert [e.seq for e in log.follow(identity, 7)[1]] == [1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "no database URL; an example"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("carrierpigeon://x/y", "no kind of database; use sqlite or postgresql"),
    ],
)
def test_an_address_that_cannot_work_says_what_can(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        EventLog(url)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        EventLog(f"sqlite:///{tmp_path}/file/registry.db")


@pytest.mark.parametrize("actor", ["ann\0", "\udcff"])
def test_what_no_database_can_keep_is_bad_input(url: str, actor: str) -> None:
    with pytest.raises(BadInput, match="actor is no plain text"):
        EventLog(url).append([event(actor=actor)], expected_seq=0)


def test_the_tables_are_plain_enough_for_postgresql() -> None:
    statements = [str(CreateTable(table).compile(dialect=postgresql.dialect())) for table in (_events, _meta)]

    assert "seq INTEGER NOT NULL" in statements[0]  # numbered here, never by a sequence
    assert "SERIAL" not in statements[0]
    assert "PRIMARY KEY (seq)" in statements[0]


def test_the_password_of_a_database_is_never_printed() -> None:
    with pytest.raises(Unavailable, match="check that the address is right, the database is running") as caught:
        EventLog("postgresql://ann:secret@127.0.0.1:1/registry")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1/registry" in str(caught.value)


def test_a_server_that_comes_back_is_used_again(postgres: Server) -> None:
    log = EventLog(postgres.database())
    log.append([event()], expected_seq=0)
    postgres.stop()
    try:
        with pytest.raises(Unavailable, match="cannot be used"):
            log.last_seq()
    finally:
        postgres.start()

    assert log.last_seq() == 1


def test_a_user_who_may_only_read_is_told_so(postgres: Server) -> None:
    url = postgres.database()
    EventLog(url).append([event()], expected_seq=0)
    with open_engine(parse_url(url)).begin() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS reader"))
        connection.execute(sa.text("CREATE ROLE reader LOGIN"))
        connection.execute(sa.text("GRANT SELECT ON events, meta TO reader"))
    try:
        log = EventLog(url.replace("postgres@", "reader@"))
        assert [e.seq for e in log.read()] == [1]
        with pytest.raises(Unavailable, match=r"permission denied for table events; check the rights of its user"):
            log.append([event(2)], expected_seq=1)
    finally:
        with open_engine(parse_url(url)).begin() as connection:
            connection.execute(sa.text("DROP OWNED BY reader"))
            connection.execute(sa.text("DROP ROLE reader"))
