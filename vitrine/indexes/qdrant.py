"""A Qdrant server: one Qdrant collection for each of ours, one named vector called after the version.

Settings: `url` (or `location`: ":memory:" for tests), `grpc_port` (else QDRANT_GRPC_PORT, else 6334), `api_key` (else
QDRANT_API_KEY), `timeout_s` for one attempt,
`deadline_s` for a call with its repeats, `build_timeout_s` for the wait until the graph is ready, `ef` for searching,
`hnsw` and `optimizers` as the server's own settings of those names, `on_disk` for the vectors, `quantization`
(`scalar`, `turbo` or `binary`) with `rescore` and `oversampling`. Servers from 1.16 on.
A version's vector name and the digests in the collection's metadata keep another version's queries out:
a wrong name is an error at the server, a wrong digest is refused when the index is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from vitrine.collection import Collection
from vitrine.errors import Conflict, NotFound
from vitrine.indexes._checks import check_search, field_types, newest, refuse_unknown
from vitrine.indexes._qdrant_build import fill, held, make_payload_indexes, points
from vitrine.indexes._qdrant_client import Server
from vitrine.indexes._qdrant_points import change, point_id, vector_name
from vitrine.indexes._qdrant_search import nearest
from vitrine.ports import Delta, Filter, Hit, Vectors

_BATCH = 256
_WRITE_TIMEOUT_S = 15


class QdrantIndex:
    """An open collection on a server. What it holds lies there, so every process sees the same changes."""

    def __init__(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        self._collection, self._info = collection, collection.info
        self.collection = collection.info.name
        self.ef: int | None = settings.get("ef")
        self._settings = settings
        self._server = Server(settings)
        self._types = field_types(collection.payloads)
        self._vector = vector_name(collection.info.version)

    def search(
        self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False, by_product: bool = False
    ) -> list[list[Hit]]:
        """The K nearest items or products of each of Q unit vectors (Q, D), all queries in one round trip at a time."""
        vectors = np.asarray(vectors, dtype=np.float32)
        check_search(vectors, self._info.dim, k, where, self._types)
        params = models.SearchParams(
            exact=exact,
            hnsw_ef=None if exact else self.ef,
            quantization=_quantized_search(self._settings, exact),
        )
        return nearest(self._ask, vectors, k, where, using=self._vector, params=params, by_product=by_product)

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors in the order asked for, from the server."""
        ids = {point_id(item_id): item_id for item_id in item_ids}
        found = [
            point for start in range(0, len(ids), _BATCH) for point in self._points([*ids][start : start + _BATCH])
        ]
        stored = {ids[str(point.id)]: point.vector[self._vector] for point in found if point.vector}
        refuse_unknown(item_ids, stored, self.collection)
        return np.array([stored[item_id] for item_id in item_ids], np.float32).reshape(-1, self._info.dim)

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Take changes in; the server skips those that an item is past."""
        changes = [delta for delta in newest(deltas, self._info.dim) if delta.seq > self._info.seq]
        types = field_types(delta.payload for delta in changes if delta.payload is not None)
        new = {field: kind for field, kind in types.items() if field not in self._types}
        make_payload_indexes(self._server, self.collection, new)
        for start in range(0, len(changes), _BATCH):
            self._write([change(delta, self._info.version) for delta in changes[start : start + _BATCH]])
        self._types = {**self._types, **new}

    def count(self) -> int:
        """Items on the server, counted exactly."""
        living = models.Filter(must=[models.HasVectorCondition(has_vector=self._vector)])
        return int(self._server.ask(lambda client: client.count(self.collection, living, exact=True)).count)

    def indexed_vectors(self) -> int:
        """Vectors in the graph, by the server's approximate count; 0 where it has built none."""
        return int(self._server.ask(lambda client: client.get_collection(self.collection)).indexed_vectors_count or 0)

    def server(self) -> str:
        """Name and version of what answers."""
        return f"qdrant {self._server.ask(lambda client: client.info()).version}"

    def check(self) -> None:
        """Compare the server's collection with ours.

        Raises:
            NotFound: there is none, or an unfinished one.
            Conflict: it holds another embedding, or that of other files.
        """
        info = self._info
        again = f"vitrine promote {info.model}@{info.version} --catalogue {info.catalogue} --index qdrant"
        if not self._server.ask(lambda client: client.collection_exists(info.name)):
            raise NotFound(f"Qdrant has no collection {info.name}; upload it: {again}")
        there = held(self._server, self._collection)
        if there.history != info.history:
            raise Conflict(f"Qdrant's {info.name} holds another embedding of the catalogue; upload this one: {again}")
        if there.file not in (None, info.vectors_sha256):
            raise Conflict(
                f"Qdrant's {info.name} was filled from other files of it; bring it up to date: vitrine index sync "
                f"{info.catalogue} --index qdrant"
            )
        count = points(self._server, info.name)
        if there.file is None or count < info.count:
            raise NotFound(f"Qdrant's {info.name} has {count} of {info.count} items; finish it: {again}")

    def close(self) -> None:
        """Close the connection; the shared in-memory client of tests stays."""
        self._server.close()

    def _points(self, ids: Sequence[str]) -> Sequence[Any]:
        name, vectors = self.collection, [self._vector]
        return self._server.ask(lambda client: client.retrieve(name, ids, with_payload=False, with_vectors=vectors))

    def _write(self, operations: Sequence[models.UpsertOperation]) -> None:
        self._server.ask(lambda client: client.batch_update_points(self.collection, operations, wait=True))

    def _ask(self, requests: list[models.QueryRequest]) -> Sequence[models.QueryResponse]:
        return self._server.ask(lambda client: client.query_batch_points(self.collection, requests))


def build(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Upload every row and wait until the server has indexed them; finishes what an interrupted call began.

    Raises:
        Conflict: the server's collection of that name was embedded by other content.
        Unavailable: the server cannot be reached, reports an error or is not done in time.
    """
    server = Server({"timeout_s": _WRITE_TIMEOUT_S, **settings})
    try:
        fill(server, collection, settings)
    finally:
        server.close()


def open(collection: Collection, settings: Mapping[str, Any]) -> QdrantIndex:  # noqa: A001 -- the port's name
    """Open a built collection.

    Raises:
        NotFound: the server has no such collection, or an unfinished one.
        Conflict: its metadata names other content.
        Unavailable: the server cannot be reached.
    """
    index = QdrantIndex(collection, settings)
    try:
        index.check()
    except Exception:
        index.close()
        raise
    return index


def publish(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Let the alias `CATALOGUE--MODEL` lead to this collection, for programs of other people; ours use concrete names.

    Raises:
        Unavailable: the server cannot be reached.
    """
    server, alias = Server(settings), f"{collection.info.catalogue}--{collection.info.model}"
    try:
        known = server.ask(lambda client: client.get_aliases()).aliases
        taken = any(known_alias.alias_name == alias for known_alias in known)
        gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        target = models.CreateAlias(collection_name=collection.info.name, alias_name=alias)
        made = models.CreateAliasOperation(create_alias=target)
        server.ask(lambda client: client.update_collection_aliases([gone, made] if taken else [made]))
    finally:
        server.close()


def forget(collection: Collection, item_ids: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Take items out without a trace, also what marks them as deleted.

    Raises:
        Unavailable: the server cannot be reached.
    """
    server, name = Server(settings), collection.info.name
    try:
        points_gone: list[Any] = [point_id(item_id) for item_id in item_ids]
        if server.ask(lambda client: client.collection_exists(name)):
            server.ask(lambda client: client.delete(name, points_gone))
    finally:
        server.close()


def drop(collection: Collection, settings: Mapping[str, Any]) -> None:
    """Delete the collection on the server, if it is there."""
    server, name = Server(settings), collection.info.name
    try:
        if server.ask(lambda client: client.collection_exists(name)):
            server.ask(lambda client: client.delete_collection(name))
    finally:
        server.close()


def _quantized_search(settings: Mapping[str, Any], exact: bool) -> models.QuantizationSearchParams | None:
    if settings.get("quantization", "none") == "none":
        return None
    return models.QuantizationSearchParams(
        ignore=exact, rescore=settings.get("rescore"), oversampling=settings.get("oversampling")
    )
