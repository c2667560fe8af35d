"""How many inputs may be inside a version, photos and titles together, and who has to wait for a place.

A single call gets its places at once or is refused at once, with a delay. Bulk waits for places and never holds more than
half of them, so a stream makes nobody else be refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from services.batching import BatchLimits, MicroBatcher
from services.slots import Call, Expired
from vitrine.errors import BadInput, Overloaded, Unavailable

Part = tuple[MicroBatcher[Any, Any, Any], Sequence[Any]]
"""A batcher and the inputs that go through it."""

_LEAST_RETRY_S = 0.05
_TELL_S = 0.25  # this long before a deadline the caller is told that there will be no answer: it still waits then
_MARGIN = 1.2  # a refusal now is better than an answer that nobody waits for any more
_RISE, _FALL = 0.3, 0.02  # towards what calls really take: quickly up, slowly down, so that nearly all are in time
_LEARN_FROM_S, _MOST_SLOWER = 0.05, 4.0  # one huge photo says nothing of the others


class Places:
    """The bound over all batchers of a version. It belongs to one event loop."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self.taken = 0
        self.bulk_taken = 0
        self._open = True
        self._slower = 1.0  # how many times longer calls take than their inputs need in the model alone
        self._line = asyncio.Lock()  # bulk waits in a line: a large request is not overtaken for ever
        self._freed = asyncio.Event()

    @property
    def for_bulk(self) -> int:
        """Places that bulk may hold."""
        return max(1, self.limits.queue // 2)

    async def serve(self, parts: Sequence[Part], *, within_s: float | None = None) -> list[Any]:
        """Results of all inputs, part after part; `within_s` is what the caller's deadline leaves.

        Raises:
            Overloaded: no places left, or the answer would come too late; says when to try again.
            BadInput: more than ever fits, or one of the inputs could not be prepared.
            Unavailable: the version is being taken out of service.
        """
        wanted, expected_s = _inputs(parts), _expected_s(parts, 1)
        self._admit(parts, wanted, within_s, expected_s)
        began, call = time.monotonic(), Call()
        expiry = None if within_s is None else _at_its_deadline(call, within_s)
        try:
            found = await self._through(parts, call, wanted)
        except Expired as error:
            self._learn(expected_s, max(time.monotonic() - began, expected_s * self._slower))
            raise _too_late(time.monotonic() - began, within_s or 0.0, expected_s) from error
        finally:
            if expiry is not None:
                expiry.cancel()
        self._learn(expected_s, time.monotonic() - began)
        return found

    async def serve_bulk(self, parts: Sequence[Part]) -> list[Any]:
        """As `serve`, but it waits for places, and an input that fails has its exception in its slot.

        Raises:
            BadInput: more than bulk may ever hold.
            Unavailable: the version is being taken out of service.
        """
        wanted = _inputs(parts)
        if wanted > self.for_bulk:
            raise BadInput(f"{_counted(parts)} at a time, {self.for_bulk} are allowed in bulk; split it", field="items")
        async with self._line:
            while self._open and (self.bulk_taken + wanted > self.for_bulk or self.taken + wanted > self.limits.queue):
                self._freed.clear()
                await self._freed.wait()
            self._check_open()
            self.taken += wanted
            self.bulk_taken += wanted
        return await self._through(parts, Call(bulk=True, lenient=True), wanted)

    async def stop(self) -> None:
        """Refuse newcomers and wait until all that is inside has left."""
        self._open = False
        self._freed.set()
        while self.taken:  # noqa: ASYNC110 -- happens once in a version's life
            await asyncio.sleep(0.005)

    async def _through(self, parts: Sequence[Part], call: Call, wanted: int) -> list[Any]:
        try:
            for batcher, raws in parts:
                batcher.add(call, raws)
            return await call.answer if wanted else []
        finally:
            call.leave()
            self.taken -= wanted
            if call.bulk:
                self.bulk_taken -= wanted
            self._freed.set()

    def _admit(self, parts: Sequence[Part], wanted: int, within_s: float | None, expected_s: float) -> None:
        self._check_open()
        limit = self.limits.queue
        if wanted > limit:
            raise BadInput(
                f"the request has {_counted(parts)}, this server takes {limit} at a time; split it into several requests",
                field="items",
            )
        if self.taken + wanted > limit:
            wait_s = max(_LEAST_RETRY_S, _expected_s(parts, 0))
            raise Overloaded(
                f"the server holds {self.taken} of {limit} images and titles; try again in {wait_s:.2f} s",
                retry_after_s=wait_s,
            )
        if within_s is not None and self.taken:
            self._check_in_time(parts, within_s, expected_s)
        self.taken += wanted

    def _check_in_time(self, parts: Sequence[Part], within_s: float, expected_s: float) -> None:
        """Refuse what would be thrown away at its deadline; never asked where nothing is inside, so it cannot lock out."""
        needed_s = self._slower * expected_s
        if _MARGIN * needed_s > within_s:
            ahead_s = sum(batcher.pace.expected_s(batcher.inside[False]) for batcher, _ in parts)
            raise _too_late(needed_s, within_s, self._slower * ahead_s)

    def _learn(self, expected_s: float, took_s: float) -> None:
        """Decoding, other processes and a busy event loop are in what a call takes, and not in the model's pace."""
        if expected_s >= _LEARN_FROM_S:
            change = min(max(1.0, took_s / expected_s), _MOST_SLOWER) - self._slower
            self._slower += (_RISE if change > 0 else _FALL) * change

    def _check_open(self) -> None:
        if not self._open:
            raise Unavailable("this version is being taken out of service; send the request again")


def _at_its_deadline(call: Call, within_s: float) -> asyncio.TimerHandle:
    """Expire a call in time to tell its caller; `asyncio.timeout` would cancel the task, and costs more."""
    return asyncio.get_running_loop().call_later(within_s - min(_TELL_S, within_s / 8), call.expire)


def _too_late(needed_s: float, within_s: float, ahead_s: float) -> Overloaded:
    wait_s = max(_LEAST_RETRY_S, ahead_s)
    return Overloaded(
        f"the answer would take about {needed_s:.2f} s and the deadline leaves {max(0.0, within_s):.2f} s; "
        f"try again in {wait_s:.2f} s or with a later deadline",
        retry_after_s=wait_s,
    )


def _expected_s(parts: Sequence[Part], more: int) -> float:
    """Until all that is ahead of these parts has left the model, and with `more` they themselves too."""
    return sum(batcher.pace.expected_s(batcher.inside[False] + more * len(raws)) for batcher, raws in parts if raws)


def _inputs(parts: Sequence[Part]) -> int:
    return sum(len(raws) for _, raws in parts)


def _counted(parts: Sequence[Part]) -> str:
    return " and ".join(f"{len(raws)} {batcher.lane}" for batcher, raws in parts if raws)
