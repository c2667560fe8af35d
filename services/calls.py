"""What surrounds every RPC: a bound on calls, the table of errors, numbers and a span.

A servicer is wrapped when it is added to the server, so a call costs no look-up of its handler.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

import grpc
from grpc_status import rpc_status

from services import metrics, status, tracing
from vitrine.errors import Overloaded, VitrineError

log = logging.getLogger("vitrine.serving")

_RETRY_S = 0.25


class Admission:
    """How many calls are inside; beyond `limit` a newcomer is refused. Health checks are not counted."""

    def __init__(self, limit: int, unit: str) -> None:
        self.limit, self.inside = limit, 0
        self._unit = unit

    def enter(self) -> None:
        """Take a place; give it back with `leave`.

        Raises:
            Overloaded: there is none.
        """
        if self.inside >= self.limit:
            metrics.REFUSED.labels(self._unit).inc()
            raise Overloaded(
                f"the server holds {self.inside} of {self.limit} {self._unit}; try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
            )
        self.inside += 1

    def leave(self) -> None:
        """Give the place back."""
        self.inside -= 1


class Observed:
    """A servicer whose methods are surrounded; the generated `add_…_to_server` takes it as the servicer."""

    def __init__(self, servicer: Any, service: Any, admission: Admission) -> None:
        for method in service.methods:
            call = getattr(servicer, method.name)
            name = f"/{service.full_name}/{method.name}"
            surround = _stream if method.server_streaming else _unary
            setattr(self, method.name, surround(call, name, admission))


def _unary(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    numbers = metrics.Method(name)

    async def observed(request: Any, context: Any) -> Any:
        async with _Call(name, numbers, admission, context):
            return await call(request, context)

    return observed


def _stream(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    numbers = metrics.Method(name)

    async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Call(name, numbers, admission, context):
            async for answer in call(request, context):
                yield answer

    return observed


class _Call:
    """One call, from the moment its handler begins to its status."""

    __slots__ = ("_admission", "_admitted", "_began", "_context", "_name", "_numbers", "_span")

    def __init__(self, name: str, numbers: metrics.Method, admission: Admission, context: Any) -> None:
        self._name, self._numbers, self._admission, self._context = name, numbers, admission, context
        self._admitted, self._began = False, time.perf_counter()
        self._span = tracing.request(name, context.invocation_metadata() or ()) if tracing.on() else nullcontext()

    async def __aenter__(self) -> None:
        self._span.__enter__()
        try:
            self._admission.enter()
        except Overloaded as error:
            self._end(error.grpc_status)
            await _abort(self._context, error)
        self._admitted = True
        metrics.IN_FLIGHT.inc()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = _code(error, self._context)
        self._end(code)
        if isinstance(error, VitrineError):
            await _abort(self._context, error)
        if code == "INTERNAL" and not isinstance(error, grpc.aio.AbortError):
            log.error("a request failed unexpectedly", extra={"method": self._name}, exc_info=error)
            await self._context.abort(grpc.StatusCode.INTERNAL, "unexpected error; the server's log has the details")

    def _end(self, code: str) -> None:
        if self._admitted:
            self._admission.leave()
            metrics.IN_FLIGHT.dec()
        seconds = time.perf_counter() - self._began
        self._numbers.ended(code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("call", extra={"method": self._name, "code": code, "ms": round(1000 * seconds, 1)})
        if tracing.on():
            tracing.outcome(code)
        self._span.__exit__(None, None, None)


def _code(error: BaseException | None, context: Any) -> str:
    """The gRPC code that an ending means."""
    if error is None:
        return "OK"
    if isinstance(error, VitrineError):
        return error.grpc_status
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    if isinstance(error, grpc.aio.AbortError):
        return str(context.code().name)
    return "INTERNAL"


async def _abort(context: Any, error: VitrineError) -> None:
    await context.abort_with_status(rpc_status.to_status(status.rpc_status(error)))
