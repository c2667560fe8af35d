"""The client for ordinary programs and threads."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self

import grpc

from vitrine.client import operations
from vitrine.client.base import BaseClient
from vitrine.client.bulk import Bulk, OnSwitch, grouped
from vitrine.client.channels import unary
from vitrine.client.operations import DType, Operation, Result
from vitrine.client.retries import Pause
from vitrine.client.types import Query, StreamChunk
from vitrine.tracecontext import client_span

P = ParamSpec("P")


def _method(make: Callable[P, Operation[Result]]) -> Callable[Concatenate[VitrineClient, P], Result]:
    """An operation as a method that makes the call."""

    @wraps(make)
    def method(self: VitrineClient, /, *args: P.args, **options: P.kwargs) -> Result:
        return self._run(make(*args, **options))

    return method


class VitrineClient(BaseClient):
    """A client of one server. Safe for several threads; close it, or use it as a context manager.

    `BaseClient` says what the arguments are.
    """

    _insecure = staticmethod(grpc.insecure_channel)
    _secure = staticmethod(grpc.secure_channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for channel in self._connections.channels:
            channel.close()

    embed = _method(operations.embed)
    classify = _method(operations.classify)
    search = _method(operations.search)
    info = _method(operations.info)
    upsert = _method(operations.upsert)
    delete = _method(operations.delete)

    def embed_stream(
        self,
        items: Iterable[Query],
        *,
        dtype: DType = "float32",
        model: str = "",
        on_switch: OnSwitch = "stop",
        stall_s: float = 60.0,
    ) -> Iterator[StreamChunk]:
        """Embed any number of items in order; a broken stream is opened again and sends what was not answered.

        Items are taken as there is room, so a generator of photos never holds more than a few requests in memory.

        Args:
            items: photos or listings.
            dtype: what travels; the result is float32 either way.
            model: the model that must answer; empty for whichever is served.
            on_switch: when another version goes live in the middle: `stop` raises, `continue` goes on with the new one.
            stall_s: how long no answer may come.

        Raises:
            Conflict: another version went live.
            VitrineError: the server's own error, or `Unavailable` where it stays away.
        """
        bulk = self._bulk(dtype, model, on_switch, stall_s)
        groups = grouped(items)
        while True:
            try:
                yield from self._stream(bulk, groups, stall_s)
            except grpc.RpcError as error:
                time.sleep(bulk.pause_s(error))
            else:
                return

    def _stream(self, bulk: Bulk, groups: Iterator[list[Query]], stall_s: float) -> Generator[StreamChunk]:
        """One stream, until all is answered or it breaks."""
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in bulk.unanswered():
            requests.put(request)
        with self._connections.least_busy() as connection:
            call = self._open(connection, iter(requests.get, None), stall_s)
            try:
                while True:
                    while bulk.room and (group := next(groups, None)) is not None:
                        requests.put(bulk.request(group))
                    if not bulk.waiting:
                        return
                    yield bulk.answered(next(call, None))
            finally:
                requests.put(None)
                call.cancel()

    def _run(self, operation: Operation[Result]) -> Result:
        steps = self._steps(operation)
        while steps.next is not None:
            if isinstance(steps.next, Pause):
                time.sleep(steps.next.seconds)
                steps.waited()
                continue
            try:
                answer = self._send(operation, steps.next.timeout_s)
            except grpc.RpcError as error:
                steps.failed(error)
            else:
                steps.answered(answer)
        return steps.result

    def _send(self, operation: Operation[Any], timeout_s: float) -> Any:
        with self._connections.least_busy() as connection, client_span(operation.name, self.target) as headers:
            call = unary(connection, operation.method, operation.answer)
            return call(operation.request, timeout=timeout_s, metadata=headers)
