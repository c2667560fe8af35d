"""Embed, EmbedStream, Classify, Info: decode the message, ask the live snapshot, encode the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from services import codec, tracing
from services.admission import left_s
from services.metrics import stages
from services.snapshot import Live
from services.stream import Stream
from vitrine.encoder import pool_probabilities
from vitrine.errors import Overloaded
from vitrine.v1 import embedding_pb2, embedding_pb2_grpc

MAX_STREAMS = 8  # each may hold a window of requests; more would not be faster
_STREAM_RETRY_S = 1.0


class EmbeddingServicer(embedding_pb2_grpc.EmbeddingServicer):  # type: ignore[misc]
    """The Embedding service. HTTP calls the same methods, without a context."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._streams = 0

    async def Embed(  # noqa: N802 -- the RPC's name
        self, request: embedding_pb2.EmbedRequest, context: Any = None
    ) -> embedding_pb2.EmbedResponse:
        """Unit vectors (items, D)."""
        with self._live.lease() as service:
            codec.check_model(request.model, service.snapshot)
            queries = codec.queries(request.items, service.snapshot)
            vectors = await service.lanes.embed(queries, within_s=left_s(context))
            began = time.perf_counter()
            answer = embedding_pb2.EmbedResponse(
                version=service.snapshot.info, embeddings=codec.tensor(vectors, request.dtype)
            )
            stages(service.snapshot.name).seen("encode", time.perf_counter() - began, tracing.current())
            return answer

    async def EmbedStream(  # noqa: N802
        self, requests: AsyncIterator[embedding_pb2.EmbedStreamRequest], context: Any = None
    ) -> AsyncIterator[embedding_pb2.EmbedStreamResponse]:
        """Bulk: one answer a request, in order."""
        del context
        if self._streams >= MAX_STREAMS:
            raise Overloaded(
                f"the server has {self._streams} of {MAX_STREAMS} streams; try again in {_STREAM_RETRY_S:.0f} s",
                retry_after_s=_STREAM_RETRY_S,
            )
        self._streams += 1
        try:
            async with aclosing(Stream(self._live).answers(requests)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._streams -= 1

    async def Classify(  # noqa: N802
        self, request: embedding_pb2.ClassifyRequest, context: Any = None
    ) -> embedding_pb2.ClassifyResponse:
        """The best labels of each item."""
        with self._live.lease() as service:
            encoder = service.snapshot.encoder
            threshold = codec.abstain_below(request, service.snapshot)
            photos, counts = codec.photos(request.items, service.snapshot)
            logits = (await service.lanes.see(photos, within_s=left_s(context))).logits
            assert logits is not None  # a version with a label set has logits
            probabilities = pool_probabilities(encoder.probabilities(logits), counts)
            found = codec.classifications(probabilities, encoder.label_names, request.top_k, threshold)
            return embedding_pb2.ClassifyResponse(version=service.snapshot.info, classifications=found)

    async def Info(  # noqa: N802
        self, request: embedding_pb2.InfoRequest, context: Any = None
    ) -> embedding_pb2.InfoResponse:
        """Who answers now, and from which collection."""
        del request, context
        with self._live.lease() as service:
            snapshot = service.snapshot
            following, engine = snapshot.following, snapshot.encoder.engine
            return embedding_pb2.InfoResponse(
                version=snapshot.info,
                collection=snapshot.collection,
                items=await asyncio.to_thread(snapshot.index.count) if snapshot.index else 0,
                engine=engine.name,
                precision=engine.precision,
                catalogue_seq=(following.seq or following.files.info.seq) if following else 0,
            )
