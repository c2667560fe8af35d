"""What surrounds every RPC: bounds on calls and their bytes, the table of errors, numbers and a span.

The handlers are made once, when a service is added to the server: a call goes through no interceptor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from services import metrics, status, tracing
from services.admission import Admission
from vitrine.errors import BadInput, Unavailable, VitrineError

log = logging.getLogger("vitrine.serving")

_UNTRACED = nullcontext()

_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


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


class _Received(NamedTuple):
    """A message as it came: its size, and why it cannot be read where it cannot."""

    size: int
    message: Any = None
    wrong: str = ""

    def read(self) -> Any:
        if self.wrong:
            raise BadInput(self.wrong)
        return self.message


def _reader(kind: Any) -> Callable[[bytes], _Received]:
    """Bytes to a message. grpc would call bytes that are none INTERNAL; they are the caller's mistake."""

    def read(data: bytes) -> _Received:
        try:
            return _Received(len(data), kind.FromString(data))
        except DecodeError:
            told = f"the {len(data)} bytes are no {kind.DESCRIPTOR.full_name}; compare the client's proto files"
            return _Received(len(data), wrong=told)

    return read


async def _all_read(received: AsyncIterator[_Received]) -> AsyncIterator[Any]:
    async for one in received:
        yield one.read()


def _unary(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    numbers = metrics.Method(name)

    async def observed(request: _Received, context: Any) -> Any:
        async with _Call(name, numbers, admission, context, request.size):
            return await call(request.read(), context)

    return observed


def _stream(call: Callable[..., Any], name: str, admission: Admission) -> Callable[..., Any]:
    """Of a stream of requests no bytes are counted: it has a window of its own."""
    numbers = metrics.Method(name)

    async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
        many = hasattr(request, "__aiter__")
        async with (
            _Call(name, numbers, admission, context, 0 if many else request.size),
            aclosing(call(_all_read(request) if many else request.read(), context)) as answers,
        ):
            async for answer in answers:
                yield answer

    return observed


class _Call:
    """One call, from the moment its handler begins to its status."""

    __slots__ = ("_admission", "_admitted", "_began", "_context", "_name", "_numbers", "_size", "_span")

    def __init__(self, name: str, numbers: metrics.Method, admission: Admission, context: Any, size: int) -> None:
        self._name, self._numbers, self._admission, self._context = name, numbers, admission, context
        self._size = size
        self._admitted, self._began = False, time.perf_counter()
        self._span = tracing.request(name, context.invocation_metadata() or ()) if tracing.on() else _UNTRACED

    async def __aenter__(self) -> None:
        self._span.__enter__()
        try:
            self._admission.enter(self._size)
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
            self._admission.leave(self._size)
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
