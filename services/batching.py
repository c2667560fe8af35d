"""The micro-batcher: single photos (or titles) from many callers become one batch for the model.

    submit -> [places left?] -> prepare (thread pool) -> queue -> batch -> run (one thread)

`prepare` (decoding, tokenizing) comes before the queue, so a broken photo fails its own caller and nobody else. A caller who
gives up (cancelled, past its deadline) frees its places at once and never takes a slot of a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from vitrine.errors import BadInput, Overloaded, Unavailable

Raw = TypeVar("Raw")
Ready = TypeVar("Ready")
Result = TypeVar("Result")

_SMOOTHING = 0.2  # share of the newest batch in the running mean of batch seconds


@dataclass(frozen=True)
class BatchLimits:
    """How large and how patient.

    Attributes:
        max_batch: photos, or titles, in one run of the model.
        max_wait_ms: how long the first of a batch waits for company.
        queue: photos in the server at a time, being decoded, waiting or running; more are refused. As many titles.
    """

    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 512


@dataclass(frozen=True)
class _Entry(Generic[Ready, Result]):
    ready: Ready
    answer: asyncio.Future[Result]


class MicroBatcher(Generic[Raw, Ready, Result]):
    """Batches for one graph of a model. It belongs to the event loop that called `start`.

    Args:
        prepare: makes one input ready, in a thread of `workers`.
        run: one batch through the graph, in `model_thread`.
        unit: what it takes, in messages to callers.
    """

    def __init__(
        self,
        prepare: Callable[[Raw], Ready],
        run: Callable[[list[Ready]], Sequence[Result]],
        limits: BatchLimits,
        *,
        workers: Executor,
        model_thread: Executor,
        unit: str = "images",
    ) -> None:
        self._unit = unit
        self._prepare, self._run, self.limits = prepare, run, limits
        self._workers, self._model_thread = workers, model_thread
        self._queue: asyncio.Queue[_Entry[Ready, Result]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._batch_s = 0.05
        self.places_taken = 0
        self.batches = 0

    @property
    def waiting(self) -> int:
        """Inputs that are ready and wait for the model."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to take batches from the queue."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def submit(self, raws: Sequence[Raw]) -> list[Result]:
        """Prepare and run these, batched with whatever else is there; answers keep the order.

        Raises:
            Overloaded: no places left; says when to try again.
            BadInput: more than ever fits, or `prepare` refused one of them.
            Unavailable: the batcher was stopped.
        """
        if self._task is None:
            raise Unavailable("this version is being taken out of service; send the request again")
        with self._places(len(raws)):
            return await self._answers(raws)

    async def stop(self) -> None:
        """Refuse newcomers, finish what is inside, end the task."""
        task, self._task = self._task, None
        while self.places_taken:  # noqa: ASYNC110 -- happens once in a version's life
            await asyncio.sleep(0.005)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextmanager
    def _places(self, wanted: int) -> Iterator[None]:
        if wanted > self.limits.queue:
            raise BadInput(
                f"the request has {wanted} {self._unit}, this server takes {self.limits.queue} at a time; "
                "split it into several requests",
                field="items",
            )
        if self.places_taken + wanted > self.limits.queue:
            wait_s = self._batch_s * (1 + self.places_taken / self.limits.max_batch)
            raise Overloaded(
                f"the server holds {self.places_taken} of {self.limits.queue} {self._unit}; try again in {wait_s:.2f} s",
                retry_after_s=wait_s,
            )
        self.places_taken += wanted
        try:
            yield
        finally:
            self.places_taken -= wanted

    async def _answers(self, raws: Sequence[Raw]) -> list[Result]:
        loop = asyncio.get_running_loop()
        ready = await _all([loop.run_in_executor(self._workers, self._prepare, raw) for raw in raws])
        entries = [_Entry[Ready, Result](item, loop.create_future()) for item in ready]
        for entry in entries:
            self._queue.put_nowait(entry)
        return await _all([entry.answer for entry in entries])

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            if not batch:
                continue
            began = loop.time()
            try:
                results = await loop.run_in_executor(self._model_thread, self._run, [e.ready for e in batch])
            except Exception as error:  # noqa: BLE001 -- whatever the engine says goes to the callers
                _settle(batch, error)
            else:
                _settle(batch, results)
            self.batches += 1
            self._batch_s += _SMOOTHING * (loop.time() - began - self._batch_s)

    async def _collect(self) -> list[_Entry[Ready, Result]]:
        """Wait for one entry, then for company until the batch is full or the wait is over."""
        batch = [await self._queue.get()]
        try:
            async with asyncio.timeout(self.limits.max_wait_ms / 1000):
                while len(batch) < self.limits.max_batch:
                    batch.append(await self._queue.get())
                    batch = [entry for entry in batch if not entry.answer.done()]
        except TimeoutError:
            pass
        return [entry for entry in batch if not entry.answer.done()]


async def _all(futures: Sequence[asyncio.Future[Result]]) -> list[Result]:
    """As gather, but when one fails or the caller gives up, the others are cancelled too."""
    try:
        return list(await asyncio.gather(*futures))
    finally:
        for future in futures:
            future.cancel()


def _settle(batch: list[_Entry[Ready, Result]], results: Sequence[Result] | Exception) -> None:
    for place, entry in enumerate(batch):
        if entry.answer.done():  # the caller gave up while the model ran
            continue
        if isinstance(results, Exception):
            entry.answer.set_exception(results)
        else:
            entry.answer.set_result(results[place])
