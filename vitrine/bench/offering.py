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
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field

Call = Callable[[int], Awaitable[str]]
"""One request, numbered; gives "OK" or the name of a status."""

Send = Callable[[int, float], Coroutine[None, None, None]]
"""One request, numbered, and when it is due on `time.monotonic`."""

_LEAST_SLEEP_S = 0.001  # uvloop's timers end up to a millisecond early, and shorter ones at once
_SPARED_EVERY_S = 1.0  # the garbage collector passes over what is older


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
    offered, began = Offered(rate), time.monotonic()
    offered.late_s = await send_when_due(
        lambda number, due: _one(call, number, due, offered), arrivals(rate, seconds, seed)
    )
    offered.seconds = max(time.monotonic() - began, seconds)
    return offered


async def send_when_due(send: Send, times: Iterable[float]) -> float:
    """Begin `send(number, due)` at each of these times, in seconds from now; wait until all have ended.

    Returns:
        How many seconds late one was begun at worst; none is begun early.

    Raises:
        ExceptionGroup: `send` failed; all that was under way is cancelled.
    """
    began, late_s, spared_until = time.monotonic(), 0.0, 0.0
    try:
        async with asyncio.TaskGroup() as under_way:  # which lets go of those that have ended
            for number, at in enumerate(times):
                if at >= spared_until:  # looking through all results so far would take as long as many requests
                    gc.freeze()
                    spared_until = at + _SPARED_EVERY_S
                while (wait := began + at - time.monotonic()) > 0:  # noqa: ASYNC110 -- nothing happens before it is due
                    await asyncio.sleep(max(wait, _LEAST_SLEEP_S))
                late_s = max(late_s, time.monotonic() - began - at)
                under_way.create_task(send(number, began + at))
    finally:
        gc.unfreeze()
    return late_s


async def keep_asking(call: Call, callers: int, seconds: float) -> Offered:
    """The closed loop: `callers` ask, wait for the answer and ask again."""
    offered, began = Offered(float("nan")), time.monotonic()

    async def caller(first: int) -> None:
        number = first
        while time.monotonic() - began < seconds:
            await _one(call, number, time.monotonic(), offered)
            number += callers

    await asyncio.gather(*(caller(first) for first in range(callers)))
    offered.seconds = time.monotonic() - began
    return offered


async def _one(call: Call, number: int, due: float, offered: Offered) -> None:
    status = await call(number)
    offered.outcomes[status] += 1
    if status == "OK":
        offered.latencies.append(time.monotonic() - due)
