"""What `vitrine.qdrant_edge` measures, through a Qdrant server: a collection of its own, gone afterwards."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.collection import Collection, write_collection
from vitrine.indexes import qdrant
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.qdrant_edge import EXACT_DEPTH, NO_GRAPH, EngineRun, GraphSettings, latency


def measure(
    vectors: Vectors,
    queries: Vectors,
    depth: int,
    graph: GraphSettings | None = None,
    *,
    url: str = "",
    location: str = "",
    timeout_s: float = 1800,
    track: Track = quiet,
) -> EngineRun:
    """Upload unit vectors (N, D), search unit queries (Q, D) to `depth` through the graph, drop the collection.

    Latency includes the network.

    Raises:
        Unavailable: the server cannot be reached or is not done in time.
    """
    graph = graph or GraphSettings()
    settings = _settings(graph, url, location, depth, timeout_s)
    with tempfile.TemporaryDirectory(prefix="vitrine-qdrant-") as name:
        collection = _collection(Path(name) / "collection", vectors)
        began = time.perf_counter()
        try:
            qdrant.build(collection, settings)
            build_seconds = time.perf_counter() - began
            return _searched(collection, queries, min(depth, len(vectors)), settings, build_seconds, track)
        finally:
            qdrant.drop(collection, settings)


def _settings(graph: GraphSettings, url: str, location: str, depth: int, timeout_s: float) -> dict[str, Any]:
    return {
        "url": url,
        "location": location,
        "timeout_s": 60,
        "build_timeout_s": timeout_s,
        "ef": max(graph.ef, depth),
        "hnsw": {
            "m": graph.m,
            "ef_construct": graph.ef_construct,
            "full_scan_threshold": graph.full_scan_threshold_kb,
            "max_indexing_threads": graph.threads,
        },
        "optimizers": {"indexing_threshold": graph.indexing_threshold_kb, "default_segment_number": 1},
    }


def _collection(folder: Path, vectors: Vectors) -> Collection:
    ids = [f"{row:012d}" for row in range(len(vectors))]  # sorted by item id is sorted by row
    return write_collection(
        folder,
        name=f"vitrine-evaluation-{secrets.token_hex(6)}",
        catalogue="evaluation",
        catalogue_digest="",
        model="evaluation",
        version=1,
        digest="evaluation",
        vectors=vectors,
        item_ids=ids,
        payloads=[{}] * len(ids),
    )


def _searched(
    collection: Collection, queries: Vectors, depth: int, settings: dict[str, Any], build_seconds: float, track: Track
) -> EngineRun:
    index = qdrant.open(collection, settings)
    try:
        indexed = index.indexed_vectors()
        rows, scores, seconds = _search(index, queries, depth, track, exact=False)
        exact_rows, _, _ = _search(index, queries, min(EXACT_DEPTH, collection.info.count), track, exact=True)
        return EngineRun(
            rows=rows,
            scores=scores,
            exact_rows=exact_rows,
            engine=index.server(),
            graph="hnsw" if indexed else NO_GRAPH,
            indexed_vectors=indexed,
            build_seconds=build_seconds,
            latency_ms=latency(seconds),
        )
    finally:
        index.close()


def _search(
    index: qdrant.QdrantIndex, queries: Vectors, depth: int, track: Track, *, exact: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32], list[float]]:
    rows = np.full((len(queries), depth), -1, np.int64)
    scores = np.full((len(queries), depth), -np.inf, np.float32)
    seconds = []
    what = "searching Qdrant exactly" if exact else "searching Qdrant's graph"
    for number, query in enumerate(track(queries, what, len(queries))):
        began = time.perf_counter()
        found = index.search(query[None], depth, exact=exact)[0]
        seconds.append(time.perf_counter() - began)
        rows[number, : len(found)] = [int(hit.item_id) for hit in found]
        scores[number, : len(found)] = [hit.score for hit in found]
    return rows, scores, seconds
