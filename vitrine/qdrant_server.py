"""What `vitrine.qdrant_edge` measures, through a Qdrant server: a collection of its own, gone afterwards."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrine.collection import Collection, write_collection
from vitrine.indexes import qdrant
from vitrine.ports import Condition, Vectors
from vitrine.progress import Track, quiet
from vitrine.qdrant_plan import EngineRun, Lists, Pass, QdrantSettings, payloads, run_pass

_POLL_S = 0.2
_SETTLED_S = 10.0


def measure(
    vectors: Vectors,
    queries: Vectors,
    passes: Sequence[Pass],
    settings: QdrantSettings | None = None,
    *,
    url: str = "",
    grpc_port: int = 6334,
    location: str = "",
    timeout_s: float = 1800,
    track: Track = quiet,
) -> EngineRun:
    """Upload unit vectors (N, D), ask unit queries (Q, D), drop the collection. Latency includes the network.

    Raises:
        Unavailable: the server cannot be reached or is not done in time.
    """
    wanted = settings or QdrantSettings()
    options = _options(wanted, timeout_s) | {"url": url, "grpc_port": grpc_port, "location": location}
    with tempfile.TemporaryDirectory(prefix="vitrine-qdrant-") as name:
        collection = _collection(Path(name) / "collection", vectors, passes)
        began = time.perf_counter()
        try:
            qdrant.build(collection, options)
            return _searched(collection, queries, passes, wanted, options, began, track)
        finally:
            qdrant.drop(collection, options)


def _options(settings: QdrantSettings, timeout_s: float) -> dict[str, Any]:
    return {
        "timeout_s": 60,
        "deadline_s": 5,  # what is measured is one attempt; a server that goes away ends the measurement
        "build_timeout_s": timeout_s,
        "hnsw": {
            "m": settings.m,
            "ef_construct": settings.ef_construct,
            "full_scan_threshold": settings.full_scan_threshold_kb,
            "max_indexing_threads": settings.threads,
            "on_disk": settings.on_disk,
        },
        "optimizers": {"indexing_threshold": settings.indexing_threshold_kb, "default_segment_number": 1},
        "quantization": settings.quantization,
        "rescore": settings.rescore,
        "oversampling": settings.oversampling,
        "on_disk": settings.on_disk,
    }


def _collection(folder: Path, vectors: Vectors, passes: Sequence[Pass]) -> Collection:
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
        payloads=payloads(len(ids), passes),
    )


def _searched(
    collection: Collection,
    queries: Vectors,
    passes: Sequence[Pass],
    settings: QdrantSettings,
    options: dict[str, Any],
    began: float,
    track: Track,
) -> EngineRun:
    index = qdrant.open(collection, options)
    try:
        indexed = 0 if options["location"] else await_graph(index, collection.info.count)  # local mode builds none
        build_seconds = time.perf_counter() - began
        lists = {}
        for one in passes:
            index.ef = settings.candidates(one)
            lists[one.name] = _search(index, queries, one, track)
        memory: dict[str, float | None] = {"rss_bytes_per_vector": None, "disk_bytes_per_vector": None}
        return EngineRun(lists, index.server(), indexed, build_seconds, memory)
    finally:
        index.close()


def await_graph(index: qdrant.QdrantIndex, count: int, settled_s: float = _SETTLED_S) -> int:
    """Wait until all `count` vectors are in the graph, or none was added for `settled_s`; returns how many are.

    A server that has just taken an upload reports that it is idle before its optimizer has begun.
    """
    indexed, since = index.indexed_vectors(), time.monotonic()
    while indexed < count and time.monotonic() - since < settled_s:
        time.sleep(_POLL_S)
        now = index.indexed_vectors()
        if now != indexed:
            indexed, since = now, time.monotonic()
    return indexed


def _search(index: qdrant.QdrantIndex, queries: Vectors, one: Pass, track: Track) -> Lists:
    def search(number: int) -> list[tuple[int, float]]:
        where = (Condition(one.field, any_of=(str(number % one.parts),)),) if one.parts > 1 else ()
        found = index.search(queries[number : number + 1], one.limit, where, exact=one.exact)[0]
        return [(int(hit.item_id), hit.score) for hit in found]

    return run_pass(search, len(queries), one.limit, time.perf_counter, track, f"searching Qdrant: {one.name}")
