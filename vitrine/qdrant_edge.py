"""Qdrant's engine over a set of vectors, run in a process of its own: what does its graph cost in quality?

The engine holds the interpreter lock while it works and does not survive a fork, so the caller never
imports it: `measure` starts `python -m vitrine.qdrant_edge FOLDER`, which reads arrays from the folder and
writes arrays back. The folder and the engine's files are gone afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import Unavailable
from vitrine.files import write_json
from vitrine.ports import Vectors

NO_GRAPH = "no graph built"
EXACT_DEPTH = 11
"""Ten neighbours and the query itself."""

_NOT_INSTALLED = 86
_UPSERT = 256


@dataclass(frozen=True)
class GraphSettings:
    """HNSW settings. Both thresholds are in kilobytes; 1 makes the engine build a graph for tiny sets too.

    Attributes:
        m: links a point keeps.
        ef_construct: candidates looked at while building.
        ef: candidates looked at while searching, raised to the depth where that is larger.
        threads: threads that build; with one the graph is the same on every run.
    """

    m: int = 16
    ef_construct: int = 100
    ef: int = 128
    indexing_threshold_kb: int = 1
    full_scan_threshold_kb: int = 1
    threads: int = 1


@dataclass(frozen=True)
class EngineRun:
    """What the engine answered.

    Attributes:
        rows: int64 (Q, K), gallery rows by falling score through the graph, -1 past the last answer.
        scores: float32 (Q, K).
        exact_rows: int64 (Q, min(11, N)), the engine's own full scan.
        engine: name and version.
        graph: `hnsw`, or `no graph built` where the engine left the vectors unindexed.
        indexed_vectors: how many vectors the graph holds, by the engine's count.
        build_seconds: upload and graph.
        latency_ms: p50 and p95 of one query through the graph, on one thread.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    exact_rows: NDArray[np.int64]
    engine: str
    graph: str
    indexed_vectors: int
    build_seconds: float
    latency_ms: dict[str, float]


def measure(
    vectors: Vectors, queries: Vectors, depth: int, settings: GraphSettings | None = None, *, timeout_s: float = 1800
) -> EngineRun:
    """Index unit vectors (N, D) and search unit queries (Q, D) to `depth`, in a process of its own.

    Raises:
        Unavailable: the engine is not installed, failed, or took longer than `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="vitrine-edge-") as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", np.ascontiguousarray(vectors, dtype=np.float32))
        np.save(folder / "queries.npy", np.ascontiguousarray(queries, dtype=np.float32))
        write_json(folder / "settings.json", {**asdict(settings or GraphSettings()), "depth": depth})
        _run(folder, timeout_s)
        said = json.loads((folder / "result.json").read_text())
        arrays = {key: np.load(folder / f"{key}.npy", allow_pickle=False) for key in ("rows", "scores", "exact_rows")}
    return EngineRun(**arrays, **said)


def _run(folder: Path, timeout_s: float) -> None:
    command = [sys.executable, "-m", "vitrine.qdrant_edge", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"the embedded Qdrant engine did not finish within {timeout_s:.0f} s; "
            "measure fewer items, or set QDRANT_URL to a Qdrant server"
        ) from error
    if done.returncode == _NOT_INSTALLED:
        raise Unavailable(
            "the embedded Qdrant engine needs qdrant-edge-py, which is not installed; install the extra: "
            "pip install 'vitrine-embeddings[cpu]', set QDRANT_URL to a Qdrant server, or use --via exact"
        )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Unavailable(
            f"the embedded Qdrant engine failed (exit {done.returncode}): {said[-1] if said else 'it said nothing'}; "
            "set QDRANT_URL to a Qdrant server, or use --via exact"
        )


# --- below: the engine's own process ------------------------------------------------------------


def _serve(folder: Path) -> int:
    try:
        import qdrant_edge  # noqa: F401
    except ModuleNotFoundError:
        return _NOT_INSTALLED
    wanted = json.loads((folder / "settings.json").read_text())
    depth = wanted.pop("depth")
    settings = GraphSettings(**wanted)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    queries = np.load(folder / "queries.npy", allow_pickle=False)
    began = time.perf_counter()
    shard = _shard(folder / "shard", vectors, settings)
    build_seconds = time.perf_counter() - began
    indexed = int(shard.info().indexed_vectors_count)
    rows, scores, seconds = _search(shard, queries, min(depth, len(vectors)), max(settings.ef, depth), exact=False)
    exact_rows, _, _ = _search(shard, queries, min(EXACT_DEPTH, len(vectors)), None, exact=True)
    shard.close()
    for name, array in (("rows", rows), ("scores", scores), ("exact_rows", exact_rows)):
        np.save(folder / f"{name}.npy", array)
    result = {
        "engine": _engine_name(),
        "graph": "hnsw" if indexed else NO_GRAPH,
        "indexed_vectors": indexed,
        "build_seconds": build_seconds,
        "latency_ms": latency(seconds),
    }
    write_json(folder / "result.json", result)
    return 0


def _engine_name() -> str:
    from importlib.metadata import version

    return f"qdrant-edge {version('qdrant-edge-py')}"


def _shard(folder: Path, vectors: Vectors, settings: GraphSettings) -> Any:
    import qdrant_edge as edge

    folder.mkdir()
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=int(vectors.shape[1]), distance=edge.Distance.Dot),
        hnsw_config=edge.HnswIndexConfig(
            m=settings.m,
            ef_construct=settings.ef_construct,
            full_scan_threshold=settings.full_scan_threshold_kb,
            max_indexing_threads=settings.threads,
        ),
        optimizers=edge.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=settings.indexing_threshold_kb
        ),
        max_search_threads=1,
    )
    shard = edge.EdgeShard.create(str(folder), config)
    for start in range(0, len(vectors), _UPSERT):
        block = np.array(vectors[start : start + _UPSERT])
        points = [edge.Point(start + place, row) for place, row in enumerate(block)]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    return shard


def _search(
    shard: Any, queries: Vectors, limit: int, ef: int | None, *, exact: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32], list[float]]:
    """Rows (Q, limit), scores (Q, limit) and the seconds of each query."""
    import qdrant_edge as edge

    rows = np.full((len(queries), limit), -1, np.int64)
    scores = np.full((len(queries), limit), -np.inf, np.float32)
    params = edge.SearchParams(hnsw_ef=ef, exact=exact)
    seconds = []
    for number, query in enumerate(queries):
        request = edge.QueryRequest(limit=limit, query=edge.Query.Nearest(query), params=params)
        began = time.perf_counter()
        found = shard.query(request)
        seconds.append(time.perf_counter() - began)
        ranked = sorted((-point.score, point.id) for point in found)  # equal scores: lower row first
        rows[number, : len(ranked)] = [row for _, row in ranked]
        scores[number, : len(ranked)] = [-score for score, _ in ranked]
    return rows, scores, seconds


def latency(seconds: list[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds; zeros for no query."""
    if not seconds:
        return {"p50": 0.0, "p95": 0.0}
    p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


if __name__ == "__main__":
    sys.exit(_serve(Path(sys.argv[1])))
