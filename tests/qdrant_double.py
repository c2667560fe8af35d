"""A Qdrant server's gRPC face over brute force: what the client puts on the wire is kept, what comes back is right.

It proves our side of the wire, not a server's behaviour: contract tests run against a real one where QDRANT_URL is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from qdrant_client import grpc as wire
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc


class Double(
    collections_service_pb2_grpc.CollectionsServicer,
    points_service_pb2_grpc.PointsServicer,
    qdrant_pb2_grpc.QdrantServicer,
):
    """One collection at a time.

    Attributes:
        said: every request, in order.
        answers: after so many searches it is unavailable.
        indexed: how many vectors it says are in the graph, one number a question, the last one for ever.
    """

    def __init__(self, *indexed: int, answers: float = float("inf")) -> None:
        self.answers = answers
        self.said: list[Any] = []
        self.indexed = list(indexed)
        self._made: Any = None
        self._points: dict[str, Any] = {}

    def of(self, kind: str) -> list[Any]:
        """The requests of one kind, such as `CreateCollection`."""
        return [request for request in self.said if type(request).__name__ == kind]

    def HealthCheck(self, request, context):  # noqa: N802
        return wire.HealthCheckReply(title="double", version="1.19.0")

    def CollectionExists(self, request, context):  # noqa: N802
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=self._made is not None))

    def Create(self, request, context):  # noqa: N802
        self.said.append(request)
        self._made = request
        return wire.CollectionOperationResponse(result=True)

    def Update(self, request, context):  # noqa: N802
        self.said.append(request)
        for key, value in request.metadata.items():
            self._made.metadata[key].CopyFrom(value)
        return wire.CollectionOperationResponse(result=True)

    def Delete(self, request, context):  # noqa: N802
        self.said.append(request)
        self._made = None
        self._points = {}
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request, context):  # noqa: N802
        indexed = self.indexed.pop(0) if len(self.indexed) > 1 else self.indexed[0]
        hnsw = wire.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000)
        hnsw.MergeFrom(self._made.hnsw_config)
        config = wire.CollectionConfig(
            params=wire.CollectionParams(vectors_config=self._made.vectors_config, shard_number=1),
            hnsw_config=hnsw,
            optimizer_config=wire.OptimizersConfigDiff(
                deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=1, flush_interval_sec=5
            ),
            wal_config=wire.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            metadata=self._made.metadata,
        )
        info = wire.CollectionInfo(
            status=wire.CollectionStatus.Green, segments_count=1, config=config, indexed_vectors_count=indexed
        )
        return wire.GetCollectionInfoResponse(result=info)

    def CreateFieldIndex(self, request, context):  # noqa: N802
        self.said.append(request)
        return _done()

    def Upsert(self, request, context):  # noqa: N802
        self.said.append(request)
        self._points.update({point.id.uuid: point for point in request.points})
        return _done()

    def Count(self, request, context):  # noqa: N802
        return wire.CountResponse(result=wire.CountResult(count=len(self._points)))

    def QueryBatch(self, request, context):  # noqa: N802
        self.said.append(request)
        if len(self.of("QueryBatchPoints")) > self.answers:
            context.abort(grpc.StatusCode.UNAVAILABLE, "node is going down")
        return wire.QueryBatchResponse(
            result=[wire.BatchResult(result=self._nearest(one)) for one in request.query_points]
        )

    def _nearest(self, request: Any) -> list[Any]:
        query = np.array(request.query.nearest.dense.data, np.float32)
        fields = [condition.field for condition in request.filter.must]
        kept = [point for point in self._points.values() if all(_meets(point, field) for field in fields)]
        scored = sorted(((float(_vector(point, request.using) @ query), point.id.uuid) for point in kept), reverse=True)
        return [
            wire.ScoredPoint(id=wire.PointId(uuid=name), score=score, payload=self._points[name].payload)
            for score, name in scored[: request.limit]
        ]


def _vector(point: Any, name: str) -> Any:
    found = point.vectors.vectors.vectors[name]
    return np.array(found.dense.data or found.data, np.float32)


def _meets(point: Any, field: Any) -> bool:
    wanted = list(field.match.keywords.strings) or [field.match.keyword]
    return point.payload[field.key].string_value in wanted


def _done() -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))


class Trouble(grpc.ServerInterceptor):
    """Answers the first calls with errors, and all without the key.

    Attributes:
        errors: (status, words, trailing metadata) of the calls to come; then all is well.
        calls: how many came.
    """

    def __init__(self, *errors: tuple[Any, str, tuple[tuple[str, str], ...]], key: str = "") -> None:
        self.errors, self.key, self.calls = list(errors), key, 0

    def intercept_service(self, continuation, details):
        self.calls += 1
        if self.key and dict(details.invocation_metadata).get("api-key") != self.key:
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT", ())
        return _refusing(*self.errors.pop(0)) if self.errors else continuation(details)


def _refusing(status: Any, words: str, trailing: tuple[tuple[str, str], ...]) -> Any:
    def refuse(request: Any, context: Any) -> None:
        context.set_trailing_metadata(trailing)
        context.abort(status, words)

    return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def serving(double: Double, trouble: Trouble | None = None) -> Iterator[dict[str, Any]]:
    """The double on a port of the loopback; yields settings that lead there."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[trouble] if trouble else [])
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(double, server)
    points_service_pb2_grpc.add_PointsServicer_to_server(double, server)
    qdrant_pb2_grpc.add_QdrantServicer_to_server(double, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield {"url": f"http://127.0.0.1:{port}", "grpc_port": port}
    finally:
        server.stop(None).wait()
