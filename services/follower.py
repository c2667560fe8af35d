"""Follows the production alias: what a promotion or rollback switches, this server serves, without a restart.

Every half second it asks the registry whether anything was appended. A new production is loaded and warmed
up beside the live one, then one reference is swapped. If loading fails, the live one stays and the reason is
logged; the next look tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from services.snapshot import Live, Snapshot
from services.wiring import Target
from vitrine.errors import VitrineError

log = logging.getLogger("vitrine.serving")

POLL_S = 0.5
_LONGEST_WAIT_S = 30.0


class Follower:
    """Keeps `live` at what `look` names.

    Args:
        look: what should be live, or a sentence on what is missing; called in a thread.
        load: makes a snapshot of it; called in the same thread.
        changed: told after every swap.
    """

    def __init__(
        self,
        live: Live,
        look: Callable[[], Target | str],
        load: Callable[[Target], Snapshot],
        changed: Callable[[], Awaitable[None]],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._live, self._look, self._load, self._changed = live, look, load, changed
        self._poll_s = poll_s
        self._thread = ThreadPoolExecutor(1, "follower")
        self._served: Target | None = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._swaps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Look once before returning, then go on looking."""
        await self.step()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Stop looking; swaps that are draining are finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._swaps, return_exceptions=True)
        self._thread.shutdown(cancel_futures=True)

    async def step(self) -> None:
        """Look once; load and swap if production changed. Never raises: the live snapshot stays."""
        loop = asyncio.get_running_loop()
        try:
            target = await loop.run_in_executor(self._thread, self._look)
            if isinstance(target, str):
                self._live.waiting_for = target
            elif target != self._served:
                snapshot = await loop.run_in_executor(self._thread, self._load, target)
                await self._swap(snapshot)
                self._served = target
            self._failures = 0
        except VitrineError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("following the registry failed unexpectedly")
            self._failed(f"{type(error).__name__}: {error}")

    async def _swap(self, snapshot: Snapshot) -> None:
        # Draining the old one must not keep the follower from the next promotion.
        swap = asyncio.get_running_loop().create_task(self._live.swap(snapshot))
        self._swaps.add(swap)
        swap.add_done_callback(self._swaps.discard)
        await asyncio.sleep(0)  # the new reference is in place as soon as the task has begun
        await self._changed()

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._live.snapshot is None:
            self._live.waiting_for = reason
        if self._failures == 1 or self._failures % 60 == 0:
            kept = self._live.snapshot.name if self._live.snapshot else "nothing"
            log.error("cannot load what the registry names", extra={"reason": reason, "still_serving": kept})

    async def _follow(self) -> None:
        while True:
            pause = min(self._poll_s * 2 ** min(self._failures, 6), _LONGEST_WAIT_S)
            await asyncio.sleep(pause)
            await self.step()
