"""The micro-batcher: single photos (or titles) from many requests become one batch for the model.

    add -> prepare (threads) -> urgent or bulk queue -> batch -> run (one thread) -> the call's one future

Preparing (decoding, tokenizing) comes before the queue, so a broken photo fails its own call and nobody else's. A
call that gives up (cancelled, past its deadline) leaves every queue at once and never takes a slot of a batch.
A batch is made when the model is free. It waits for inputs that are being prepared, and where batches take long, for callers
that were just answered and are used to ask again at once; never for others: while the model runs, the queue fills by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.pace import Pace, Returning
from services.preparing import Preparer
from services.slots import Call, Entry
from services.tracing import Observer

Raw = TypeVar("Raw")
Ready = TypeVar("Ready")
Result = TypeVar("Result")

BULK_SHARE = 1 / 8  # of the slots, kept for bulk where calls would fill them all
_LEAST_WAIT_S = 0.001  # uvloop's timers count milliseconds, and none for less than half of one
_LEAST_BULK = 4  # slots that bulk may fill however slow the model is: smaller batches cost more an input


@dataclass(frozen=True)
class BatchLimits:
    """How large and how patient.

    Attributes:
        max_batch: photos, or titles, in one run of the model.
        max_wait_ms: how long a batch that is not full waits for inputs that are being decoded; where the model takes long,
            an eighth of the batch's time if that is more. 0: never.
        queue: photos and titles in the server at a time, being decoded, waiting or running; more are refused.
        bulk_ms: how long a run of the model may get by being filled with bulk, because single calls wait for its end.
    """

    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 512
    bulk_ms: float = 100.0


class MicroBatcher(Generic[Raw, Ready, Result]):
    """Batches for one graph of a model. It belongs to the event loop that called `start`.

    Args:
        lane: what it takes, in messages and metrics: "images" or "titles".
        prepare: makes one input ready, in a thread of `preparer`.
        run: one batch through the graph, in `model`; one result an input.
        turn: whose holder may use the model; a batch is made after it was got, so late inputs still come along.
    """

    def __init__(
        self,
        lane: str,
        prepare: Callable[[Raw], Ready],
        run: Callable[[list[Ready]], Sequence[Result]],
        limits: BatchLimits,
        *,
        preparer: Preparer,
        model: Executor,
        turn: asyncio.Lock,
        observer: Observer | None = None,
    ) -> None:
        self.lane, self.prepare, self.limits = lane, prepare, limits
        self._run, self._preparer, self._model, self._turn = run, preparer, model, turn
        self._observer = observer
        self._queues: tuple[OrderedDict[Entry, None], ...] = (OrderedDict(), OrderedDict())  # urgent, bulk
        self._preparing = [0, 0]  # urgent, bulk
        self._some = asyncio.Event()  # something is queued
        self._full: asyncio.Future[None] | None = None  # what a batch that waits for company waits on
        self._task: asyncio.Task[None] | None = None
        self._owed = 0.0  # slots that bulk has coming
        self.pace, self._returning, self._usual_s = Pace(limits.max_batch), Returning(), limits.max_wait_ms / 1000
        self.inside = [0, 0]  # urgent, bulk: in the queues, being prepared, or running
        self.batches = 0

    @property
    def places_taken(self) -> int:
        """Inputs inside, bulk included."""
        return sum(self.inside)

    @property
    def waiting(self) -> int:
        """Inputs that wait for the model."""
        return sum(map(len, self._queues))

    def start(self) -> None:
        """Begin to take batches from the queue."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """End the task; calls that are still inside would never be answered."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def add(self, call: Call, raws: Sequence[Raw]) -> None:
        """Take these inputs in; the call is settled slot by slot."""
        if not raws:
            return
        self.inside[call.bulk] += len(raws)
        self._preparing[call.bulk] += len(raws)
        if not call.bulk:
            self._returning.came(len(raws), time.monotonic())
        self._preparer.add(call.reserve(self, raws), bulk=call.bulk)

    def arrive(self, entry: Entry, ready: object, seconds: float) -> None:
        """An input is ready, or could not be made so."""
        if entry.state != "preparing":  # its call gave up meanwhile
            return
        self._preparing[entry.call.bulk] -= 1
        entry.raw, entry.state = None, "out"
        if isinstance(ready, Exception):
            entry.call.settle(entry.slot, ready)
        else:
            entry.ready, entry.state = ready, "queued"
            entry.queued_at = time.monotonic()
            self._queues[entry.call.bulk][entry] = None
            self._some.set()
        if self._observer is not None:
            self._observer.seen("decode" if self.lane == "images" else "tokenize", seconds, entry.call.parent)
        self._no_more_to_wait_for()

    def drop(self, entry: Entry) -> None:
        """Take an input out, wherever it is; its place is free again."""
        self.inside[entry.call.bulk] -= 1
        if entry.state == "preparing":
            self._preparing[entry.call.bulk] -= 1
            self._no_more_to_wait_for()
        elif entry.state == "queued":
            del self._queues[entry.call.bulk][entry]
        entry.raw, entry.ready, entry.state = None, None, "out"

    async def _serve(self) -> None:
        while True:
            await self._some.wait()
            await self._company()
            async with self._turn:
                batch = self._take()
                if batch:
                    await self._through_the_model(batch)

    def _enough(self) -> bool:
        """Whether the batch is full, or all of what it could hold is ready; of a quick model's batches, most of it."""
        awaited = self._preparing[False] if self._queues[False] else sum(self._preparing)
        slow = self.pace.patience_s(1, self._usual_s) > self._usual_s
        if slow:
            awaited += self._returning.expected(time.monotonic())
        return not awaited or (self.waiting > awaited and not slow) or self.waiting >= self.limits.max_batch

    def _no_more_to_wait_for(self) -> None:
        if self._full is not None and self._enough():
            self._wait_no_more(self._full)

    async def _company(self) -> None:
        if self._enough():
            return
        loop = asyncio.get_running_loop()
        self._full = loop.create_future()
        company = self.waiting + sum(self._preparing) + self._returning.expected(time.monotonic())
        patience_s = max(_LEAST_WAIT_S, self.pace.patience_s(company, self._usual_s))
        patience = loop.call_later(patience_s, self._wait_no_more, self._full)
        await self._full
        patience.cancel()
        self._full = None

    @staticmethod
    def _wait_no_more(full: asyncio.Future[None]) -> None:
        if not full.done():
            full.set_result(None)

    def _take(self) -> list[Entry]:
        """The next batch: single calls, then bulk in what is left, but not less than bulk's share."""
        (urgent, bulk), most = self._queues, self.limits.max_batch
        self._owed = min(self._owed + BULK_SHARE * most, most) if bulk else 0.0
        batch = _first(urgent, most - min(int(self._owed), len(bulk)))
        allowed = max(_LEAST_BULK, self.pace.inputs_in(self.limits.bulk_ms / 1000))
        from_bulk = _first(bulk, min(most - len(batch), allowed))
        self._owed = max(0.0, self._owed - len(from_bulk))
        if not urgent and not bulk:
            self._some.clear()
        return batch + from_bulk

    async def _through_the_model(self, batch: list[Entry]) -> None:
        loop, ready = asyncio.get_running_loop(), [entry.ready for entry in batch]
        began = time.monotonic()
        try:
            results = await loop.run_in_executor(self._model, self._checked_run, ready)
        except Exception as error:  # noqa: BLE001 -- whatever the engine says goes to the callers
            results = [error] * len(batch)
        seconds = time.monotonic() - began
        self._preparer.hurry()
        for entry, result in zip(batch, results, strict=True):
            entry.ready, entry.state = None, "out"
            entry.call.settle(entry.slot, result)
        self.batches += 1
        self.pace.measured(len(batch), seconds)
        self._returning.answered(
            sum(not entry.bulk for entry in batch), time.monotonic(), self.pace.patience_s(len(batch), self._usual_s)
        )
        if self._observer is not None:
            waits_s = [began - entry.queued_at for entry in batch]
            self._observer.batch(self.lane, waits_s, seconds, [entry.call.parent for entry in batch])

    def _checked_run(self, ready: list[Any]) -> Sequence[Any]:
        results = self._run(ready)
        if len(results) != len(ready):
            raise ValueError(f"the model gave {len(results)} results for {len(ready)} {self.lane}")
        return results


def _first(queue: OrderedDict[Entry, None], most: int) -> list[Entry]:
    """Take up to `most` entries from the front."""
    batch = [queue.popitem(last=False)[0] for _ in range(min(most, len(queue)))]
    for entry in batch:
        entry.state = "running"
    return batch
