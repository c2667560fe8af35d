"""The threads that make inputs ready, with jobs that note what happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.preparing import Aside, Preparer


class Job:
    """Prepares to its own name, perhaps behind a gate, and notes in which thread it arrived."""

    def __init__(self, name: str, begun: list[str], gate: threading.Event | None = None) -> None:
        self.name, self._begun, self._gate = name, begun, gate
        self.arrived: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.thread = 0
        self.bulk, self.wanted = False, True

    def prepare(self) -> object:
        self._begun.append(self.name)
        if self._gate:
            self._gate.wait(10)
        if self.name == "broken":
            raise ValueError(self.name)
        return self.name

    def arrive(self, ready: object, seconds: float) -> None:
        assert seconds >= 0
        self.thread = threading.get_ident()
        self.arrived.set_result(ready)


def preparing(work: Callable[[Preparer], Coroutine[Any, Any, None]], width: int, *, busy: bool = False) -> None:
    with ThreadPoolExecutor(width) as threads:
        asyncio.run(asyncio.wait_for(work(Preparer(threads, width, lambda: busy)), 20))


@pytest.mark.parametrize("busy", [False, True])
def test_every_job_arrives_once_on_the_event_loop(busy: bool) -> None:
    async def work(preparer: Preparer) -> None:
        begun: list[str] = []
        jobs = [Job(str(number), begun) for number in range(200)]
        for job in jobs:
            preparer.add([job], bulk=False)
        assert await asyncio.gather(*(job.arrived for job in jobs)) == [str(number) for number in range(200)]
        assert {job.thread for job in jobs} == {threading.get_ident()}
        assert sorted(begun, key=int) == [str(number) for number in range(200)]

    preparing(work, 3, busy=busy)


def test_jobs_of_one_request_run_side_by_side() -> None:
    async def work(preparer: Preparer) -> None:
        begun, gate = list[str](), threading.Event()
        jobs = [Job(name, begun, gate) for name in "abcd"]
        preparer.add(jobs, bulk=False)
        while len(begun) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert sorted(begun) == ["a", "b", "c"]
        gate.set()
        await asyncio.gather(*(job.arrived for job in jobs))

    preparing(work, 3)


def test_after_many_tiny_jobs_large_ones_still_run_side_by_side() -> None:
    async def work(preparer: Preparer) -> None:
        tiny = [Job("tiny", []) for _ in range(300)]
        preparer.add(tiny, bulk=False)
        await asyncio.gather(*(job.arrived for job in tiny))
        begun, gates = list[str](), [threading.Event() for _ in "abcd"]
        jobs = [Job(name, begun, gate) for name, gate in zip("abcd", gates, strict=True)]
        preparer.add(jobs, bulk=False)
        await asyncio.sleep(0.02)
        gates[0].set()  # the first was large
        async with asyncio.timeout(20):
            while len(begun) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for gate in gates:
            gate.set()
        await asyncio.gather(*(job.arrived for job in jobs))
        assert sorted(begun) == ["a", "b", "c", "d"]

    preparing(work, 3)


def test_urgent_jobs_overtake_bulk_that_waits() -> None:
    async def work(preparer: Preparer) -> None:
        begun, gate = list[str](), threading.Event()
        first = Job("first", begun, gate)
        preparer.add([first], bulk=False)
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        rest = [Job("bulk", begun), Job("urgent", begun)]
        preparer.add(rest[:1], bulk=True)
        preparer.add(rest[1:], bulk=False)
        gate.set()
        await asyncio.gather(*(job.arrived for job in (first, *rest)))
        assert begun == ["first", "urgent", "bulk"]

    preparing(work, 1)


def test_what_a_job_raises_arrives_and_the_thread_goes_on() -> None:
    async def work(preparer: Preparer) -> None:
        broken, sound = Job("broken", []), Job("sound", [])
        preparer.add([broken, sound], bulk=False)
        assert isinstance(await broken.arrived, ValueError)
        assert await sound.arrived == "sound"

    preparing(work, 1)


def test_another_event_loop_is_served_after_one_that_ended_in_the_middle_of_a_job() -> None:
    gate = threading.Event()

    async def leaves(preparer: Preparer) -> None:
        begun: list[str] = []
        preparer.add([Job("lost", begun, gate)], bulk=False)
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def comes(preparer: Preparer) -> None:
        job = Job("found", [])
        preparer.add([job], bulk=False)
        gate.set()
        assert await asyncio.wait_for(job.arrived, 10) == "found"

    with ThreadPoolExecutor(1) as threads:
        preparer = Preparer(threads, 1)
        asyncio.run(leaves(preparer))
        asyncio.run(comes(preparer))


class LargeJob(Job):
    """Finds out in the first thread that it takes much memory, and waits behind its gate in the other."""

    def prepare(self) -> object:
        raise Aside(super().prepare)


def with_aside(work: Callable[[Preparer], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(1) as threads, ThreadPoolExecutor(1) as large:
        asyncio.run(asyncio.wait_for(work(Preparer(threads, 1, aside=Preparer(large, 1))), 20))


def test_large_jobs_go_one_at_a_time_and_keep_nobody_else_waiting() -> None:
    async def work(preparer: Preparer) -> None:
        begun, gate = list[str](), threading.Event()
        large = [LargeJob(name, begun, gate) for name in ("first", "second")]
        small = Job("small", [])
        preparer.add([*large, small], bulk=False)
        assert await small.arrived == "small"
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert begun == ["first"]
        gate.set()
        assert await asyncio.gather(*(job.arrived for job in large)) == ["first", "second"]

    with_aside(work)


def test_a_large_job_that_nobody_waits_for_any_more_is_not_done() -> None:
    async def work(preparer: Preparer) -> None:
        begun, gate = list[str](), threading.Event()
        first, second = (LargeJob(name, begun, gate) for name in ("first", "second"))
        preparer.add([first, second], bulk=False)
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        second.wanted = False
        gate.set()
        assert await first.arrived == "first"
        assert await second.arrived is None
        assert begun == ["first"]

    with_aside(work)


def test_urgent_large_jobs_overtake_bulk_ones() -> None:
    async def work(preparer: Preparer) -> None:
        begun, gate = list[str](), threading.Event()
        first, bulk, urgent = (LargeJob(name, begun, gate) for name in ("first", "bulk", "urgent"))
        bulk.bulk = True
        preparer.add([first, bulk], bulk=False)
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        preparer.add([urgent], bulk=False)
        behind = Job("behind", [])
        preparer.add([behind], bulk=False)
        await behind.arrived  # so the one before it has gone aside
        gate.set()
        await asyncio.gather(first.arrived, bulk.arrived, urgent.arrived)
        assert begun == ["first", "urgent", "bulk"]

    with_aside(work)
