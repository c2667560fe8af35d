"""Follows the production alias: what a promotion or rollback switches, this server serves, without a restart.

Every half second it asks whether anything was written to the registry's database, and only then what. A new production
is loaded and warmed up beside the live one, in a thread of lower priority, then one reference is swapped. The version
before stands by, so that the way back is the swap alone. If loading fails, the live one stays and the reason is logged;
the next look tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from services.priority import background_thread
from services.snapshot import Live, Snapshot
from services.wiring import ShadowTarget, Target
from vitrine.errors import VitrineError
from vitrine.pulse import Beat

log = logging.getLogger("vitrine.serving")

POLL_S = 0.5
_LONGEST_WAIT_S = 30.0
_STANDBY_RETRY_S = 30.0
_ANYWAY_S = 15.0  # between two looks though nothing seems to have been written


@dataclass(frozen=True)
class Loaded:
    """A snapshot and what it was loaded for."""

    target: Target
    snapshot: Snapshot


class Tries(Protocol):
    """Whoever tries a candidate beside production; see `services.shadow`."""

    async def follow(self, wanted: ShadowTarget | None) -> None:
        """Load what is wanted if that is new, or stop; never raises."""
        ...

    async def stop(self) -> None:
        """Stop and let go of the candidate."""
        ...


def _nothing(snapshot: Snapshot) -> bool:
    del snapshot
    return True


class Pulse(Protocol):
    """Tells whether anything was written; `vitrine.pulse.Pulse` is one."""

    @property
    def waits(self) -> bool:
        """Whether asking may take longer than an event loop can wait."""
        ...

    def beat(self) -> Beat:
        """What to compare with the next one."""
        ...


def _never(snapshot: Snapshot) -> bool:
    del snapshot
    return False


class Follower:
    """Keeps `live` at what `look` names. Make it in a thread of normal priority.

    Args:
        look: what should be live, or a sentence on what is missing; called in a thread.
        load: makes a snapshot of it, warmed up; called in a thread of lower priority.
        changed: told after every swap.
        refresh: takes what changed in the catalogue into a loaded collection, False if that failed; called before every
            swap and at every look.
        may_stand_by: whether a second version may stay in memory beside the live one.
        shadow: tries a candidate beside production.
        pulse: whether anything was written since; while it was not, `look` is hardly ever called.
    """

    def __init__(
        self,
        live: Live,
        look: Callable[[], Target | str],
        load: Callable[[Target], Snapshot],
        changed: Callable[[], Awaitable[None]],
        *,
        poll_s: float = POLL_S,
        refresh: Callable[[Snapshot], bool] = _nothing,
        may_stand_by: Callable[[Snapshot], bool] = _never,
        shadow: Tries | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._live, self._look, self._load, self._changed = live, look, load, changed
        self._poll_s, self._refresh, self._may_stand_by, self._shadow = poll_s, refresh, may_stand_by, shadow
        self._pulse = pulse
        self._seen: Beat = None  # when all was as it should be
        self._again_at = self._standby_after = 0.0
        # Looking and swapping keep their priority, or a busy machine would follow late. What is made ready beside
        # production has a thread of its own, so that it keeps nobody from the next switch.
        self._thread = ThreadPoolExecutor(1, "follower")
        self._loading, self._beside_thread = background_thread("loading"), background_thread("beside")
        self._served: Loaded | None = None
        self._standby: Loaded | None = None
        self._standby_refused = ""
        self._failures = 0
        self._behind = 0  # refreshes in a row that failed
        self._task: asyncio.Task[None] | None = None
        self._beside: asyncio.Task[None] | None = None
        self._swaps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Look once before returning, then go on looking."""
        await self.step()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Stop looking; swaps that are draining are finished."""
        for task in (self._task, self._beside):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._shadow is not None:
            await self._shadow.stop()
        await asyncio.gather(*self._swaps, return_exceptions=True)
        for thread in (self._thread, self._loading, self._beside_thread):
            thread.shutdown(cancel_futures=True)

    async def step(self) -> None:
        """Look once; load and swap if production changed. Never raises: the live snapshot stays."""
        loop = asyncio.get_running_loop()
        beat = await self._beat()
        if beat is not None and beat == self._seen and loop.time() < self._again_at:
            return
        self._seen, self._again_at = None, loop.time() + _ANYWAY_S
        try:
            if await self._follow_registry():
                self._seen = beat
            self._failures = 0
        except VitrineError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("following the registry failed unexpectedly")
            self._failed(f"{type(error).__name__}: {error}")

    async def _beat(self) -> Beat:
        if self._pulse is None or not self._pulse.waits:
            return self._pulse.beat() if self._pulse else None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._pulse.beat)

    async def _follow_registry(self) -> bool:
        """Look and do what is needed; False where something of it has to wait for an earlier task."""
        target = await asyncio.get_running_loop().run_in_executor(self._thread, self._look)
        if isinstance(target, str):
            self._live.waiting_for = target
            return True
        await self._serve(target)
        return self._prepare_beside(target)

    async def _serve(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        served = self._served
        if served is not None and served.target == target:
            return
        wanted = self._standby if self._standby is not None and self._standby.target == target else None
        if wanted is None:
            wanted = Loaded(target, await loop.run_in_executor(self._loading, self._load, target))
        await loop.run_in_executor(self._thread, self._refresh, wanted.snapshot)
        await self._swap(wanted)

    async def _swap(self, wanted: Loaded) -> None:
        self._standby = self._next_standby(wanted)
        self._served = wanted
        kept = self._standby.snapshot if self._standby else None
        self._in_background(self._live.swap(wanted.snapshot, standby=kept))
        await asyncio.sleep(0)  # the new reference is in place as soon as the task has begun
        await self._changed()

    def _next_standby(self, wanted: Loaded) -> Loaded | None:
        """What was live, or, where only its collection was made anew, what stood by already."""
        before, standby = self._served, self._standby
        if before is not None and before.target.production == wanted.target.production:
            return standby
        if before is None or not self._may_stand_by(before.snapshot):
            return None
        return before

    def _in_background(self, swap: Awaitable[None]) -> None:
        # Draining the old one must not keep the follower from the next promotion.
        task = asyncio.ensure_future(swap)
        self._swaps.add(task)
        task.add_done_callback(self._swaps.discard)

    def _prepare_beside(self, target: Target) -> bool:
        """Make right what is there beside production, at leisure; False while that is still being done for an earlier look.

        It is the catalogue, the version before, and a candidate.
        """
        if self._beside is not None and not self._beside.done():
            return False
        self._beside = asyncio.get_running_loop().create_task(self._beside_production(target))
        return True

    async def _beside_production(self, target: Target) -> None:
        if self._served is not None:
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(self._beside_thread, self._refresh, self._served.snapshot)
            self._behind = 0 if done else self._behind + 1
            if not done:
                self._again_at = loop.time() + min(self._poll_s * 2 ** min(self._behind, 6), _ANYWAY_S)
        if self._shadow is not None:
            await self._shadow.follow(target.shadow)
        if target.before is not None and self._standby is None and self._served is not None:
            await self._load_standby(target.before, self._served)

    async def _load_standby(self, before: Target, served: Loaded) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._standby_after:
            return
        if not self._may_stand_by(served.snapshot):  # a version like the live one would have to fit
            return
        try:
            snapshot = await loop.run_in_executor(self._beside_thread, self._load, before)
        except Exception as error:  # noqa: BLE001 -- a rollback will tell; production is not touched by it
            reason = f"{type(error).__name__}: {error}"
            if reason != self._standby_refused:  # told once: a clean-up may have taken its collection for good
                log.warning("the version before cannot stand by", extra={"reason": reason})
            self._standby_refused = reason
            self._standby_after = loop.time() + _STANDBY_RETRY_S
            return
        if self._served is not served or self._standby is not None:  # production changed while it was loaded
            snapshot.close()
            return
        self._standby = Loaded(before, snapshot)
        await self._live.stand_by(snapshot)

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
