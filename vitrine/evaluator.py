"""A registered version in, an evaluation out: what its embedding is worth, exactly and through Qdrant.

`exact` ranks the whole gallery and is the truth. `qdrant` searches the same vectors through Qdrant's graph
and says what that costs in quality. Every query keeps its own values, so that versions can be compared in pairs.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vitrine.ann import TOP, recall_at_10, search_qdrant, without_self
from vitrine.bundle import Bundle
from vitrine.classifiers import classify_queries
from vitrine.dataset import Dataset
from vitrine.embedding import EmbeddedDataset, health
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import BadInput
from vitrine.evaluation import Evaluation, Via, evaluation_to_json, write_evaluation
from vitrine.items import EvalProtocol, Item
from vitrine.metrics import ranking_metrics
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.qdrant_edge import GraphSettings
from vitrine.ranking import RankingResult, exact_metrics
from vitrine.stats import bootstrap_mean

__all__ = ["Evaluation", "evaluate", "evaluate_all", "evaluation_to_json", "write_evaluation"]

Floats = NDArray[np.float64]

MAX_DEPTH = 1000


@dataclass(frozen=True)
class _Task:
    """The queries and the gallery of one protocol, embedded, with the exact ranking."""

    dataset: Dataset
    protocol: EvalProtocol
    queries: list[Item]
    gallery: list[Item]
    query_vectors: Vectors
    gallery_vectors: Vectors
    query_keys: list[str]
    gallery_keys: list[str]
    exact: RankingResult
    seconds: float

    @property
    def unit_kind(self) -> str:
        """Photos of one product are no independent queries; without products, those of one class are not."""
        return "product_id" if all(item.product_id for item in self.queries) else "label"

    @property
    def units(self) -> list[str]:
        """The unit of each query."""
        return [str(getattr(item, self.unit_kind)) for item in self.queries]

    def own_rows(self) -> NDArray[np.int64]:
        """int64 (Q,): the gallery row of each query itself, -1 for none."""
        rows = {item.item_id: row for row, item in enumerate(self.gallery)}
        return np.array([rows.get(item.item_id, -1) for item in self.queries], np.int64)


def evaluate(
    encoder: Encoder,
    dataset: Dataset,
    protocol: str | None = None,
    via: Via = "exact",
    *,
    embedded: EmbeddedDataset | None = None,
    qdrant_url: str | None = None,
    settings: GraphSettings | None = None,
    track: Track = quiet,
) -> Evaluation:
    """Measure one version under one protocol.

    Args:
        encoder: the loaded version.
        dataset: what it is measured on.
        via: `exact` or `qdrant`.
        protocol: by name; the dataset's default without.
        embedded: what was embedded already, to be shared by several calls.
        qdrant_url: a server for `via="qdrant"`; by default QDRANT_URL, without it the embedded engine.
        settings: of Qdrant's graph.
        track: progress.

    Raises:
        BadInput: unknown protocol or `via`, no items on one side, or no query has anything to find.
        Unavailable: Qdrant cannot be reached or is not installed.
    """
    if via not in ("exact", "qdrant"):
        raise BadInput(f"via {via!r} is none of exact, qdrant", field="via")
    embedded = embedded or EmbeddedDataset(encoder, dataset, track=track)
    task = _task(embedded, dataset.protocol(protocol), track)
    if via == "exact":
        return _evaluate_exact(task, embedded)
    url = os.environ.get("QDRANT_URL", "") if qdrant_url is None else qdrant_url
    return _evaluate_qdrant(task, url, settings or GraphSettings(), track)


def evaluate_all(
    bundle: Bundle, dataset: Dataset, *, threads: int = 2, qdrant_url: str | None = None, track: Track = quiet
) -> dict[str, Evaluation]:
    """Every evaluation of a version on a dataset, each item embedded once; nothing is written.

    Returns:
        `exact` (default protocol), `exact--PROTOCOL` (each other one), `qdrant` (default protocol).
    """
    encoder = load_encoder(bundle, threads=threads)
    embedded = EmbeddedDataset(encoder, dataset, track=track)
    found = {}
    for number, protocol in enumerate(dataset.protocols):
        stem = "exact" if number == 0 else f"exact--{protocol.name}"
        found[stem] = evaluate(encoder, dataset, protocol.name, "exact", embedded=embedded, track=track)
    found["qdrant"] = evaluate(encoder, dataset, None, "qdrant", embedded=embedded, qdrant_url=qdrant_url, track=track)
    return found


def _task(embedded: EmbeddedDataset, protocol: EvalProtocol, track: Track) -> _Task:
    dataset = embedded.dataset
    queries, gallery = dataset.split(*protocol.query), dataset.split(*protocol.gallery)
    if not queries or not gallery:
        raise BadInput(
            f"protocol {protocol.name} of dataset {dataset.name} has {len(queries)} queries and {len(gallery)} gallery "
            "items, both are needed; see: vitrine data check"
        )
    query_vectors, gallery_vectors = embedded.vectors(queries), embedded.vectors(gallery)
    query_keys = [_relevance_key(item, protocol) for item in queries]
    gallery_keys = [_relevance_key(item, protocol) for item in gallery]
    began = time.perf_counter()
    exact = exact_metrics(
        query_vectors,
        gallery_vectors,
        [item.item_id for item in queries],
        [item.item_id for item in gallery],
        query_keys,
        gallery_keys,
        track=track,
    )
    if not (exact.n_relevant > 0).any():
        raise BadInput(
            f"no query of protocol {protocol.name} of dataset {dataset.name} has a {protocol.relevance} in common with "
            "another gallery item: there is nothing to find; see: vitrine data check"
        )
    seconds = time.perf_counter() - began
    return _Task(
        dataset, protocol, queries, gallery, query_vectors, gallery_vectors, query_keys, gallery_keys, exact, seconds
    )


def _relevance_key(item: Item, protocol: EvalProtocol) -> str:
    """What makes items relevant to each other; an item of unknown product is relevant to none."""
    if protocol.relevance == "label":
        return item.label
    return f"product {item.product_id}" if item.product_id else f"unknown product of {item.item_id}"


def _evaluate_exact(task: _Task, embedded: EmbeddedDataset) -> Evaluation:
    classified = classify_queries(embedded, task.protocol, task.queries)
    correct = {f"{name}_correct": score.correct for name, score in classified.scores.items()}
    everything = {item.item_id: item for item in [*task.queries, *task.gallery]}
    items = [everything[item_id] for item_id in sorted(everything)]
    details: dict[str, Any] = {
        "health": health(embedded.vectors(items), items),
        "classification": classified.said,
        "engine": f"{embedded.encoder.engine.name} {embedded.encoder.engine.precision}",
        "timing": {
            "embed_seconds": embedded.seconds,
            "photos": embedded.photos,
            "rank_seconds": task.seconds,
        },
    }
    found = _evaluation(task, "exact", task.exact.metrics, task.exact.top_rows, details, correct)
    for name, score in classified.scores.items():
        found.metrics.update(score.named(name))
        found.intervals[f"{name}/accuracy"] = bootstrap_mean(
            score.correct.astype(np.float64), task.units, unit=task.unit_kind
        )
    return found


def _evaluate_qdrant(task: _Task, url: str, settings: GraphSettings, track: Track) -> Evaluation:
    deepest = max(50, int(task.exact.n_relevant.max()) + 1)
    depth = min(len(task.gallery), deepest, MAX_DEPTH)
    asked = min(len(task.gallery), depth + 1)  # one more, for the query itself
    run = search_qdrant(task.gallery_vectors, task.query_vectors, asked, settings, url, track)
    rows = without_self(run.rows, task.own_rows(), depth)
    keys = np.array(task.gallery_keys, dtype=object)
    relevant = (keys[rows] == np.array(task.query_keys, dtype=object)[:, None]) & (rows >= 0)
    columns = ranking_metrics(relevant.astype(bool), task.exact.n_relevant, full=False)
    truth = (task.exact, task.gallery_vectors, task.query_vectors)
    details: dict[str, Any] = {
        "engine": run.engine,
        "graph": run.graph,
        "indexed_vectors": run.indexed_vectors,
        "hnsw": asdict(settings),
        "depth": depth,
        "recall_against_exact@10": recall_at_10(rows, *truth),
        "engine_exact_recall@10": recall_at_10(without_self(run.exact_rows, task.own_rows(), TOP), *truth),
        "ann_loss": {
            name: float(np.nanmean(task.exact.metrics[name]) - np.nanmean(values)) for name, values in columns.items()
        },
        "timing": {"build_seconds": run.build_seconds, "latency_ms": run.latency_ms},
    }
    return _evaluation(task, "qdrant", columns, rows[:, :TOP], details, {})


def _evaluation(
    task: _Task,
    via: Via,
    columns: dict[str, Floats],
    top_rows: NDArray[np.int64],
    details: dict[str, Any],
    extra: dict[str, NDArray[np.bool_]],
) -> Evaluation:
    units = task.units
    ids = [item.item_id for item in task.gallery]
    table = pa.table(
        {
            "query_id": [item.item_id for item in task.queries],
            "unit": units,
            "unit_kind": [task.unit_kind] * len(units),
            "label": [item.label for item in task.queries],
            "hits": pa.array([[ids[row] for row in found if row >= 0] for found in top_rows], pa.list_(pa.string())),
            **columns,
            **extra,
        }
    )
    intervals = {name: bootstrap_mean(values, units, unit=task.unit_kind) for name, values in columns.items()}
    return Evaluation(
        dataset=task.dataset.name,
        dataset_digest=task.dataset.digest,
        protocol=task.protocol.name,
        via=via,
        metrics={name: interval.value for name, interval in intervals.items()},
        queries=len(task.queries),
        gallery=len(task.gallery),
        per_query=table,
        details=details,
        intervals=intervals,
        skipped=int((task.exact.n_relevant == 0).sum()),
        unit=task.unit_kind,
        units=len(set(units)),
    )
