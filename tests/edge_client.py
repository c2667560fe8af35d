"""Qdrant's own engine behind the client's methods: what a server would do with our requests, without a server.

The engine is the one that servers run, so conditional writes, points without a vector, filters and payload indexes are
its own; collections, aliases and metadata are kept here. It holds the interpreter lock and lets one process open a
folder, so it stays in the tests.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

_MEMORY = Path("/dev/shm")  # the engine syncs its log to disk


@dataclass
class _Collection:
    vectors: dict[str, models.VectorParams]
    metadata: dict[str, Any]
    shard: Any
    folder: tempfile.TemporaryDirectory = field(repr=False)


class EdgeClient:
    """The methods of `QdrantClient` that our index calls."""

    def __init__(self) -> None:
        self._held: dict[str, _Collection] = {}
        self._aliases: dict[str, str] = {}

    def collection_exists(self, name):
        return name in self._held

    def create_collection(self, name, vectors_config, metadata, **_):
        folder = tempfile.TemporaryDirectory(prefix="vitrine-edge-", dir=_MEMORY if _MEMORY.is_dir() else None)
        params = {
            key: edge.EdgeVectorParams(size=one.size, distance=edge.Distance.Dot) for key, one in vectors_config.items()
        }
        shard = edge.EdgeShard.create(folder.name, edge.EdgeConfig(vectors=params, max_search_threads=1))
        self._held[name] = _Collection(vectors_config, dict(metadata), shard, folder)

    def update_collection(self, name, metadata=None, **_):
        self._held[name].metadata |= metadata or {}

    def get_collection(self, name):
        held = self._held[name]
        config = SimpleNamespace(metadata=held.metadata, params=SimpleNamespace(vectors=held.vectors))
        indexed = held.shard.info().indexed_vectors_count
        return SimpleNamespace(config=config, status=models.CollectionStatus.GREEN, indexed_vectors_count=indexed)

    def delete_collection(self, name):
        held = self._held.pop(name)
        held.shard.close()
        held.folder.cleanup()

    def get_aliases(self):
        return SimpleNamespace(aliases=[SimpleNamespace(alias_name=name) for name in self._aliases])

    def update_collection_aliases(self, operations):
        for one in operations:
            if isinstance(one, models.DeleteAliasOperation):
                del self._aliases[one.delete_alias.alias_name]
            else:
                self._aliases[one.create_alias.alias_name] = one.create_alias.collection_name

    def create_payload_index(self, name, field_name, field_schema, wait):
        kind = getattr(edge.PayloadSchemaType, field_schema.value.capitalize())
        self._shard(name).update(edge.UpdateOperation.create_field_index(field_name, kind))

    def upsert(self, name, points, update_filter=None, wait=True):
        made = [edge.Point(point.id, _vectors(point.vector), point.payload) for point in points]
        self._shard(name).update(edge.UpdateOperation.upsert_points(made, _filter(update_filter)))

    def batch_update_points(self, name, operations, wait):
        for one in operations:
            self.upsert(name, one.upsert.points, one.upsert.update_filter)

    def delete(self, name, selector):
        if isinstance(selector, models.FilterSelector):
            self._shard(name).update(edge.UpdateOperation.delete_points_by_filter(_filter(selector.filter)))
        else:
            self._shard(name).update(edge.UpdateOperation.delete_points(selector))

    def count(self, name, count_filter=None, exact=True):
        return SimpleNamespace(
            count=self._shard(name).count(edge.CountRequest(exact=exact, filter=_filter(count_filter)))
        )

    def retrieve(self, name, ids, with_payload=True, with_vectors=False):
        found = self._shard(name).retrieve(ids, with_payload, with_vectors)
        return [SimpleNamespace(id=str(one.id), payload=one.payload, vector=one.vector) for one in found]

    def query_batch_points(self, name, requests):
        return [SimpleNamespace(points=self._query(name, request)) for request in requests]

    def info(self):
        return SimpleNamespace(version="edge")

    def _query(self, name, request):
        params = edge.SearchParams(hnsw_ef=request.params.hnsw_ef, exact=request.params.exact)
        nearest = edge.Query.Nearest(np.array(request.query, np.float32), using=request.using)
        found = self._shard(name).query(
            edge.QueryRequest(
                limit=request.limit,
                query=nearest,
                filter=_filter(request.filter),
                params=params,
                with_payload=request.with_payload,
            )
        )
        return [SimpleNamespace(id=str(one.id), score=one.score, payload=one.payload) for one in found]

    def _shard(self, name):
        return self._held[self._aliases.get(name, name)].shard


def _vectors(vectors):
    return {name: np.array(vector, np.float32) for name, vector in vectors.items()}


def _filter(wanted):
    if wanted is None:
        return None
    return edge.Filter(must=_conditions(wanted.must), must_not=_conditions(wanted.must_not))


def _conditions(conditions):
    return [_condition(one) for one in conditions] if conditions else None


def _condition(one):
    if isinstance(one, models.HasVectorCondition):
        return edge.HasVectorCondition(one.has_vector)
    if one.range is not None:
        ends = {name: getattr(one.range, name) for name in ("gte", "gt", "lte", "lt")}
        return edge.FieldCondition(key=one.key, range=edge.RangeFloat(**ends))
    match = one.match
    if isinstance(match, models.MatchAny):
        return edge.FieldCondition(key=one.key, match=edge.MatchAny(match.any))
    return edge.FieldCondition(key=one.key, match=edge.MatchValue(match.value))
