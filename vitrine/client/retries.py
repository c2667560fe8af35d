"""When a failed call is sent again: never for a wrong request, never past the deadline, never more than a share of all calls.

A server that is overloaded would only be more so if every refused call came back twice; the budget bounds what all
callers of a client add together.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Generic, TypeVar

import grpc

from vitrine.client.leaves import leaf
from vitrine.client.operations import Operation
from vitrine.errors import Overloaded, Unavailable, VitrineError

Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Budget:
    """How many calls may be sent again: `share` of those made, and `reserve` at once for a client that has made few.

    Safe for several threads.
    """

    def __init__(self, share: float = 0.2, reserve: float = 10) -> None:
        self._share, self._most, self._left = share, reserve, reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call is made."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether one more may be sent again; counts it."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


@dataclass(frozen=True)
class Attempt:
    """Send the request now, with this deadline."""

    timeout_s: float


@dataclass(frozen=True)
class Pause:
    """Wait before the next attempt."""

    seconds: float


@dataclass(frozen=True)
class Retries:
    """What is tried again, how often and when.

    Attributes:
        most: further attempts of one call.
        budget: shared by all calls of a client.
    """

    most: int
    budget: Budget

    def patient(self) -> Retries:
        """As many more for a stream, whose server may be starting anew."""
        return replace(self, most=4 * self.most)

    def pause_s(self, code: grpc.StatusCode, told: VitrineError, tried: int, left_s: float) -> float | None:
        """Seconds to wait before the next attempt, spread at random; None where there must be none.

        Args:
            code: what gRPC raised.
            told: the same as a leaf; an `Overloaded` says when another try is worthwhile.
            tried: further attempts made so far.
            left_s: until the caller's deadline.
        """
        if code not in _AGAIN or not isinstance(told, Unavailable) or tried >= self.most:
            return None
        if isinstance(told, Overloaded):
            pause = told.retry_after_s * random.uniform(1, 1.5)
        else:
            longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**tried)
            pause = longest * random.uniform(0.5, 1)
        return pause if pause < left_s and self.budget.spend() else None


class Steps(Generic[Result]):
    """One call, told to whoever does the I/O: what to do `next`, until there is a result (`next` is None)."""

    def __init__(self, operation: Operation[Result], retries: Retries, target: str, timeout_s: float) -> None:
        self._attempts = _attempts(operation, retries, target, timeout_s)
        self._result: list[Result] = []
        self.next: Attempt | Pause | None = next(self._attempts)

    @property
    def result(self) -> Result:
        """What the answer says, at the end."""
        return self._result[0]

    def answered(self, answer: Any) -> None:
        """The attempt has this answer."""
        try:
            self.next = self._attempts.send(answer)
        except StopIteration as end:
            self.next = None
            self._result.append(end.value)

    def failed(self, error: grpc.RpcError) -> None:
        """The attempt raised this.

        Raises:
            VitrineError: the same as a leaf, where it must not be tried again.
        """
        self.next = self._attempts.throw(error)

    def waited(self) -> None:
        """The pause is over."""
        self.next = next(self._attempts)


def _attempts(
    operation: Operation[Result], retries: Retries, target: str, timeout_s: float
) -> Generator[Attempt | Pause, Any, Result]:
    deadline = monotonic() + timeout_s
    retries.budget.earn()
    tried = 0
    while True:
        try:
            answer = yield Attempt(max(0.0, deadline - monotonic()))
        except grpc.RpcError as error:
            told = leaf(error, target, timeout_s)
            pause_s = retries.pause_s(error.code(), told, tried, deadline - monotonic())
            if pause_s is None:
                raise told from error
        else:
            return operation.read(answer)
        tried += 1
        yield Pause(pause_s)
