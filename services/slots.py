"""One request inside the micro-batchers: a slot for each of its inputs, one future that answers them all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from services.tracing import current

if TYPE_CHECKING:
    from services.batching import MicroBatcher


class Expired(Exception):
    """A call's deadline came before its answer."""


class Call:
    """One request inside the batchers. Each input has a slot; one future answers them all.

    Args:
        bulk: yields to calls that are not.
        lenient: an input that fails leaves its exception in its slot instead of failing the call.
    """

    __slots__ = ("_left", "_results", "answer", "bulk", "entries", "lenient", "parent")

    def __init__(self, *, bulk: bool = False, lenient: bool = False) -> None:
        self.bulk, self.lenient = bulk, lenient
        self.answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.parent = current()
        self.entries: list[Entry] = []
        self._left = 0
        self._results: list[Any] = []

    def reserve(self, batcher: MicroBatcher[Any, Any, Any], raws: Sequence[Any]) -> list[Entry]:
        """A slot for each of these inputs."""
        entries = [Entry(self, batcher, slot, raw) for slot, raw in enumerate(raws, len(self.entries))]
        self.entries += entries
        self._results += [None] * len(entries)
        self._left += len(entries)
        return entries

    def settle(self, slot: int, result: object) -> None:
        """The result, or the exception, of one input."""
        if self.answer.done():  # it gave up, or another input of it failed
            return
        if isinstance(result, Exception) and not self.lenient:
            self.answer.set_exception(result)
            return
        self._results[slot] = result
        self._left -= 1
        if not self._left:
            self.answer.set_result(self._results)

    def expire(self) -> None:
        """Its caller waits no longer."""
        if not self.answer.done():
            self.answer.set_exception(Expired())

    def leave(self) -> None:
        """Take what is not finished out of every queue."""
        for entry in self.entries:
            entry.batcher.drop(entry)


class Entry:
    """One input on its way; `raw` and `ready` are let go of as soon as they are not needed."""

    __slots__ = ("batcher", "call", "queued_at", "raw", "ready", "slot", "state")

    def __init__(self, call: Call, batcher: MicroBatcher[Any, Any, Any], slot: int, raw: object) -> None:
        self.call, self.batcher, self.slot, self.raw = call, batcher, slot, raw
        self.ready: object = None
        self.state = "preparing"  # -> queued -> running -> out
        self.queued_at = 0.0

    @property
    def bulk(self) -> bool:
        """Whether it yields to single calls."""
        return self.call.bulk

    @property
    def wanted(self) -> bool:
        """Whether its call still waits for it."""
        return self.raw is not None

    def prepare(self) -> object:
        """In a thread of the preparer; a call that gave up meanwhile costs nothing."""
        raw = self.raw
        return None if raw is None else self.batcher.prepare(raw)

    def arrive(self, ready: object, seconds: float) -> None:
        """On the event loop."""
        self.batcher.arrive(self, ready, seconds)
