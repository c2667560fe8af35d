"""The micro-batcher and its places with plain numbers instead of photos."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batching import BULK_SHARE, BatchLimits, MicroBatcher
from services.pace import Pace, Returning
from services.places import Places
from services.preparing import Preparer
from vitrine.errors import BadInput, Overloaded, Unavailable


class Counter:
    """A batcher of numbers with places of its own."""

    def __init__(self, batcher: MicroBatcher[int, int, int], places: Places) -> None:
        self.batcher, self.places = batcher, places

    async def submit(self, numbers: Sequence[int], *, within_s: float | None = None) -> list[int]:
        return await self.places.serve([(self.batcher, numbers)], within_s=within_s)

    async def bulk(self, numbers: Sequence[int]) -> list[Any]:
        return await self.places.serve_bulk([(self.batcher, numbers)])

    @property
    def empty(self) -> bool:
        """Whether every place is free and nothing is left in any queue."""
        inside = self.batcher.places_taken or self.batcher.waiting or sum(self.batcher._preparing)
        return not (inside or self.places.taken or self.places.bulk_taken)


def batching(
    work: Callable[[Counter], Coroutine[Any, Any, None]],
    limits: BatchLimits,
    run: Callable[[list[int]], Sequence[int]],
    prepare: Callable[[int], int] = lambda n: n,
    threads: int = 4,
) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(threads) as workers, ThreadPoolExecutor(1) as model:
            turn = asyncio.Lock()
            batcher = MicroBatcher[int, int, int](
                "images",
                prepare,
                run,
                limits,
                preparer=Preparer(workers, threads, turn.locked),
                model=model,
                turn=turn,
            )
            counter = Counter(batcher, Places(limits))
            batcher.start()
            await work(counter)
            await counter.places.stop()
            await batcher.stop()
            assert counter.empty

    asyncio.run(asyncio.wait_for(main(), 20))


def double(numbers: list[int]) -> list[int]:
    return [2 * n for n in numbers]


def test_everyone_gets_their_own_answer_in_order() -> None:
    async def work(counter: Counter) -> None:
        answers = await asyncio.gather(*(counter.submit([n, n + 1]) for n in range(100)))
        assert answers == [[2 * n, 2 * n + 2] for n in range(100)]
        assert counter.batcher.batches < 100

    batching(work, BatchLimits(16, 5, 512), double)


def test_no_batch_is_larger_than_allowed() -> None:
    sizes: list[int] = []

    def run(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return double(numbers)

    async def work(counter: Counter) -> None:
        await counter.submit(list(range(50)))

    batching(work, BatchLimits(8, 5, 64), run)
    assert max(sizes) == 8
    assert sum(sizes) == 50


def test_one_that_cannot_be_prepared_fails_only_its_own_caller() -> None:
    def prepare(n: int) -> int:
        if n == 3:
            raise BadInput("three is broken")
        return n

    async def work(counter: Counter) -> None:
        answers = await asyncio.gather(*(counter.submit([n]) for n in range(8)), return_exceptions=True)
        assert [a for a in answers if not isinstance(a, BadInput)] == [[2 * n] for n in range(8) if n != 3]
        assert isinstance(answers[3], BadInput)

    batching(work, BatchLimits(8, 20, 64), double, prepare)


def test_a_full_queue_refuses_with_a_delay_and_recovers() -> None:
    gate = threading.Event()

    def run(numbers: list[int]) -> list[int]:
        gate.wait(10)
        return double(numbers)

    async def work(counter: Counter) -> None:
        held = [asyncio.create_task(counter.submit([n])) for n in range(4)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="holds 4 of 4 images and titles; try again in") as refused:
            await counter.submit([9])
        assert refused.value.retry_after_s > 0
        gate.set()
        await asyncio.gather(*held)
        assert await counter.submit([9]) == [18]

    batching(work, BatchLimits(2, 1, 4), run)


def test_more_than_ever_fits_is_bad_input_and_not_overload() -> None:
    async def work(counter: Counter) -> None:
        with pytest.raises(BadInput, match="has 5 images, this server takes 4 at a time; split it"):
            await counter.submit([1, 2, 3, 4, 5])

    batching(work, BatchLimits(2, 1, 4), double)


def test_a_cancelled_caller_never_takes_a_slot_and_frees_its_places() -> None:
    gate, ran = threading.Event(), list[int]()

    def run(numbers: list[int]) -> list[int]:
        gate.wait(10)
        ran.extend(numbers)
        return double(numbers)

    async def work(counter: Counter) -> None:
        first = asyncio.create_task(counter.submit([1]))
        await asyncio.sleep(0.05)  # the model is busy with it
        gone, stays = asyncio.create_task(counter.submit([2])), asyncio.create_task(counter.submit([3]))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert counter.places.taken == 2
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

    async def work(counter: Counter) -> None:
        with pytest.raises(RuntimeError, match="engine"):
            await counter.submit([1])
        assert await counter.submit([1]) == [2]

    batching(work, BatchLimits(8, 1, 64), run)


def test_stopping_finishes_what_is_inside_and_refuses_newcomers() -> None:
    def run(numbers: list[int]) -> list[int]:
        time.sleep(0.05)
        return double(numbers)

    async def work(counter: Counter) -> None:
        inside = [asyncio.create_task(counter.submit([n])) for n in range(6)]
        await asyncio.sleep(0)
        await counter.places.stop()
        assert await asyncio.gather(*inside) == [[2 * n] for n in range(6)]
        with pytest.raises(Unavailable, match="taken out of service"):
            await counter.submit([1])

    batching(work, BatchLimits(2, 1, 64), run)


async def waiting(counter: Counter, inputs: int) -> None:
    while counter.batcher.waiting < inputs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


# --- how long a batch waits -------------------------------------------------------------------


def test_a_lone_input_waits_for_nobody() -> None:
    async def work(counter: Counter) -> None:
        assert await counter.submit([1]) == [2]

    batching(work, BatchLimits(8, 60_000, 64), double)  # it would run into the time limit


def test_a_batch_waits_for_what_is_being_prepared() -> None:
    ready, sizes = threading.Event(), list[int]()

    def prepare(n: int) -> int:
        if n > 1:
            ready.wait(10)
        return n

    def run(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return double(numbers)

    async def work(counter: Counter) -> None:
        calls = [asyncio.create_task(counter.submit([n])) for n in (1, 2, 3)]
        await waiting(counter, 1)
        ready.set()
        assert await asyncio.gather(*calls) == [[2], [4], [6]]

    batching(work, BatchLimits(8, 60_000, 64), run, prepare)
    assert sum(sizes) == 3
    assert sizes[0] > 1


def test_a_batch_that_holds_most_of_what_is_inside_waits_for_no_more() -> None:
    held = threading.Event()

    def prepare(n: int) -> int:
        if n == 9:
            held.wait(10)
        return n

    async def work(counter: Counter) -> None:
        late = asyncio.create_task(counter.submit([9]))
        assert await asyncio.gather(*(counter.submit([n]) for n in range(3))) == [[0], [2], [4]]
        held.set()
        assert await late == [18]

    batching(work, BatchLimits(8, 60_000, 64), double, prepare)


def test_a_batch_does_not_wait_for_one_that_is_being_prepared_and_gives_up() -> None:
    held = threading.Event()

    def prepare(n: int) -> int:
        if n == 2:
            held.wait(10)
        return n

    async def work(counter: Counter) -> None:
        stays, gone = (asyncio.create_task(counter.submit([n])) for n in (1, 2))
        await waiting(counter, 1)
        gone.cancel()
        assert await stays == [2]
        held.set()

    batching(work, BatchLimits(8, 60_000, 64), double, prepare)


def test_one_that_gives_up_before_it_is_prepared_is_never_prepared() -> None:
    held, prepared = threading.Event(), list[int]()

    def prepare(n: int) -> int:
        held.wait(10)
        prepared.append(n)
        return n

    async def work(counter: Counter) -> None:
        first = asyncio.create_task(counter.submit([1]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(counter.submit([2]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert counter.places.taken == 1
        held.set()
        assert await first == [2]

    batching(work, BatchLimits(1, 1, 8), double, prepare, threads=1)
    assert prepared == [1]


# --- bulk ---------------------------------------------------------------------------------------


class Gate:
    """A model that waits for `release` and notes its batches."""

    def __init__(self) -> None:
        self.open, self.batches = threading.Event(), list[list[int]]()

    def run(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.open.wait(10)
        return double(numbers)

    async def begun(self) -> None:
        while not self.batches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


BULK = 1000  # numbers from here on are bulk


async def queued(counter: Counter, gate: Gate, urgent: int, bulk: int) -> list[asyncio.Task[list[Any]]]:
    """One input holds the model; behind it wait bulk and, later come, urgent ones."""
    calls = [asyncio.create_task(counter.submit([-1]))]
    await gate.begun()
    calls += [asyncio.create_task(counter.bulk([BULK + n])) for n in range(bulk)]
    await asyncio.sleep(0.02)
    calls += [asyncio.create_task(counter.submit([n])) for n in range(urgent)]
    await waiting(counter, urgent + bulk)
    return calls


def test_urgent_inputs_go_before_bulk_and_bulk_fills_what_is_left() -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        calls = await queued(counter, gate, urgent=3, bulk=10)
        gate.open.set()
        await asyncio.gather(*calls)

    batching(work, BatchLimits(8, 1, 64, bulk_ms=1e9), gate.run)
    assert gate.batches[1:] == [[0, 1, 2, *range(BULK, BULK + 5)], [*range(BULK + 5, BULK + 10)]]


@pytest.mark.parametrize("most", [1, 8])
def test_bulk_gets_its_share_while_urgent_inputs_would_fill_every_batch(most: int) -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        calls = await queued(counter, gate, urgent=8 * most, bulk=2)
        gate.open.set()
        await asyncio.gather(*calls)

    batching(work, BatchLimits(most, 1, 128), gate.run)
    first_slots = [n for batch in gate.batches[1:] for n in batch][: 8 * most]
    assert sum(n >= BULK for n in first_slots) == min(2, round(8 * most * BULK_SHARE))


def test_bulk_does_not_make_a_slow_batch_long() -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        calls = await queued(counter, gate, urgent=1, bulk=12)
        await asyncio.sleep(0.05)  # the first input took this long
        gate.open.set()
        await asyncio.gather(*calls)

    batching(work, BatchLimits(16, 1, 64, bulk_ms=1), gate.run)
    assert len(gate.batches[1]) == 1 + 4  # the fewest that bulk may fill


def test_bulk_waits_for_places_and_leaves_half_of_them_to_others() -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        bulk = [asyncio.create_task(counter.bulk([n, n])) for n in range(6)]
        await gate.begun()
        await asyncio.sleep(0.02)
        assert counter.places.bulk_taken == counter.places.taken == 4
        urgent = [asyncio.create_task(counter.submit([n])) for n in range(4)]
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded):
            await counter.submit([9])
        gate.open.set()
        assert await asyncio.gather(*bulk) == [[2 * n, 2 * n] for n in range(6)]
        await asyncio.gather(*urgent)

    batching(work, BatchLimits(2, 1, 8), gate.run)


def test_bulk_that_waits_for_places_and_gives_up_leaves_the_line() -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        calls = [asyncio.create_task(counter.bulk([n, n])) for n in range(3)]
        await gate.begun()
        calls[1].cancel()
        gate.open.set()
        assert await calls[0] == [0, 0]
        assert await calls[2] == [4, 4]

    batching(work, BatchLimits(2, 1, 4), gate.run)


def test_in_bulk_a_broken_input_leaves_its_error_in_its_slot() -> None:
    broken = BadInput("three is broken")

    def prepare(n: int) -> int:
        if n == 3:
            raise broken
        return n

    async def work(counter: Counter) -> None:
        assert await counter.bulk([1, 3, 5]) == [2, broken, 10]

    batching(work, BatchLimits(8, 1, 64), double, prepare)


def test_more_than_bulk_may_ever_hold_is_bad_input() -> None:
    async def work(counter: Counter) -> None:
        with pytest.raises(BadInput, match="5 images at a time, 4 are allowed in bulk; split it"):
            await counter.bulk([1, 2, 3, 4, 5])

    batching(work, BatchLimits(2, 1, 8), double)


# --- deadlines ----------------------------------------------------------------------------------


def test_what_cannot_be_answered_in_time_is_refused_at_once() -> None:
    gate = Gate()

    async def work(counter: Counter) -> None:
        counter.batcher.pace.measured(2, 1.0)
        held = [asyncio.create_task(counter.submit([n])) for n in range(6)]
        await gate.begun()
        with pytest.raises(
            Overloaded,
            match=r"would take about 4\.00 s and the deadline leaves 2\.00 s; try again in 3\.00 s or with a later",
        ) as refused:
            await counter.submit([7, 8], within_s=2.0)
        assert refused.value.retry_after_s == 3.0
        later = asyncio.create_task(counter.submit([7, 8], within_s=5.0))
        gate.open.set()
        assert await later == [14, 16]
        await asyncio.gather(*held)

    batching(work, BatchLimits(2, 1, 64), gate.run)


def test_an_idle_server_tries_whatever_the_deadline() -> None:
    async def work(counter: Counter) -> None:
        counter.batcher.pace.measured(1, 100.0)
        assert await counter.submit([1], within_s=0.5) == [2]

    batching(work, BatchLimits(2, 1, 64), double)


def test_a_pace_expects_the_less_of_what_batches_and_what_inputs_say() -> None:
    pace = Pace(max_batch=4)
    assert pace.expected_s(100) == 0.0

    pace.measured(2, 1.0)

    assert pace.expected_s(1) == 0.5  # half a batch of two
    assert pace.expected_s(9) == 3.0  # three batches of four, were they as quick as that of two


# --- what must never happen -----------------------------------------------------------------------


def test_a_model_that_gives_too_few_results_tells_every_caller_and_goes_on() -> None:
    sizes: list[int] = []

    def run(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return double(numbers)[len(sizes) == 1 :]

    async def work(counter: Counter) -> None:
        with pytest.raises(ValueError, match="the model gave 1 results for 2 images"):
            await counter.submit([1, 2])
        assert await counter.submit([1, 2]) == [2, 4]

    batching(work, BatchLimits(8, 1, 64), run)


CALLS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 19), min_size=0, max_size=7),
        st.booleans(),  # bulk
        st.one_of(st.none(), st.integers(0, 6)),  # gives up after so many milliseconds
        st.integers(0, 3),  # comes after so many milliseconds
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(calls=CALLS, limits=st.builds(BatchLimits, st.integers(1, 5), st.sampled_from([0.0, 1.0]), st.integers(8, 30)))
def test_whatever_comes_fails_or_gives_up_answers_are_right_and_no_place_is_lost(
    calls: list[tuple[list[int], bool, int | None, int]], limits: BatchLimits
) -> None:
    def prepare(n: int) -> int:
        if n == 13:
            raise BadInput("13")
        time.sleep(0.0002 * (n % 3))
        return n

    def run(numbers: list[int]) -> list[int]:
        assert len(numbers) <= limits.max_batch
        if 17 in numbers:
            raise RuntimeError("engine")
        return double(numbers)

    async def one(counter: Counter, numbers: list[int], bulk: bool, gives_up: int | None, comes: int) -> None:
        await asyncio.sleep(comes / 1000)
        call = counter.bulk(numbers) if bulk else counter.submit(numbers)
        try:
            async with asyncio.timeout(None if gives_up is None else gives_up / 1000):
                answers = await call
        except (TimeoutError, Overloaded):
            return
        except BadInput:
            assert 13 in numbers or len(numbers) > counter.places.for_bulk
            return
        except RuntimeError:
            return  # somebody's 17 was in the batch
        for number, answer in zip(numbers, answers, strict=True):
            assert answer == 2 * number or (bulk and isinstance(answer, BadInput | RuntimeError))

    async def work(counter: Counter) -> None:
        await asyncio.gather(*(one(counter, *call) for call in calls))

    batching(work, limits, run, prepare)  # which looks for lost places at its end


# --- company ------------------------------------------------------------------------------------------


def closed_loop(limits: BatchLimits, batch_s: float, callers: int, rounds: int, think_s: float = 0.0) -> list[int]:
    """Sizes of the batches that callers made who ask again as soon as they are answered, or after a while."""
    sizes: list[int] = []

    def run(ready: list[int]) -> list[int]:
        sizes.append(len(ready))
        time.sleep(batch_s)
        return ready

    async def work(counter: Counter) -> None:
        async def caller(number: int) -> None:
            for _ in range(rounds):
                await counter.submit([number])
                await asyncio.sleep(think_s)

        first = asyncio.ensure_future(caller(0))
        await asyncio.sleep(batch_s / 2)
        await asyncio.gather(first, *(caller(number) for number in range(1, callers)))

    batching(work, limits, run)
    return sizes


def test_callers_of_a_slow_model_that_ask_again_at_once_end_up_in_one_batch() -> None:
    sizes = closed_loop(BatchLimits(max_batch=8, max_wait_ms=2.0), batch_s=0.1, callers=4, rounds=12)

    assert sizes[:2] == [1, 3]
    assert sizes.count(4) >= 4


def test_a_wait_of_nothing_is_none_however_slow_the_model_is() -> None:
    sizes = closed_loop(BatchLimits(max_batch=8, max_wait_ms=0.0), batch_s=0.05, callers=4, rounds=8)

    assert 4 not in sizes


def test_callers_are_expected_back_only_where_most_came_back_before() -> None:
    back, away = Returning(), Returning()
    for at in range(10):
        back.answered(4, at, within_s=0.1)
        away.answered(4, at, within_s=0.1)
        back.came(4, at + 0.05)
        away.came(4, at + 0.5)
    back.answered(4, 10, within_s=0.1)
    away.answered(4, 10, within_s=0.1)

    assert (back.expected(10.05), away.expected(10.05)) == (4, 0)


def test_who_came_back_or_is_late_is_expected_no_more() -> None:
    returning = Returning()
    for at in range(10):
        returning.answered(4, at, within_s=0.1)
        returning.came(4, at + 0.05)
    returning.answered(4, 10, within_s=0.1)
    returning.came(3, 10.01)

    assert returning.expected(10.02) == 1
    assert returning.expected(10.1) == 0


@given(st.integers(1, 64), st.floats(0.001, 1), st.floats(0, 0.01))
def test_patience_is_the_usual_one_or_an_eighth_of_what_the_batch_takes(
    inputs: int, seconds: float, usual_s: float
) -> None:
    pace = Pace(32)
    pace.measured(inputs, seconds)

    assert pace.patience_s(inputs, usual_s) == (max(usual_s, pace.expected_s(inputs) / 8) if usual_s else 0.0)
