"""Qdrant's own engine behind its gRPC face on a port of the loopback: a server for commands that know but an address.

What a server would add, several nodes and a disk that outlives the process, is not here; what our client puts on the
wire, and what the engine makes of it, is real.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from tests.edge_client import EdgeClient


class EngineServer(
    collections_service_pb2_grpc.CollectionsServicer,
    points_service_pb2_grpc.PointsServicer,
    qdrant_pb2_grpc.QdrantServicer,
):
    """Collections, aliases and points, one call at a time.

    Attributes:
        engine: what the server holds, for a look from outside.
        said: names of the calls, in order.
        down: every call is refused as by a server that is away.
    """

    def __init__(self) -> None:
        self.engine = EdgeClient()
        self.lock = threading.RLock()
        self.said: list[str] = []
        self.down = False

    def HealthCheck(self, request, context):  # noqa: N802 -- the RPCs' names
        return wire.HealthCheckReply(title="engine", version="1.16.0")

    def CollectionExists(self, request, context):  # noqa: N802
        exists = self.engine.collection_exists(request.collection_name)
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    def Create(self, request, context):  # noqa: N802
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        self.engine.create_collection(request.collection_name, vectors, GrpcToRest.convert_payload(request.metadata))
        return wire.CollectionOperationResponse(result=True)

    def Update(self, request, context):  # noqa: N802
        self.engine.update_collection(request.collection_name, GrpcToRest.convert_payload(request.metadata))
        return wire.CollectionOperationResponse(result=True)

    def Delete(self, request, context):  # noqa: N802
        """Both services have a call of this name."""
        if isinstance(request, wire.DeleteCollection):
            self.engine.delete_collection(request.collection_name)
            return wire.CollectionOperationResponse(result=True)
        selector = GrpcToRest.convert_points_selector(request.points)
        self.engine.delete(
            request.collection_name, selector if isinstance(selector, models.FilterSelector) else selector.points
        )
        return _done()

    def Get(self, request, context):  # noqa: N802
        """Both services have a call of this name."""
        if isinstance(request, wire.GetCollectionInfoRequest):
            return self._collection(request.collection_name)
        wanted = GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        with_payload = request.with_payload.enable or bool(request.with_payload.include.fields)
        ids = [GrpcToRest.convert_point_id(one) for one in request.ids]
        found = self.engine.retrieve(request.collection_name, ids, with_payload, wanted)
        return wire.GetResponse(result=[_retrieved(one) for one in found])

    def ListAliases(self, request, context):  # noqa: N802
        held = self.engine._aliases.items()
        aliases = [wire.AliasDescription(alias_name=alias, collection_name=name) for alias, name in held]
        return wire.ListAliasesResponse(aliases=aliases)

    def UpdateAliases(self, request, context):  # noqa: N802
        self.engine.update_collection_aliases([GrpcToRest.convert_alias_operations(one) for one in request.actions])
        return wire.CollectionOperationResponse(result=True)

    def CreateFieldIndex(self, request, context):  # noqa: N802
        schema = models.PayloadSchemaType(wire.FieldType.Name(request.field_type).removeprefix("FieldType").lower())
        self.engine.create_payload_index(request.collection_name, request.field_name, schema, wait=True)
        return _done()

    def Upsert(self, request, context):  # noqa: N802
        self._upsert(request.collection_name, request)
        return _done()

    def UpdateBatch(self, request, context):  # noqa: N802
        for operation in request.operations:
            self._upsert(request.collection_name, operation.upsert)
        return wire.UpdateBatchResponse(result=[_done().result for _ in request.operations])

    def Count(self, request, context):  # noqa: N802
        found = self.engine.count(request.collection_name, _filter(request), exact=True)
        return wire.CountResponse(result=wire.CountResult(count=found.count))

    def QueryBatch(self, request, context):  # noqa: N802
        requests = [GrpcToRest.convert_query_points(one) for one in request.query_points]
        for one in requests:
            one.query = one.query.nearest
        answers = self.engine.query_batch_points(request.collection_name, requests)
        return wire.QueryBatchResponse(
            result=[wire.BatchResult(result=[_scored(point) for point in answer.points]) for answer in answers]
        )

    def _upsert(self, name, sent):
        points = [GrpcToRest.convert_point_struct(point) for point in sent.points]
        older = GrpcToRest.convert_filter(sent.update_filter) if sent.HasField("update_filter") else None
        self.engine.upsert(name, points, older)

    def _collection(self, name):
        held = self.engine.get_collection(name)
        params = RestToGrpc.convert_vectors_config(held.config.params.vectors)
        config = wire.CollectionConfig(
            params=wire.CollectionParams(vectors_config=params, shard_number=1),
            hnsw_config=wire.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
            optimizer_config=wire.OptimizersConfigDiff(
                deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=1, flush_interval_sec=5
            ),
            wal_config=wire.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            metadata=RestToGrpc.convert_payload(held.config.metadata),
        )
        return wire.GetCollectionInfoResponse(
            result=wire.CollectionInfo(status=wire.CollectionStatus.Green, segments_count=1, config=config)
        )


def _filter(request: Any) -> models.Filter | None:
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


def _done() -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))


def _retrieved(point: Any) -> Any:
    vectors = {name: list(map(float, vector)) for name, vector in (point.vector or {}).items()}
    named = wire.NamedVectorsOutput(
        vectors={name: wire.VectorOutput(dense=wire.DenseVector(data=vector)) for name, vector in vectors.items()}
    )
    return wire.RetrievedPoint(
        id=wire.PointId(uuid=str(point.id)),
        payload=RestToGrpc.convert_payload(point.payload or {}),
        vectors=wire.VectorsOutput(vectors=named) if vectors else None,
    )


def _scored(point: Any) -> Any:
    payload = RestToGrpc.convert_payload(point.payload or {})
    return wire.ScoredPoint(id=wire.PointId(uuid=str(point.id)), score=point.score, payload=payload)


class _OneAtATime(grpc.ServerInterceptor):
    """The engine bears one thread; and a server that is away answers nobody."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server

    def intercept_service(self, continuation, details):
        handler = continuation(details)
        if handler is None:
            return None

        def answer(request: Any, context: Any) -> Any:
            if self._server.down:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is away")
            with self._server.lock:
                self._server.said.append(details.method.rpartition("/")[2])
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


@contextmanager
def engine_server() -> Iterator[tuple[EngineServer, dict[str, str]]]:
    """A running server, and the environment in which the commands find it."""
    servicer = EngineServer()
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[_OneAtATime(servicer)])
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(servicer, server)
    points_service_pb2_grpc.add_PointsServicer_to_server(servicer, server)
    qdrant_pb2_grpc.add_QdrantServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, {"QDRANT_URL": f"http://127.0.0.1:{port}", "QDRANT_GRPC_PORT": str(port)}
    finally:
        server.stop(None).wait()
