"""Search: embed the query (or take an item's stored vector), ask the snapshot's index."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from services import codec, metrics, tracing
from services.admission import left_s
from services.snapshot import InService, Live, Snapshot
from vitrine.errors import BadInput, Unsupported
from vitrine.ports import Index, Vectors
from vitrine.v1 import search_pb2, search_pb2_grpc


class SearchServicer(search_pb2_grpc.SearchServicer):  # type: ignore[misc]
    """The Search service. HTTP calls the same method, without a context."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def Search(  # noqa: N802 -- the RPC's name
        self, request: search_pb2.SearchRequest, context: Any = None
    ) -> search_pb2.SearchResponse:
        """The nearest items of the live collection."""
        began = time.perf_counter()
        with self._live.lease() as service:
            snapshot = service.snapshot
            index = _index(snapshot)
            where, limit = codec.conditions(request.filter), codec.limit(request)
            itself = request.item_id if request.WhichOneof("query") == "item_id" else None
            query = await _query(request, service, index, left_s(context))
            # An item is its own nearest neighbour, and the best of its product: ask for one more and leave it out.
            depth = limit + (itself is not None)
            exact, by_product = request.exact, request.by_product
            asked, stages = time.perf_counter(), metrics.stages(snapshot.name)
            found = await asyncio.to_thread(index.search, query, depth, where, exact=exact, by_product=by_product)
            stages.seen("index", time.perf_counter() - asked, tracing.current())
            others = [hit for hit in found[0] if hit.item_id != itself][:limit]
            encoding = time.perf_counter()
            answer = search_pb2.SearchResponse(
                version=snapshot.info, collection=snapshot.collection, hits=codec.hits(others)
            )
            stages.seen("encode", time.perf_counter() - encoding, tracing.current())
        if self._live.observe is not None:
            self._live.observe(request, answer, time.perf_counter() - began)
        return answer


async def _query(
    request: search_pb2.SearchRequest, service: InService, index: Index, within_s: float | None
) -> Vectors:
    """The query's unit vector (1, D)."""
    kind = request.WhichOneof("query")
    if kind == "item_id":
        return await asyncio.to_thread(index.vectors, [request.item_id])
    if kind is None:
        raise BadInput("the search has no query; send an item with an image or a title, or an item_id", field="query")
    return await service.lanes.embed([codec.query(request.item, service.snapshot)], within_s=within_s)


def _index(snapshot: Snapshot) -> Index:
    if snapshot.index is None:
        raise Unsupported(
            f"this server has {snapshot.name} but no embedded catalogue, so it cannot search; start it with "
            "VITRINE_HOME or VITRINE_REGISTRY_URL naming a registry where a version was promoted (vitrine promote)"
        )
    return snapshot.index
