"""The embedded engine's own process: `python -m vitrine.qdrant_edge_process FOLDER`; see `vitrine.qdrant_edge`."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrine.files import write_json
from vitrine.ports import Vectors
from vitrine.qdrant_edge import NOT_INSTALLED
from vitrine.qdrant_plan import Lists, Pass, QdrantSettings, payloads, run_pass

_UPSERT = 256


def main(folder: Path) -> int:
    """Build, search, write the answers; the exit status is the process's own."""
    try:
        import qdrant_edge  # noqa: F401
    except ModuleNotFoundError:
        return NOT_INSTALLED
    wanted = json.loads((folder / "wanted.json").read_text())
    signal.alarm(math.ceil(wanted["timeout_s"]) + 1)  # by the kernel: ends even an engine whose caller was killed
    settings, passes = QdrantSettings(**wanted["settings"]), [Pass(**one) for one in wanted["passes"]]
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    queries = np.load(folder / "queries.npy", allow_pickle=False)
    before, began = _resident_bytes(), time.perf_counter()
    shard = _shard(folder / "shard", vectors, settings, passes)
    said: dict[str, Any] = {
        "engine": _engine_name(),
        "indexed_vectors": int(shard.info().indexed_vectors_count),
        "build_seconds": time.perf_counter() - began,
        "memory": _memory(folder / "shard", before, len(vectors)),
        "latency_ms": {},
    }
    for one in passes:
        found = _search(shard, queries, one, settings)
        np.save(folder / f"{one.name}.rows.npy", found.rows)
        np.save(folder / f"{one.name}.scores.npy", found.scores)
        said["latency_ms"][one.name] = found.latency_ms
        _step()
    shard.close()
    write_json(folder / "said.json", said)
    return 0


def _step() -> None:
    """Tell the caller that a step is done."""
    print(flush=True)


def _engine_name() -> str:
    from importlib.metadata import version

    return f"qdrant-edge {version('qdrant-edge-py')}"


def _shard(folder: Path, vectors: Vectors, settings: QdrantSettings, passes: Sequence[Pass]) -> Any:
    """A shard with a graph. Payload indexes come first: a graph built before them loses filtered answers."""
    import qdrant_edge as edge

    folder.mkdir()
    shard = edge.EdgeShard.create(str(folder), _config(int(vectors.shape[1]), settings))
    for one in passes:
        if one.parts > 1:
            shard.update(edge.UpdateOperation.create_field_index(one.field, edge.PayloadSchemaType.Keyword))
    fields = payloads(len(vectors), passes)
    for start in range(0, len(vectors), _UPSERT):
        block = np.array(vectors[start : start + _UPSERT])
        points = [edge.Point(start + place, row, fields[start + place]) for place, row in enumerate(block)]
        shard.update(edge.UpdateOperation.upsert_points(points))
    _step()
    shard.optimize()
    shard.flush()
    _step()
    return shard


def _config(dim: int, settings: QdrantSettings) -> Any:
    import qdrant_edge as edge

    place = edge.Memory.Cold if settings.on_disk else None
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dim, distance=edge.Distance.Dot, memory=place),
        hnsw_config=edge.HnswIndexConfig(
            m=settings.m,
            ef_construct=settings.ef_construct,
            full_scan_threshold=settings.full_scan_threshold_kb,
            max_indexing_threads=settings.threads,
            memory=place,
        ),
        quantization_config=_quantization(settings),
        optimizers=edge.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=settings.indexing_threshold_kb
        ),
        max_search_threads=1,
    )


def _quantization(settings: QdrantSettings) -> Any:
    import qdrant_edge as edge

    if settings.quantization == "scalar":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8)
    if settings.quantization == "turbo":
        return edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4)
    return edge.BinaryQuantizationConfig() if settings.quantization == "binary" else None


def _search(shard: Any, queries: Vectors, one: Pass, settings: QdrantSettings) -> Lists:
    import qdrant_edge as edge

    quantized = edge.QuantizationSearchParams(
        ignore=one.exact, rescore=settings.rescore, oversampling=settings.oversampling
    )
    params = edge.SearchParams(
        hnsw_ef=None if one.exact else settings.candidates(one),
        exact=one.exact,
        quantization=None if settings.quantization == "none" else quantized,
    )
    requests = [
        edge.QueryRequest(
            limit=one.limit, query=edge.Query.Nearest(query), params=params, filter=_filter(one, number % one.parts)
        )
        for number, query in enumerate(queries)
    ]
    return run_pass(
        lambda number: [(point.id, point.score) for point in shard.query(requests[number])],
        len(queries),
        one.limit,
        time.perf_counter,
    )


def _filter(one: Pass, part: int) -> Any:
    import qdrant_edge as edge

    if one.parts == 1:
        return None
    return edge.Filter(must=[edge.FieldCondition(key=one.field, match=edge.MatchValue(str(part)))])


def _memory(folder: Path, before: int | None, count: int) -> dict[str, float | None]:
    after = _resident_bytes()
    taken = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())  # not a log's empty pages
    return {
        "rss_bytes_per_vector": None if before is None or after is None else max(0, after - before) / count,
        "disk_bytes_per_vector": taken / count,
    }


def _resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not say."""
    import resource

    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
