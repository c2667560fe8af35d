"""The micro-batcher with plain numbers instead of photos."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.batching import BatchLimits, MicroBatcher
from vitrine.errors import BadInput, Overloaded, Unavailable

Numbers = MicroBatcher[int, int, int]


def batching(
    work: Callable[[Numbers], Coroutine[Any, Any, None]],
    limits: BatchLimits,
    run: Callable[[list[int]], Sequence[int]],
    prepare: Callable[[int], int] = lambda n: n,
) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(4) as workers, ThreadPoolExecutor(1) as model:
            batcher = Numbers(prepare, run, limits, workers=workers, model_thread=model)
            batcher.start()
            await work(batcher)
            await batcher.stop()

    asyncio.run(asyncio.wait_for(main(), 20))


def double(numbers: list[int]) -> list[int]:
    return [2 * n for n in numbers]


def test_everyone_gets_their_own_answer_in_order() -> None:
    async def work(batcher: Numbers) -> None:
        answers = await asyncio.gather(*(batcher.submit([n, n + 1]) for n in range(100)))
        assert answers == [[2 * n, 2 * n + 2] for n in range(100)]
        assert batcher.batches < 100

    batching(work, BatchLimits(16, 5, 512), double)


def test_no_batch_is_larger_than_allowed() -> None:
    sizes: list[int] = []

    def run(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return double(numbers)

    async def work(batcher: Numbers) -> None:
        await batcher.submit(list(range(50)))

    batching(work, BatchLimits(8, 5, 64), run)
    assert max(sizes) == 8
    assert sum(sizes) == 50


def test_one_that_cannot_be_prepared_fails_only_its_own_caller() -> None:
    def prepare(n: int) -> int:
        if n == 3:
            raise BadInput("three is broken")
        return n

    async def work(batcher: Numbers) -> None:
        answers = await asyncio.gather(*(batcher.submit([n]) for n in range(8)), return_exceptions=True)
        assert [a for a in answers if not isinstance(a, BadInput)] == [[2 * n] for n in range(8) if n != 3]
        assert isinstance(answers[3], BadInput)

    batching(work, BatchLimits(8, 20, 64), double, prepare)


def test_a_full_queue_refuses_with_a_delay_and_recovers() -> None:
    gate = threading.Event()

    def run(numbers: list[int]) -> list[int]:
        gate.wait(10)
        return double(numbers)

    async def work(batcher: Numbers) -> None:
        held = [asyncio.create_task(batcher.submit([n])) for n in range(4)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="holds 4 of 4 images; try again in") as refused:
            await batcher.submit([9])
        assert refused.value.retry_after_s > 0
        gate.set()
        await asyncio.gather(*held)
        assert await batcher.submit([9]) == [18]

    batching(work, BatchLimits(2, 1, 4), run)


def test_more_than_ever_fits_is_bad_input_and_not_overload() -> None:
    async def work(batcher: Numbers) -> None:
        with pytest.raises(BadInput, match="has 5 images, this server takes 4 at a time; split it"):
            await batcher.submit([1, 2, 3, 4, 5])

    batching(work, BatchLimits(2, 1, 4), double)


def test_a_cancelled_caller_never_takes_a_slot_and_frees_its_places() -> None:
    gate, ran = threading.Event(), list[int]()

    def run(numbers: list[int]) -> list[int]:
        gate.wait(10)
        ran.extend(numbers)
        return double(numbers)

    async def work(batcher: Numbers) -> None:
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)  # the model is busy with it
        gone, stays = asyncio.create_task(batcher.submit([2])), asyncio.create_task(batcher.submit([3]))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert batcher.places_taken == 2
        gate.set()
        assert [await first, await stays] == [[2], [6]]

    batching(work, BatchLimits(1, 1, 8), run)
    assert ran == [1, 3]


def test_a_failing_model_tells_every_caller_and_goes_on() -> None:
    failures = iter([True, False])

    def run(numbers: list[int]) -> list[int]:
        if next(failures):
            raise RuntimeError("engine")
        return double(numbers)

    async def work(batcher: Numbers) -> None:
        with pytest.raises(RuntimeError, match="engine"):
            await batcher.submit([1])
        assert await batcher.submit([1]) == [2]

    batching(work, BatchLimits(8, 1, 64), run)


def test_stopping_finishes_what_is_inside_and_refuses_newcomers() -> None:
    def run(numbers: list[int]) -> list[int]:
        time.sleep(0.05)
        return double(numbers)

    async def work(batcher: Numbers) -> None:
        inside = [asyncio.create_task(batcher.submit([n])) for n in range(6)]
        await asyncio.sleep(0)
        await batcher.stop()
        assert await asyncio.gather(*inside) == [[2 * n] for n in range(6)]
        with pytest.raises(Unavailable, match="taken out of service"):
            await batcher.submit([1])

    batching(work, BatchLimits(2, 1, 64), run)
