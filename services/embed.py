"""Embed, Classify, Info: decode the message, ask the live snapshot, encode the answer."""

from __future__ import annotations

from services import codec
from services.snapshot import Live, Snapshot
from vitrine.encoder import pool_probabilities
from vitrine.errors import NotFound
from vitrine.v1 import embedding_pb2, embedding_pb2_grpc


class EmbeddingServicer(embedding_pb2_grpc.EmbeddingServicer):  # type: ignore[misc]
    """The Embedding service. HTTP calls the same methods, without a context."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def Embed(  # noqa: N802 -- the RPC's name
        self, request: embedding_pb2.EmbedRequest, context: object = None
    ) -> embedding_pb2.EmbedResponse:
        """Unit vectors (items, D)."""
        del context
        with self._live.lease() as service:
            _check_model(request.model, service.snapshot)
            vectors = await service.lanes.embed(codec.queries(request.items, service.snapshot))
            return embedding_pb2.EmbedResponse(
                version=codec.version_info(service.snapshot), embeddings=codec.tensor(vectors, request.dtype)
            )

    async def Classify(  # noqa: N802
        self, request: embedding_pb2.ClassifyRequest, context: object = None
    ) -> embedding_pb2.ClassifyResponse:
        """The best labels of each item."""
        del context
        with self._live.lease() as service:
            encoder = service.snapshot.encoder
            threshold = codec.abstain_below(request, service.snapshot)
            photos, counts = codec.photos(request.items, service.snapshot)
            logits = (await service.lanes.see(photos)).logits
            assert logits is not None  # a version with a label set has logits
            probabilities = pool_probabilities(encoder.probabilities(logits), counts)
            found = codec.classifications(probabilities, encoder.label_names, request.top_k, threshold)
            return embedding_pb2.ClassifyResponse(version=codec.version_info(service.snapshot), classifications=found)

    async def Info(  # noqa: N802
        self, request: embedding_pb2.InfoRequest, context: object = None
    ) -> embedding_pb2.InfoResponse:
        """Who answers now, and from which collection."""
        del request, context
        with self._live.lease() as service:
            snapshot = service.snapshot
            return embedding_pb2.InfoResponse(
                version=codec.version_info(snapshot), collection=snapshot.collection, items=snapshot.items
            )


def _check_model(wanted: str, snapshot: Snapshot) -> None:
    if wanted and wanted != snapshot.model:
        raise NotFound(f"this server serves {snapshot.name}, not {wanted!r}; ask the server of that model")
