"""A Qdrant server: one Qdrant collection for each of ours, one named vector called after the version.

Settings: `url` (or `location`: ":memory:" for tests), `api_key` (else QDRANT_API_KEY), `timeout_s` for one request,
`build_timeout_s` for the wait until the graph is ready, `ef` for searching, `hnsw` and `optimizers` as the
server's own settings of those names, `on_disk` for the vectors, `quantization` (`scalar`, `turbo` or `binary`) with
`rescore` and `oversampling`.
A version's vector name and the digests in the collection's metadata keep another version's queries out:
a wrong name is an error at the server, a wrong digest is refused when the index is opened.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from vitrine.collection import Collection
from vitrine.errors import Conflict, NotFound, Unavailable
from vitrine.indexes._checks import check_search, field_types, stored_vectors
from vitrine.indexes._qdrant_client import connect, release, speaking
from vitrine.ports import Condition, Filter, Hit, Vectors

_BATCH = 256
_POLL_S = 0.2
_ITEM_ID = "item_id"
_KEPT = ("model", "version", "digest", "vectors_sha256")


class QdrantIndex:
    """An open collection on a server."""

    def __init__(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        self._collection = collection
        self.collection = collection.info.name
        self._settings = settings
        self._client = connect(settings)
        self._types = field_types(collection.payloads)
        self.ef: int | None = settings.get("ef")
        self._vector = vector_name(collection)

    def search(self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False) -> list[list[Hit]]:
        """The K nearest items of each of Q unit vectors (Q, D), all queries in one round trip."""
        vectors = np.asarray(vectors, dtype=np.float32)
        check_search(vectors, self._collection.info.dim, k, where, self._types)
        if not len(vectors):
            return []
        params = models.SearchParams(
            exact=exact,
            hnsw_ef=None if exact else self.ef,
            quantization=_quantized_search(self._settings, exact),
        )
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                using=self._vector,
                limit=min(k, self._collection.info.count),
                filter=_filter(where),
                params=params,
                with_payload=True,
            )
            for vector in vectors
        ]
        with speaking(self._settings):
            answers = self._client.query_batch_points(self.collection, requests)
        return [_hits(answer.points) for answer in answers]

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors, from the collection's own file: the source of truth."""
        return stored_vectors(self._collection, item_ids)

    def count(self) -> int:
        """Points on the server, counted exactly."""
        with speaking(self._settings):
            return int(self._client.count(self.collection, exact=True).count)

    def indexed_vectors(self) -> int:
        """Vectors in the graph, by the server's approximate count; 0 where it has built none."""
        with speaking(self._settings):
            return int(self._client.get_collection(self.collection).indexed_vectors_count or 0)

    def server(self) -> str:
        """Name and version of what answers."""
        with speaking(self._settings):
            return f"qdrant {self._client.info().version}"

    def check(self) -> None:
        """Compare the server's collection with ours.

        Raises:
            NotFound: there is none, or an unfinished one.
            Conflict: it holds another embedding.
        """
        name, expected, info = self.collection, self._collection.info.count, self._collection.info
        again = f"vitrine promote {info.model}@{info.version} --catalogue {info.catalogue} --index qdrant"
        if not self._client.collection_exists(name):
            raise NotFound(f"Qdrant has no collection {name}; upload it: {again}")
        if not _same_vectors(self._client, self._collection):
            raise Conflict(f"Qdrant's {name} holds another embedding of the catalogue; upload this one: {again}")
        held = self.count()
        if held != expected:
            raise NotFound(f"Qdrant's {name} has {held} of {expected} items; finish it: {again}")

    def close(self) -> None:
        """Close the connection; the shared in-memory client of tests stays."""
        release(self._client, self._settings)


def build(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Upload every row and wait until the server has indexed them.

    Raises:
        Conflict: the server's collection of that name was embedded by other content.
        Unavailable: the server cannot be reached, reports an error or is not done in time.
    """
    client, name = connect(settings), collection.info.name
    try:
        with speaking(settings):
            if client.collection_exists(name) and not _same_vectors(client, collection):
                client.delete_collection(name)  # same version, catalogue embedded anew
            if not client.collection_exists(name):
                _create(client, collection, settings)
            if client.count(name, exact=True).count != collection.info.count:
                _upload(client, collection)
            _wait_until_ready(client, collection, float(settings.get("build_timeout_s", 600)))
    finally:
        release(client, settings)


def open(collection: Collection, settings: Mapping[str, Any]) -> QdrantIndex:  # noqa: A001 -- the port's name
    """Open a built collection.

    Raises:
        NotFound: the server has no such collection, or an unfinished one.
        Conflict: its metadata names other content.
        Unavailable: the server cannot be reached.
    """
    index = QdrantIndex(collection, settings)
    try:
        with speaking(settings):
            index.check()
    except Exception:
        index.close()
        raise
    return index


def drop(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Delete the collection on the server, if it is there."""
    client = connect(settings)
    try:
        with speaking(settings):
            if client.collection_exists(collection.info.name):
                client.delete_collection(collection.info.name)
    finally:
        release(client, settings)


def vector_name(collection: Collection) -> str:
    """`v7`: a query by another version's name is an error at the server, never a wrong answer."""
    return f"v{collection.info.version}"


# --- building -------------------------------------------------------------------------------------


def _metadata(collection: Collection) -> dict[str, Any]:
    return {key: getattr(collection.info, key) for key in _KEPT}


def _same_vectors(client: QdrantClient, collection: Collection) -> bool:
    """Whether the server's collection holds these very vectors; False if the catalogue was embedded anew.

    Raises:
        Conflict: it was embedded by other content under the same name.
    """
    config = client.get_collection(collection.info.name).config
    found = dict(getattr(config, "metadata", None) or {})
    info = collection.info
    if found.get("digest") != info.digest:
        raise Conflict(
            f"Qdrant's collection {info.name} was embedded by version content {str(found.get('digest'))[:12]}, "
            f"{info.model}@{info.version} is {info.digest[:12]}; delete that collection or use another server"
        )
    return found.get("vectors_sha256") == info.vectors_sha256


def _create(client: QdrantClient, collection: Collection, settings: Mapping[str, Any]) -> None:
    """Make the collection with its payload indexes; the graph takes them in only if they are there first."""
    name = collection.info.name
    client.create_collection(
        name,
        vectors_config={
            vector_name(collection): models.VectorParams(
                size=collection.info.dim, distance=models.Distance.DOT, on_disk=settings.get("on_disk")
            )
        },
        hnsw_config=models.HnswConfigDiff(**settings["hnsw"]) if "hnsw" in settings else None,
        optimizers_config=models.OptimizersConfigDiff(**settings["optimizers"]) if "optimizers" in settings else None,
        quantization_config=_quantization(settings),
        metadata=_metadata(collection),
    )
    kinds = {"text": models.PayloadSchemaType.KEYWORD, "number": models.PayloadSchemaType.FLOAT}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # local mode says that it ignores payload indexes
        for field, kind in {_ITEM_ID: "text", **field_types(collection.payloads)}.items():
            client.create_payload_index(name, field, field_schema=kinds[kind], wait=True)


def _quantization(settings: Mapping[str, Any]) -> models.QuantizationConfig | None:
    kind = settings.get("quantization", "none")
    if kind == "scalar":
        return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    if kind == "turbo":
        return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4))
    return models.BinaryQuantization(binary=models.BinaryQuantizationConfig()) if kind == "binary" else None


def _quantized_search(settings: Mapping[str, Any], exact: bool) -> models.QuantizationSearchParams | None:
    if settings.get("quantization", "none") == "none":
        return None
    return models.QuantizationSearchParams(
        ignore=exact, rescore=settings.get("rescore"), oversampling=settings.get("oversampling")
    )


def _upload(client: QdrantClient, collection: Collection) -> None:
    """Upsert every row under its row number; repeating it changes nothing."""
    for start in range(0, collection.info.count, _BATCH):
        stop = min(start + _BATCH, collection.info.count)
        points = [
            models.PointStruct(
                id=row,
                vector={vector_name(collection): collection.vectors[row].tolist()},
                payload={**collection.payloads[row], _ITEM_ID: collection.item_ids[row]},
            )
            for row in range(start, stop)
        ]
        client.upsert(collection.info.name, points, wait=True)


def _wait_until_ready(client: QdrantClient, collection: Collection, timeout_s: float) -> None:
    """Wait for a green status and the full count."""
    name, deadline = collection.info.name, time.monotonic() + timeout_s
    while True:
        status = client.get_collection(name).status
        if status == models.CollectionStatus.GREEN:
            break
        if status == models.CollectionStatus.RED:
            raise Unavailable(f"Qdrant reports an error on collection {name}; read the server's log, then try again")
        if status == models.CollectionStatus.GREY:  # optimisations wait for the next update after a restart
            client.update_collection(name, optimizers_config=models.OptimizersConfigDiff())
        if time.monotonic() > deadline:
            raise Unavailable(f"Qdrant has not finished indexing {name} after {timeout_s:.0f} s; run the command again")
        time.sleep(_POLL_S)
    held = client.count(name, exact=True).count
    if held != collection.info.count:
        raise Unavailable(
            f"Qdrant holds {held} of {collection.info.count} points of {name} after the upload; run the command again"
        )


# --- talking to the server --------------------------------------------------------------------------


def _filter(where: Filter) -> models.Filter | None:
    return models.Filter(must=[_condition(condition) for condition in where]) if where else None


def _condition(condition: Condition) -> models.FieldCondition:
    if condition.any_of:
        return models.FieldCondition(key=condition.field, match=models.MatchAny(any=list(condition.any_of)))
    return models.FieldCondition(key=condition.field, range=models.Range(gte=condition.low, lte=condition.high))


def _hits(points: Sequence[models.ScoredPoint]) -> list[Hit]:
    """By falling score, equal scores by row; the payload without the id it was stored with."""
    hits = []
    for point in sorted(points, key=lambda point: (-point.score, int(point.id))):
        payload = dict(point.payload or {})
        hits.append(Hit(str(payload.pop(_ITEM_ID)), float(point.score), payload))
    return hits
