"""Who may be inside the server: a bound on requests, one on the bytes that they hold, and how long one may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from services import metrics
from vitrine.errors import Overloaded, Unavailable

_RETRY_S = 0.25
_until: ContextVar[float | None] = ContextVar("until", default=None)


def left_s(context: Any) -> float | None:
    """Seconds until the caller's deadline; None where there is none. Without a gRPC context, what `within` says."""
    if context is not None:
        left: float | None = context.time_remaining()
        return left
    until = _until.get()
    return None if until is None else until - time.monotonic()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done in this block, and in tasks that begin in it, has a deadline; see `left_s`."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


class HeldBytes:
    """Bytes of the requests that are inside, over gRPC and HTTP together.

    One request alone is always let in, so a bound below the largest message refuses nobody for ever.

    Args:
        limit: bytes at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def take(self, size: int) -> None:
        """Count a request of this size; give it back with `give_back`.

        Raises:
            Overloaded: there is no room beside the others.
        """
        if self.held and self.held + size > self.limit:
            metrics.REFUSED.labels("bytes").inc()
            raise Overloaded(
                f"the server holds requests of {_mb(self.held)} MB, {_mb(self.limit)} are allowed, and this one has "
                f"{_mb(size)}; try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """The request has ended."""
        self.held -= size


class Admission:
    """How many calls are inside, and were admitted ever; beyond `limit` a newcomer is refused.

    Health checks are not counted.

    Args:
        limit: calls at a time.
        unit: what they are, in messages and metrics.
        held: what bounds their bytes; nothing without it.
    """

    def __init__(self, limit: int, unit: str, held: HeldBytes | None = None) -> None:
        self.limit, self.inside, self.admitted = limit, 0, 0
        self._unit, self._held = unit, held
        self._open = True

    def close(self) -> None:
        """Refuse newcomers from now on."""
        self._open = False

    def enter(self, size: int = 0) -> None:
        """Take a place for a request of `size` bytes; give it back with `leave`.

        Raises:
            Overloaded: there is none.
            Unavailable: the server is ending.
        """
        if not self._open:
            raise Unavailable("this server is going out of service; send the request again")
        if self.inside >= self.limit:
            metrics.REFUSED.labels(self._unit).inc()
            raise Overloaded(
                f"the server holds {self.inside} of {self.limit} {self._unit}; try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
            )
        if self._held is not None:
            self._held.take(size)
        self.inside += 1
        self.admitted += 1

    def leave(self, size: int = 0) -> None:
        """Give the place back; `size` is what `enter` was told."""
        self.inside -= 1
        if self._held is not None:
            self._held.give_back(size)


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.1f}"
