"""What surrounds every RPC: a bound on calls, the table of errors, numbers and a span.

The handlers are made once, when a service is added to the server: a call goes through no interceptor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from services import metrics, status, tracing
from vitrine.errors import BadInput, Overloaded, Unavailable, VitrineError

log = logging.getLogger("vitrine.serving")

_RETRY_S = 0.25
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def left_s(context: Any) -> float | None:
    """Seconds until the caller's deadline; None where there is none, as over HTTP."""
    left: float | None = context.time_remaining() if context is not None else None
    return left


class Admission:
    """How many calls are inside, and were admitted ever; beyond `limit` a newcomer is refused.

    Health checks are not counted.
    """

    def __init__(self, limit: int, unit: str) -> None:
        self.limit, self.inside, self.admitted = limit, 0, 0
        self._unit = unit
        self._open = True

    def close(self) -> None:
        """Refuse newcomers from now on."""
        self._open = False

    def enter(self) -> None:
        """Take a place; give it back with `leave`.

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
        self.inside += 1
        self.admitted += 1

    def leave(self) -> None:
        """Give the place back."""
        self.inside -= 1


def handlers(servicer: Any, service: Any, admission: Admission) -> grpc.GenericRpcHandler:
    """What answers a service: each method of `servicer`, surrounded.

    Args:
        servicer: has a coroutine, or an async generator, for every method.
        service: the service's descriptor, `…_pb2.DESCRIPTOR.services_by_name[NAME]`.
        admission: the bound that all share.
    """
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {method.name: _handler(getattr(servicer, method.name), method, admission) for method in service.methods},
    )


def _handler(call: Callable[..., Any], method: Any, admission: Admission) -> grpc.RpcMethodHandler:
    make = _MAKERS[method.client_streaming, method.server_streaming]
    surround = _stream if method.server_streaming else _unary
    name = f"/{method.containing_service.full_name}/{method.name}"
    return make(
        surround(call, name, admission),
        request_deserializer=_reader(GetMessageClass(method.input_type)),
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _reader(kind: Any) -> Callable[[bytes], Any]:
    """Bytes to a message. grpc would call bytes that are none INTERNAL; they are the caller's mistake."""

    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _Unreadable(
                f"the {len(data)} bytes are no {kind.DESCRIPTOR.full_name}; compare the client's proto files"
            )

    return read


@dataclass(frozen=True)
class _Unreadable:
    """Stands for a message that cannot be read."""

    why: str


def _readable(message: Any) -> Any:
    if isinstance(message, _Unreadable):
        raise BadInput(message.why)
    return message


async def _all_readable(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _readable(message)


def _unary(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    numbers = metrics.Method(name)

    async def observed(request: Any, context: Any) -> Any:
        async with _Call(name, numbers, admission, context):
            return await call(_readable(request), context)

    return observed


def _stream(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    numbers = metrics.Method(name)

    async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Call(name, numbers, admission, context):
            readable = _all_readable(request) if hasattr(request, "__aiter__") else _readable(request)
            async for answer in call(readable, context):
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
        except Unavailable as error:
            self._end(error.grpc_status)
            await _abort(self._context, error)
        self._admitted = True

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
