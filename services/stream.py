"""EmbedStream: bulk embedding over one call, in order, with a bounded number of requests ahead.

    reader -> window (requests, bytes) -> a task a request -> answers in order

The reader stops when the window is full, so a client that does not read its answers stops being read itself: gRPC's own
flow control does the rest. Items go through the bulk side of the batchers and yield to single calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import numpy as np

from services import codec
from services.lanes import Lanes, Query
from services.snapshot import Live, Snapshot
from vitrine.errors import BadInput, Conflict, VitrineError
from vitrine.ports import Vectors
from vitrine.v1 import embedding_pb2

log = logging.getLogger("vitrine.serving")

REQUESTS_AHEAD = 4
BYTES_AHEAD = 32 * 1024 * 1024

_Request = embedding_pb2.EmbedStreamRequest
_Response = embedding_pb2.EmbedStreamResponse
_Task = asyncio.Task[_Response]


class Stream:
    """One EmbedStream call."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._first: Snapshot | None = None  # the version of the whole stream
        self._tasks: asyncio.Queue[tuple[_Task, int] | BaseException | None] = asyncio.Queue()
        self._requests = self._bytes = self._answered = 0  # the first two: read and not answered
        self._room = asyncio.Event()

    async def answers(self, requests: AsyncIterator[_Request]) -> AsyncGenerator[_Response]:
        """One answer a request, in order.

        Raises:
            Conflict: another version went live; what was answered stands.
            BadInput: a request as a whole is wrong: no items, an unknown dtype.
            NotFound: a request asks for another model.
        """
        reader = asyncio.get_running_loop().create_task(self._read(requests))
        try:
            while (found := await self._tasks.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                task, size = found
                yield await task
                self._answered += 1
                self._requests -= 1
                self._bytes -= size
                self._room.set()
        finally:
            await self._end(reader)

    async def _read(self, requests: AsyncIterator[_Request]) -> None:
        """Begin requests as they come, as far as the window allows."""
        try:
            async for request in requests:
                size = request.ByteSize()
                self._requests += 1
                self._bytes += size
                self._tasks.put_nowait((asyncio.get_running_loop().create_task(self._answer(request)), size))
                while self._requests >= REQUESTS_AHEAD or self._bytes >= BYTES_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 -- told after the answers that come before it
            self._tasks.put_nowait(error)
        else:
            self._tasks.put_nowait(None)

    async def _answer(self, request: _Request) -> _Response:
        with self._live.lease() as service:
            snapshot = service.snapshot
            self._check_version(snapshot)
            codec.check_model(request.model, snapshot)
            queries, failed = codec.sound_queries(request.items, snapshot)
            vectors = np.zeros((len(request.items), snapshot.encoder.manifest.dim), np.float32)
            for piece in _pieces(queries, service.lanes.places.for_bulk):
                failed |= await _embed(service.lanes, {place: queries[place] for place in piece}, vectors)
            return _Response(
                version=snapshot.info,
                embeddings=codec.tensor(vectors, request.dtype),
                failed=[codec.item_error(place, failed[place]) for place in sorted(failed)],
            )

    def _check_version(self, snapshot: Snapshot) -> None:
        if self._first is None:
            self._first = snapshot
        if snapshot is not self._first:
            raise Conflict(
                f"this stream began with {self._first.name} and {snapshot.name} is live now; a stream is one version: its "
                f"{self._answered} answers stand, open a new one for the requests that were not answered"
            )

    async def _end(self, reader: asyncio.Task[None]) -> None:
        """Let go of everything that is still under way."""
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        left = []
        with suppress(asyncio.QueueEmpty):
            while True:
                found = self._tasks.get_nowait()
                if isinstance(found, tuple):
                    found[0].cancel()
                    left.append(found[0])
        await asyncio.gather(*left, return_exceptions=True)


async def _embed(lanes: Lanes, queries: dict[int, Query], vectors: Vectors) -> dict[int, Exception]:
    """Fill the rows of these items; what went wrong with the others."""
    places = list(queries)
    try:
        found, failed = await lanes.embed_bulk(list(queries.values()))
    except BadInput as error:  # more photos than bulk may ever hold; only a single item can be so large
        return dict.fromkeys(places, error)
    vectors[places] = found
    for place, reason in failed.items():
        if not isinstance(reason, VitrineError):
            log.error("an item of a stream failed unexpectedly", extra={"item": places[place]}, exc_info=reason)
    return {places[place]: reason for place, reason in failed.items()}


def _pieces(queries: dict[int, Query], most: int) -> list[list[int]]:
    """Items in order, in groups of at most `most` photos and titles; a larger item stands alone."""
    pieces: list[list[int]] = []
    size = most
    for place, query in queries.items():
        inputs = len(query.photos) + bool(query.title)
        if size + inputs > most:
            pieces.append([])
            size = 0
        pieces[-1].append(place)
        size += inputs
    return pieces
