"""A follower asks whether anything was written, and looks only then, or after a while all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from services.batching import BatchLimits
from services.follower import Follower
from services.lanes import Pools
from services.snapshot import Live, Snapshot
from services.wiring import Target
from vitrine.encoder import Encoder
from vitrine.errors import Unavailable
from vitrine.lifecycle import Production
from vitrine.pulse import Beat


class Unused(Encoder):
    """A version that nobody asks."""

    def __init__(self) -> None: ...


class Registry:
    """What is asked and looked at, counted; `beat` and `target` are set by a test."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.now: Beat = ("first",)
        self.production = 1
        self.looks, self.refreshes, self.asked_by = 0, 0, set[str]()
        self.sound = True
        self.broken = False
        self.refreshing: threading.Event | None = None
        self.before: Target | None = None

    def beat(self) -> Beat:
        self.asked_by.add(threading.current_thread().name.partition("_")[0])
        return self.now

    def look(self) -> Target | str:
        self.looks += 1
        if self.broken:
            raise Unavailable("the database is away")
        live = Production(self.production, "shop", f"shop--{self.production}")
        return Target("shop", live, "0" * 64, before=self.before)

    def load(self, target: Target) -> Snapshot:
        if target.production.version == 7:
            raise Unavailable("this one cannot be loaded")
        return Snapshot("shop", target.production.version, Unused())

    def refresh(self, _snapshot: Snapshot) -> bool:
        self.refreshes += 1
        if self.refreshing is not None:
            self.refreshing.wait(10)
        return self.sound


def run(work: Callable[[Follower, Live], Awaitable[None]], registry: Registry) -> None:
    async def whole() -> None:
        pools = Pools.make(1)
        live = Live(pools, BatchLimits())

        async def changed() -> None: ...

        follower = Follower(
            live,
            registry.look,
            registry.load,
            changed,
            poll_s=0.01,
            refresh=registry.refresh,
            pulse=registry,
        )
        try:
            await work(follower, live)
        finally:
            await follower.stop()
            await live.swap(None)
            pools.close()

    asyncio.run(whole())


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.005)


def test_nothing_is_looked_at_while_nothing_was_written() -> None:
    registry = Registry()

    async def work(follower: Follower, _live: Live) -> None:
        for _ in range(5):
            await follower.step()
        await until(lambda: registry.refreshes == 2)  # one before the swap, one after

        assert registry.looks == 1

    run(work, registry)


def test_what_was_written_is_followed_at_the_next_step() -> None:
    registry = Registry()

    async def work(follower: Follower, live: Live) -> None:
        await follower.step()
        registry.now, registry.production = ("second",), 2
        await follower.step()

        assert live.snapshot is not None
        assert live.snapshot.name == "shop@2"

    run(work, registry)


def test_it_looks_each_time_where_nothing_is_known() -> None:
    registry = Registry()
    registry.now = None

    async def work(follower: Follower, _live: Live) -> None:
        for _ in range(3):
            await follower.step()

        assert registry.looks == 3

    run(work, registry)


def test_it_looks_after_a_while_though_nothing_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.follower._ANYWAY_S", 0.05)
    registry = Registry()

    async def work(follower: Follower, _live: Live) -> None:
        await follower.step()
        await asyncio.sleep(0.06)
        await follower.step()

        assert registry.looks == 2

    run(work, registry)


def test_a_look_that_failed_is_repeated_though_nothing_was_written() -> None:
    registry = Registry()
    registry.broken = True

    async def work(follower: Follower, live: Live) -> None:
        await follower.step()
        registry.broken = False
        await follower.step()

        assert registry.looks == 2
        assert live.snapshot is not None

    run(work, registry)


def test_a_refresh_that_failed_is_repeated_soon_and_then_left_alone() -> None:
    registry = Registry()
    registry.sound = False

    async def work(follower: Follower, _live: Live) -> None:
        await follower.start()
        await until(lambda: registry.refreshes == 4)
        registry.sound = True
        await until(lambda: registry.refreshes == 5)
        await asyncio.sleep(0.1)

        assert registry.refreshes == 5

    run(work, registry)


def test_what_was_written_during_a_refresh_is_taken_in_by_another_one() -> None:
    registry = Registry()

    async def work(follower: Follower, _live: Live) -> None:
        await follower.step()
        await until(lambda: registry.refreshes == 2)
        registry.refreshing, registry.now = threading.Event(), ("second",)
        await follower.step()
        await until(lambda: registry.refreshes == 3)
        registry.now = ("third",)
        await follower.step()  # the refresh before is still running
        registry.refreshing.set()
        await asyncio.sleep(0.05)
        await follower.step()
        await until(lambda: registry.refreshes == 4)

    run(work, registry)


@pytest.mark.parametrize(("waits", "thread"), [(False, "MainThread"), (True, "follower")])
def test_only_a_question_over_a_network_goes_to_a_thread(waits: bool, thread: str) -> None:
    registry = Registry(waits=waits)

    async def work(follower: Follower, _live: Live) -> None:
        await follower.step()

        assert registry.asked_by == {thread}

    run(work, registry)


def test_a_version_that_cannot_stand_by_keeps_no_change_of_the_catalogue_waiting() -> None:
    registry = Registry()

    async def work(follower: Follower, _live: Live) -> None:
        follower._may_stand_by = lambda _: True
        registry.before = Target("shop", Production(7, "shop", "shop--7"), "0" * 64)
        await follower.step()
        await until(lambda: registry.refreshes == 2)
        await until(lambda: follower._beside is None or follower._beside.done())
        registry.now = ("second",)
        await follower.step()
        await until(lambda: registry.refreshes == 3)

    run(work, registry)
