"""Writers that meet in the same rows of one database, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vitrine.deltas import DeltaLog
from vitrine.eventlog import EventLog
from vitrine.events import Evaluated
from vitrine.ports import Delta

COMMON = {"model": "shop", "at": "2026-01-01T00:00:00+00:00", "actor": "a test"}


def evaluated(log: EventLog, *examples: str) -> None:
    figures = {"dataset": "shop", "dataset_digest": "d", "protocol": "holdout", "via": "exact", "per_query": "q"}
    counts: dict[str, Any] = {"version": 1, "metrics": {}, "queries": 1, "gallery": 1}
    log.append([Evaluated(**figures, **counts, details={"examples": list(examples)}, **COMMON)], expected_seq=0)


def test_two_erasures_at_once_both_reach_the_log(database_url: str) -> None:
    evaluated(EventLog(database_url), "ann", "bob")
    reading = threading.Event()

    def erase(name: str, seconds: float) -> int:
        def change(fields: dict[str, Any]) -> dict[str, Any]:
            reading.set()
            time.sleep(seconds)
            kept = [one for one in fields["details"]["examples"] if one != name]
            return {**fields, "details": {"examples": kept}}

        return EventLog(database_url).redact(change)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(erase, "ann", 0.5)
        reading.wait(10)
        second = pool.submit(erase, "bob", 0.0)
        assert (first.result(30), second.result(30)) == (1, 1)

    (event,) = EventLog(database_url).read()
    assert isinstance(event, Evaluated)
    assert event.details == {"examples": []}


def test_writers_of_the_same_deltas_in_another_order_do_not_block_each_other(database_url: str) -> None:
    names = [f"item-{number:03}" for number in range(400)]
    vector = np.ones(4, np.float32)
    logs, both = [DeltaLog(database_url), DeltaLog(database_url)], threading.Barrier(2)

    def write(log: DeltaLog, order: list[str], seq: int) -> None:
        both.wait(30)
        log.write("c", [Delta(seq, name, vector, {}) for name in order])

    for turn in range(1, 5):
        with ThreadPoolExecutor(2) as pool:
            orders = (names, names[::-1])
            running = [
                pool.submit(write, log, order, 2 * turn + place)
                for place, (log, order) in enumerate(zip(logs, orders, strict=True))
            ]
            for one in running:
                one.result(60)
        assert {delta.seq for delta in logs[0].read("c", 0)} == {2 * turn + 1}
