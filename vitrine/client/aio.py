"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
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


def _method(
    make: Callable[P, Operation[Result]],
) -> Callable[Concatenate[AsyncVitrineClient, P], Awaitable[Result]]:
    """An operation as a coroutine method that makes the call."""

    @wraps(make)
    async def method(self: AsyncVitrineClient, /, *args: P.args, **options: P.kwargs) -> Result:
        return await self._run(make(*args, **options))

    return method


class AsyncVitrineClient(BaseClient):
    """A client of one server for one event loop; make it there, and close it or use it with `async with`.

    `BaseClient` says what the arguments are.
    """

    _insecure = staticmethod(grpc.aio.insecure_channel)
    _secure = staticmethod(grpc.aio.secure_channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._connections.channels:
            await channel.close()

    embed = _method(operations.embed)
    classify = _method(operations.classify)
    search = _method(operations.search)
    info = _method(operations.info)
    upsert = _method(operations.upsert)
    delete = _method(operations.delete)

    async def embed_stream(
        self,
        items: Iterable[Query],
        *,
        dtype: DType = "float32",
        model: str = "",
        on_switch: OnSwitch = "stop",
        stall_s: float = 60.0,
    ) -> AsyncIterator[StreamChunk]:
        """As `VitrineClient.embed_stream`, with `async for`.

        Raises:
            VitrineError: as there.
        """
        bulk = self._bulk(dtype, model, on_switch, stall_s)
        groups = grouped(items)
        while True:
            try:
                async with aclosing(self._stream(bulk, groups, stall_s)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except grpc.RpcError as error:
                await asyncio.sleep(bulk.pause_s(error))
            else:
                return

    async def _stream(self, bulk: Bulk, groups: Iterator[list[Query]], stall_s: float) -> AsyncGenerator[StreamChunk]:
        """One stream, until all is answered or it breaks."""
        requests: asyncio.Queue[Any] = asyncio.Queue()
        for request in bulk.unanswered():
            requests.put_nowait(request)
        with self._connections.least_busy() as connection:
            call = self._open(connection, _until_none(requests), stall_s)
            answers = aiter(call)
            try:
                while True:
                    while bulk.room and (group := next(groups, None)) is not None:
                        requests.put_nowait(bulk.request(group))
                    if not bulk.waiting:
                        return
                    yield bulk.answered(await anext(answers, None))
            finally:
                requests.put_nowait(None)
                call.cancel()

    async def _run(self, operation: Operation[Result]) -> Result:
        steps = self._steps(operation)
        while steps.next is not None:
            if isinstance(steps.next, Pause):
                await asyncio.sleep(steps.next.seconds)
                steps.waited()
                continue
            try:
                answer = await self._send(operation, steps.next.timeout_s)
            except grpc.RpcError as error:
                steps.failed(error)
            else:
                steps.answered(answer)
        return steps.result

    async def _send(self, operation: Operation[Any], timeout_s: float) -> Any:
        with self._connections.least_busy() as connection, client_span(operation.name, self.target) as headers:
            call = unary(connection, operation.method, operation.answer)
            return await call(operation.request, timeout=timeout_s, metadata=headers)


async def _until_none(requests: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (request := await requests.get()) is not None:
        yield request
