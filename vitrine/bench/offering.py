"""Open-loop load: requests leave at times fixed beforehand, however slowly answers come.

A closed loop waits for an answer before it asks again, so a server that stalls is asked less and looks
better than it is. Here a latency begins when the request was due.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
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
    loop = asyncio.get_running_loop()
    offered, began = Offered(rate), loop.time()
    tasks = []
    for number, at in enumerate(arrivals(rate, seconds, seed)):
        wait = began + at - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        offered.late_s = max(offered.late_s, loop.time() - began - at)
        tasks.append(loop.create_task(_one(call, number, began + at, offered)))
    await asyncio.gather(*tasks)
    offered.seconds = max(loop.time() - began, seconds)
    return offered


async def keep_asking(call: Call, callers: int, seconds: float) -> Offered:
    """The closed loop: `callers` ask, wait for the answer and ask again."""
    loop = asyncio.get_running_loop()
    offered, began = Offered(float("nan")), loop.time()

    async def caller(first: int) -> None:
        number = first
        while loop.time() - began < seconds:
            await _one(call, number, loop.time(), offered)
            number += callers

    await asyncio.gather(*(caller(first) for first in range(callers)))
    offered.seconds = loop.time() - began
    return offered


async def _one(call: Call, number: int, due: float, offered: Offered) -> None:
    status = await call(number)
    offered.outcomes[status] += 1
    if status == "OK":
        offered.latencies.append(asyncio.get_running_loop().time() - due)
