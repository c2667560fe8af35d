"""The threads that decode photos and tokenize titles: urgent inputs first, few hops between threads.

    add (event loop) -> two queues -> a thread takes one after another -> deliver (event loop)

A hop costs as much as the rest of a request's path. So a thread goes on while there is work, what is ready together
comes back in one call, and while the model is busy, when nobody gains by haste, sleeping threads are woken every
millisecond and not for each input.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Protocol

_WOKEN_EVERY_S = 0.001
_WORTH_A_THREAD_S = 0.0001
_SMOOTHING = 0.1


class Aside(Exception):
    """Raised by `Job.prepare` where the rest takes much memory: `rest` is called in the threads for such work.

    Args:
        rest: gives what `prepare` would have given.
    """

    def __init__(self, rest: Callable[[], object]) -> None:
        super().__init__()
        self.rest = rest


class Job(Protocol):
    """One input to make ready."""

    @property
    def bulk(self) -> bool:
        """Whether it yields to those that are not."""
        ...

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        ...

    def prepare(self) -> object:
        """Do it, in a thread; what it raises is handed to `arrive`."""
        ...

    def arrive(self, ready: object, seconds: float) -> None:
        """Take the result, or the exception, on the event loop."""
        ...


class Preparer:
    """At most `width` threads of `threads` at a time; one event loop hands in the work.

    Urgent and bulk are two queues, and a bulk input is begun only where no urgent one waits.

    Args:
        threads: where the work is done.
        width: how many of them at a time.
        model_busy: whether what becomes ready now would have to wait for the model.
        aside: where jobs go on that raise `Aside`; it has threads of its own, so they hold nobody up.
    """

    def __init__(
        self,
        threads: Executor,
        width: int,
        model_busy: Callable[[], bool] = lambda: False,
        *,
        aside: Preparer | None = None,
    ) -> None:
        self._threads, self._width, self._model_busy, self._aside = threads, width, model_busy, aside
        self._lock = threading.Lock()  # guards the queues and _active
        self._urgent: deque[Job] = deque()
        self._bulk: deque[Job] = deque()
        self._active = 0
        self._job_s = 1.0  # running mean of what a job takes; a job is worth a thread until it is known better
        self._done: deque[tuple[Job, object, float]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._later: asyncio.TimerHandle | None = None
        self._waking = False  # wake is on its way; both belong to the event loop
        self._delivering = False  # deliver is on its way; set by threads, cleared by the loop before it looks

    def add(self, jobs: Sequence[Job], *, bulk: bool) -> None:
        """Make these ready; each job's `arrive` is called on the running event loop."""
        with self._lock:
            (self._bulk if bulk else self._urgent).extend(jobs)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what was on its way in an ended loop never arrives
            self._loop, self._waking, self._later, self._delivering = loop, False, None, False
        if not self._waking:
            self._waking = True
            if self._model_busy():
                self._later = loop.call_later(_WOKEN_EVERY_S, self._wake)
            else:
                loop.call_soon(self._wake)

    def hurry(self) -> None:
        """The model is free: wake the threads now if that was put off."""
        if self._later is not None:
            self._later.cancel()
            self._wake()

    def _wake(self) -> None:
        self._waking, self._later = False, None
        self._begin(at_once=self._job_s > _WORTH_A_THREAD_S)

    def _begin(self, *, at_once: bool) -> None:
        """Begin a thread for each job that waits, or, where jobs are tiny, one for all of them."""
        with self._lock:
            waiting = len(self._urgent) + len(self._bulk)
            more = min(waiting if at_once else min(waiting, 1), self._width - self._active)
            self._active += more
        for _ in range(more):
            self._threads.submit(self._work)

    def _next(self) -> Job | None:
        with self._lock:
            for queue in (self._urgent, self._bulk):
                if queue:
                    return queue.popleft()
            self._active -= 1
            return None

    def _work(self) -> None:
        """In a thread: one job after another until there is none."""
        while (job := self._next()) is not None:
            began = time.perf_counter()
            try:
                ready: object = job.prepare()
            except Exception as error:  # noqa: BLE001 -- its own caller is told
                ready = error
            seconds = time.perf_counter() - began
            self._job_s += _SMOOTHING * (seconds - self._job_s)
            self._done.append((job, ready, seconds))
            if not self._delivering:
                self._delivering = True
                assert self._loop is not None
                with suppress(RuntimeError):  # the loop is closed: nobody waits for it
                    self._loop.call_soon_threadsafe(self._deliver)
            if seconds > _WORTH_A_THREAD_S:  # larger than was thought: the others need not wait for this thread
                self._begin(at_once=True)

    def _deliver(self) -> None:
        self._delivering = False
        while self._done:
            job, ready, seconds = self._done.popleft()
            if isinstance(ready, Aside) and self._aside is not None:
                self._aside.add([_Rest(job, ready.rest)], bulk=job.bulk)
            else:
                job.arrive(ready, seconds)


class _Rest:
    """What is left of a job that went aside."""

    def __init__(self, job: Job, rest: Callable[[], object]) -> None:
        self._job, self._rest = job, rest
        self.bulk, self.arrive = job.bulk, job.arrive

    @property
    def wanted(self) -> bool:
        return self._job.wanted

    def prepare(self) -> object:
        return self._rest() if self.wanted else None
