"""The version before stands by, warm: the way back is a swap alone."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services import memory, wiring
from services.config import Settings
from services.follower import Follower
from services.priority import background_thread, lowered, normally
from services.snapshot import Snapshot, warm_sizes
from services.wiring import Target
from tests.factories import photo
from tests.services.conftest import MODEL, Running, running
from vitrine.client import VitrineClient
from vitrine.errors import Unavailable
from vitrine.events import IndexBuilt, RolledBack
from vitrine.home import Home


class Counting:
    """A running server whose follower keeps a standby and counts what it loads."""

    def __init__(self, server: Running, home: Home, *, keep: bool = True, broken: int = 0) -> None:
        self.server, self.home, self.loads, self.refreshed = server, home, list[int](), list[Snapshot]()
        self.broken = broken
        server.do(server.follower.stop())
        server.follower = server.do(self._make(keep))
        server.do(server.follower.start())

    async def _make(self, keep: bool) -> Follower:
        return Follower(
            self.server.live,
            look=lambda: wiring.choose(self.server.registry.state(), ""),
            load=self._load,
            changed=self.server.server.report_health,
            poll_s=0.05,
            refresh=self._refresh,
            may_stand_by=lambda _: keep,
        )

    def _refresh(self, snapshot: Snapshot) -> bool:
        self.refreshed.append(snapshot)
        return True

    def _load(self, target: Target) -> Snapshot:
        self.loads.append(target.production.version)
        if target.production.version == self.broken:
            raise Unavailable("this one cannot be loaded")
        return wiring.load_live(self.server.registry, self.home, target, Settings(threads=1, max_batch=2))

    def roll_back(self, to: int, previous: int) -> None:
        where = {"catalogue": "shop", "collection": f"shop--{MODEL}--{to}"}
        registry = self.server.registry
        registry.append(RolledBack(model=MODEL, version=to, previous=previous, **where, **registry.stamp()))


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_way_back_loads_nothing_and_answers_with_the_old_collection(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home)
        promoted(seed=2)
        until(lambda: client.info().version.version == 2)
        loaded = list(counting.loads)

        counting.roll_back(1, previous=2)
        until(lambda: client.info().version.version == 1)

        assert loaded == counting.loads == [1, 2]
        assert client.search(photo(1)).collection == f"shop--{MODEL}--1"


def test_what_stood_by_takes_in_what_changed_before_it_answers(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home)
        promoted(seed=2)
        until(lambda: client.info().version.version == 2)
        counting.refreshed.clear()

        counting.roll_back(1, previous=2)
        until(lambda: client.info().version.version == 1)

        assert 1 in [snapshot.version for snapshot in counting.refreshed]


def test_a_server_that_starts_loads_the_version_before_at_leisure(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1), promoted(seed=2)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home)
        until(lambda: server.live.standby is not None)

        assert counting.loads == [2, 1]
        assert client.info().version.version == 2
        assert server.live.standby is not None
        assert server.live.standby.version == 1


def test_a_version_before_that_cannot_be_loaded_does_not_touch_production(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1), promoted(seed=2)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home, broken=1)
        until(lambda: 1 in counting.loads)

        assert client.info().version.version == 2
        promoted(seed=3)
        until(lambda: client.info().version.version == 3)


def test_without_room_the_version_before_is_closed(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        Counting(server, home, keep=False)
        promoted(seed=2)
        until(lambda: client.info().version.version == 2)

        assert server.live.standby is None


def test_a_collection_made_anew_leaves_the_version_before_standing_by(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home)
        promoted(seed=2)
        until(lambda: client.info().version.version == 2)
        where = {"catalogue": "shop", "catalogue_digest": "1" * 64, "collection": f"shop--{MODEL}--2"}
        server.registry.append(IndexBuilt(model=MODEL, version=2, items=6, **where, **server.registry.stamp()))
        until(lambda: counting.loads == [1, 2, 2])
        until(lambda: server.live.standby is not None and server.live.standby.version == 1)


def test_a_kept_version_whose_collection_was_made_anew_is_loaded_again(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        counting = Counting(server, home)
        promoted(seed=2)
        until(lambda: client.info().version.version == 2)
        where = {"catalogue": "shop", "catalogue_digest": "1" * 64, "collection": f"shop--{MODEL}--1"}
        server.registry.append(IndexBuilt(model=MODEL, version=1, items=6, **where, **server.registry.stamp()))

        counting.roll_back(1, previous=2)
        until(lambda: client.info().version.version == 1)

        assert counting.loads == [1, 2, 1]


def test_loading_is_of_lower_priority_and_the_threads_it_makes_normally_are_not() -> None:
    thread = background_thread("test")
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def own() -> tuple[bool, int, int]:
        here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return lowered(), here, normally(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert thread.submit(own).result() == (True, min(19, usual + 10), usual)
    assert own() == (False, usual, usual)
    thread.shutdown()


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (32, (1, 2, 4, 8, 16, 32))])
def test_every_size_of_batch_that_matters_is_warmed_up(most: int, sizes: tuple[int, ...]) -> None:
    assert warm_sizes(most) == sizes


def test_what_is_left_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:    60 kB\n")
    limited = tmp_path / "cgroup"
    limited.mkdir()
    (limited / "memory.max").write_text("50000\n")
    (limited / "memory.current").write_text("45000\n")
    (limited / "memory.stat").write_text("anon 1\ninactive_file 3000\n")

    assert memory.available_bytes(meminfo, tmp_path / "none") == 60 * 1024
    assert memory.available_bytes(meminfo, limited) == 8000
    (limited / "memory.max").write_text("max\n")
    assert memory.available_bytes(meminfo, limited) == 60 * 1024
    assert memory.available_bytes(tmp_path / "none", tmp_path / "none") == 0


def test_a_version_stands_by_only_where_another_of_its_size_would_fit(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server:
        snapshot = server.live.snapshot
        assert snapshot is not None
        size = memory.size_of(snapshot)

        assert memory.has_room_for(snapshot, available=2 * size)
        assert not memory.has_room_for(snapshot, available=2 * size - 1)
        assert memory.may_stand_by("on")(snapshot)
        assert not memory.may_stand_by("off")(snapshot)


def test_the_collector_passes_over_what_was_imported_and_still_finds_what_comes_later() -> None:
    memory.spare_the_collector()
    try:
        tracked = len(gc.get_objects())
        later: list[object] = []
        later.append(later)  # a cycle: only the collector can free it
        seen = any(one is later for one in gc.get_objects())
        assert gc.get_freeze_count() > 10_000
        assert tracked < 10_000
        assert seen
    finally:
        gc.unfreeze()
