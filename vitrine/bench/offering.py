"""Open-loop load: requests leave at times fixed beforehand, however slowly answers come.

A closed loop waits for an answer before it asks again, so a server that stalls is asked less and looks
better than it is. Here a latency begins when the request was due.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Call = Callable[[int], Awaitable[str]]
"""One request, numbered; gives "OK" or the name of a status."""


@dataclass
class Offered:
    """What became of the requests of one run.

    Attributes:
        rate: requests a second that were due.
        seconds: from the first request due to the last answer.
        latencies: seconds from due to answered, of requests that succeeded.
        outcomes: answers by status name.
        late_s: how far the generator itself fell behind at worst; over a few milliseconds it is the bottleneck.
    """

    rate: float
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    late_s: float = 0.0

    @property
    def succeeded(self) -> int:
        """Requests that were answered with what they asked for."""
        return self.outcomes["OK"]

    @property
    def answered_rate(self) -> float:
        """Successful answers a second."""
        return self.succeeded / self.seconds if self.seconds else 0.0


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times at which requests are due, in seconds from the start: a Poisson process, as independent callers make."""
    generator, at = random.Random(seed), 0.0
    while (at := at + generator.expovariate(rate)) < seconds:
        yield at


async def offer(call: Call, rate: float, seconds: float, seed: int = 0) -> Offered:
    """Send requests at `rate` a second for `seconds`, wait for all answers."""
    with _short_collections():
        offered, began = Offered(rate), time.perf_counter()
        async with asyncio.TaskGroup() as under_way:  # which lets go of those that are answered
            for number, at in enumerate(arrivals(rate, seconds, seed)):
                wait = began + at - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                offered.late_s = max(offered.late_s, time.perf_counter() - began - at)
                under_way.create_task(_one(call, number, began + at, offered))
        offered.seconds = max(time.perf_counter() - began, seconds)
    return offered


@contextmanager
def _short_collections() -> Iterator[None]:
    """The garbage collector passes over what exists already: looking through it all takes as long as many requests."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def keep_asking(call: Call, callers: int, seconds: float) -> Offered:
    """The closed loop: `callers` ask, wait for the answer and ask again."""
    offered, began = Offered(float("nan")), time.perf_counter()

    async def caller(first: int) -> None:
        number = first
        while time.perf_counter() - began < seconds:
            await _one(call, number, time.perf_counter(), offered)
            number += callers

    await asyncio.gather(*(caller(first) for first in range(callers)))
    offered.seconds = time.perf_counter() - began
    return offered


async def _one(call: Call, number: int, due: float, offered: Offered) -> None:
    status = await call(number)
    offered.outcomes[status] += 1
    if status == "OK":
        offered.latencies.append(time.perf_counter() - due)
