"""What Qdrant is asked for and what it answers: the same for the embedded engine and for a server.

A driver (`vitrine.qdrant_edge.measure`, `vitrine.qdrant_server.measure`) indexes N unit vectors and then runs passes:
every query, one call each, through the graph or by full scan, over everything or over a part of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet

Rows = NDArray[np.int64]
Quantization = Literal["none", "scalar", "turbo", "binary"]

NO_GRAPH = "none built"
WARM_UP = 10
"""Queries asked before the clock runs."""


@dataclass(frozen=True)
class Pass:
    """Every query once.

    Attributes:
        name: key of its answers.
        limit: longest list.
        exact: full scan of the full vectors instead of the graph.
        parts: a filter leaves one row in so many: query q searches the rows whose number in `parts_of` is q modulo
            `parts`; 1 for no filter.
    """

    name: str
    limit: int
    exact: bool = False
    parts: int = 1

    @property
    def field(self) -> str:
        """The payload field that is filtered on."""
        return f"one_in_{self.parts}"


@dataclass(frozen=True)
class QdrantSettings:
    """How Qdrant indexes and searches.

    Attributes:
        m: links a point keeps.
        ef_construct: candidates looked at while building.
        ef: candidates looked at while searching, raised to a list's length where that is larger.
        quantization: `none`, `scalar` (int8), `turbo` (4 bit) or `binary`.
        rescore: order quantised candidates by the full vectors.
        oversampling: so many times the list's length is fetched before rescoring.
        on_disk: vectors and graph are mapped from disk instead of held in memory.
        indexing_threshold_kb: smaller sets get no graph; 1 makes the engine build one for tiny sets too.
        full_scan_threshold_kb: a filter that leaves less is scanned; 1 sends filtered queries through the graph too.
        threads: threads that build. The engine draws a graph's levels without a seed: two builds differ a little.

    Raises:
        BadInput: a value out of range.
    """

    m: int = 16
    ef_construct: int = 100
    ef: int = 128
    quantization: Quantization = "none"
    rescore: bool = True
    oversampling: float = 2.0
    on_disk: bool = False
    indexing_threshold_kb: int = 1
    full_scan_threshold_kb: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        least = {"m": 2, "ef_construct": 4, "ef": 1, "oversampling": 1, "indexing_threshold_kb": 1, "threads": 1}
        for name, low in {**least, "full_scan_threshold_kb": 1}.items():
            if getattr(self, name) < low:
                raise BadInput(f"{name} of Qdrant is {getattr(self, name)}; give {low} or more", field=name)
        if self.quantization not in get_args(Quantization):
            known = ", ".join(get_args(Quantization))
            raise BadInput(f"no quantization {self.quantization!r}, only: {known}", field="quantization")

    def candidates(self, one: Pass) -> int:
        """How many the graph search looks at: Qdrant needs as many as the list is long."""
        return max(self.ef, one.limit)


@dataclass(frozen=True)
class Lists:
    """The answers of a pass.

    Attributes:
        rows: int64 (Q, K), gallery rows by falling score, equal scores by row; -1 past the last answer.
        scores: float32 (Q, K), by the engine; -inf where the row is -1.
        latency_ms: p50, p95 and p99 of one query.
    """

    rows: Rows
    scores: Vectors
    latency_ms: dict[str, float]


@dataclass(frozen=True)
class EngineRun:
    """What Qdrant answered.

    Attributes:
        lists: by the name of the pass.
        engine: name and version.
        indexed_vectors: how many vectors the graph holds, by the engine's count.
        build_seconds: upload, graph and payload indexes.
        memory: `rss_bytes_per_vector` (growth of the engine's process while building, an upper bound) and
            `disk_bytes_per_vector`; None where it cannot be seen from here.
    """

    lists: dict[str, Lists]
    engine: str
    indexed_vectors: int
    build_seconds: float
    memory: dict[str, float | None]

    @property
    def graph(self) -> str:
        """`hnsw`, or `none built` where the engine left the vectors unindexed and scanned them."""
        return "hnsw" if self.indexed_vectors else NO_GRAPH


def parts_of(count: int, seed: int = 0) -> Rows:
    """A number for each of `count` rows, int64 (N,), drawn without regard to the row: modulo P it deals even parts."""
    return np.random.default_rng(seed).permutation(count).astype(np.int64)


def payloads(count: int, passes: Sequence[Pass]) -> list[dict[str, Any]]:
    """Each row's fields that the passes filter on."""
    filtered = [one for one in passes if one.parts > 1]
    return [{one.field: str(number % one.parts) for one in filtered} for number in parts_of(count).tolist()]


def run_pass(
    search: Callable[[int], Sequence[tuple[int, float]]],
    queries: int,
    limit: int,
    clock: Callable[[], float],
    track: Track = quiet,
    what: str = "",
) -> Lists:
    """Ask every query, `search(number) -> (row, score) pairs`, and time each call once the engine is warm."""
    rows = np.full((queries, limit), -1, np.int64)
    scores = np.full((queries, limit), -np.inf, np.float32)
    seconds = np.zeros(queries)
    for number in range(min(WARM_UP, queries)):
        search(number)
    for number in track(range(queries), what, queries):
        began = clock()
        found = search(number)
        seconds[number] = clock() - began
        ranked = sorted((-score, row) for row, score in found)
        rows[number, : len(ranked)] = [row for _, row in ranked]
        scores[number, : len(ranked)] = [-score for score, _ in ranked]
    return Lists(rows, scores, latency(seconds))


def latency(seconds: NDArray[np.float64]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds; zeros for no query."""
    shares = (50, 95, 99)
    values = np.percentile(seconds * 1000, shares) if len(seconds) else np.zeros(len(shares))
    return {f"p{share}": float(value) for share, value in zip(shares, values, strict=True)}
