"""How the server ends: SIGTERM says "no more", nobody who was let in loses an answer.

    SIGTERM -> health NOT_SERVING, /readyz false        load balancers look elsewhere
            -> settle_s: requests are still taken       those that were on their way arrive
            -> gRPC and HTTP take no more               newcomers are told UNAVAILABLE
            -> grace_s: running requests end            what is not done by then is cut
            -> everything is closed

BentoML alone would let HTTP end before it tells gRPC. The signal is caught before it, and handed on when the time of
settling is over. Another signal changes nothing: the time is bounded already, and Ctrl-C sends two.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

log = logging.getLogger("vitrine.serving")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drain:
    """Ends a server once, however often it is told to.

    Args:
        leave: tells health checkers; requests are still taken.
        stop: refuses newcomers and lets running requests end.
        settle_s: seconds between the two. Ctrl-C does not wait.
    """

    def __init__(
        self, leave: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[Any]], settle_s: float
    ) -> None:
        self._leave, self._stop, self._settle_s = leave, stop, settle_s
        self._before: dict[int, Any] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Catch the signals from here on. Call it on the main thread's event loop, after uvicorn caught them."""
        loop = asyncio.get_running_loop()

        def caught(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._signalled, number, frame)

        self._before = {number: signal.signal(number, caught) for number in SIGNALS}

    async def finish(self) -> None:
        """End now if no signal has begun it, and wait for the end."""
        self._begin(0.0, lambda: None)
        assert self._task is not None
        await asyncio.shield(self._task)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        def hand_on() -> None:
            before = self._before.get(number)
            if callable(before):
                before(number, frame)

        self._begin(0.0 if number == signal.SIGINT else self._settle_s, hand_on)

    def _begin(self, settle_s: float, hand_on: Callable[[], None]) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(settle_s, hand_on))

    async def _run(self, settle_s: float, hand_on: Callable[[], None]) -> None:
        log.info("ending", extra={"settle_s": settle_s})
        await self._leave()
        await asyncio.sleep(settle_s)
        hand_on()
        await self._stop()
        log.info("no request is running any more")
