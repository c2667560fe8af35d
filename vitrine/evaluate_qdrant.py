"""A protocol through Qdrant: every metric again, and what the graph loses of exact search, with intervals.

Three kinds of passes (`vitrine.qdrant_plan.Pass`). `top` asks for the ten nearest, as a shop's search does: metrics
of at most ten ranks, recall and latency come from it. `deep` asks for long lists, for which Qdrant looks at as many
candidates as a list is long: metrics of more ranks come from it. `exact` is the engine's own full scan: it must give
the exact metrics, or vectors were lost on the way. `top` runs again behind filters that leave 10 % and 1 % of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.ann import TOP, Truth, most_excluded, recall_at_10, search_qdrant, truth_in_parts, without_excluded
from vitrine.metric_definitions import GRADED_DEPTH
from vitrine.metrics import METRICS, ranking_metrics
from vitrine.progress import Track
from vitrine.qdrant_plan import EngineRun, Pass, QdrantSettings
from vitrine.retrieval import Retrieval
from vitrine.stats import Interval, bootstrap_mean, bootstrap_means

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_DEPTH = 1000
"""Longest lists. Galleries up to this size are asked for as a whole, so that no metric is left out."""
PARTS = (10, 100)
TIES = 10
"""Answers asked for beyond a list's end, so that equal scores there are decided by row, not by the engine."""
LEAST_ROWS = 20
"""A filter that leaves fewer rows says nothing about a graph."""


@dataclass(frozen=True)
class Through:
    """What went through Qdrant.

    Attributes:
        metrics: name -> float64 (Q,).
        top_rows: int64 (Q, 10), gallery rows, -1 past the last answer.
        details: everything else; durations and memory under `timing`.
    """

    metrics: dict[str, Floats]
    top_rows: Rows
    details: dict[str, Any]


def evaluate_through(task: Retrieval, url: str, settings: QdrantSettings, track: Track) -> Through:
    """Search the task's vectors through the server at `url`, or through the embedded engine where it is empty.

    Raises:
        Unavailable: Qdrant cannot be reached, is not installed or does not finish.
    """
    depth, excluded = _depth(task), task.excluded()
    passes = _passes(len(task.gallery), depth, most_excluded(excluded))
    run = search_qdrant(task.gallery_vectors, task.query_vectors, passes, settings, url, track)
    lists = {
        one.name: without_excluded(run.lists[one.name].rows, excluded, depth if one.name in _LONG else TOP)
        for one in passes
    }
    metrics = _every_metric(task, lists)
    recall = recall_at_10(lists["top"], task.exact.top_rows, task.gallery_vectors, task.query_vectors)
    details = {
        "engine": run.engine,
        "graph": run.graph,
        "indexed_vectors": run.indexed_vectors,
        "settings": asdict(settings),
        "ef_used": {one.name: settings.candidates(one) for one in passes if not one.exact},
        "depth": depth,
        **_recall(task, recall),
        **_losses(task, task.exact.metrics, metrics),
        "engine_exact": _full_scan(task, lists["exact"]),
        "filtered": [_filtered(task, lists, parts) for parts in PARTS],
        "timing": _timing(run),
    }
    return Through(metrics, lists["top"], details)


# --- what is asked --------------------------------------------------------------------------------

_LONG = ("deep", "exact")


def _depth(task: Retrieval) -> int:
    """Ranks that are asked for: all of a small gallery, else past the last relevant item of every query, within reason."""
    if len(task.gallery) <= MAX_DEPTH:
        return len(task.gallery)
    return min(max(50, int(task.exact.n_relevant.max()) + 1), MAX_DEPTH)


def _passes(gallery: int, depth: int, most: int) -> list[Pass]:
    short, long = min(gallery, TOP + most + TIES), min(gallery, depth + most + TIES)
    filtered = [Pass(_name(parts), short, parts=parts) for parts in PARTS if gallery // parts >= LEAST_ROWS]
    return [Pass("top", short), Pass("deep", long), Pass("exact", long, exact=True), *filtered]


def _name(parts: int) -> str:
    return f"one-in-{parts}"


# --- what it is worth -----------------------------------------------------------------------------


def _every_metric(task: Retrieval, lists: Mapping[str, Rows]) -> dict[str, Floats]:
    """In the table's order; of a metric that both kinds of lists know, the shop's ten nearest decide."""
    found = {**_metrics(task, lists["deep"]), **_metrics(task, lists["top"])}
    return {name: found[name] for name in METRICS if name in found}


def _metrics(task: Retrieval, rows: Rows) -> dict[str, Floats]:
    """Metrics of lists (Q, K) over the whole gallery; lists as long as the gallery are not cut."""
    return ranking_metrics(
        _relevant(task, rows),
        task.exact.n_relevant,
        full=rows.shape[1] >= len(task.gallery),
        grades=_grades(task, rows),
    )


def _relevant(task: Retrieval, rows: Rows) -> NDArray[np.bool_]:
    same = task.relevance.gallery[rows] == task.relevance.query[:, None]
    return np.asarray(same & (rows >= 0), bool)


def _grades(task: Retrieval, rows: Rows) -> tuple[Floats, Floats] | None:
    """Grades of the ten nearest and the best reachable ones, (Q, 10) each; None without category paths."""
    if not task.relevance.graded:
        return None
    ideal = task.relevance.ideal(0, len(rows), task.excluded(), GRADED_DEPTH)
    short = max(0, GRADED_DEPTH - rows.shape[1])
    nearest = np.pad(rows[:, :GRADED_DEPTH], ((0, 0), (0, short)), constant_values=-1)
    return task.relevance.grades(0, nearest), ideal


def _recall(task: Retrieval, recall: Floats) -> dict[str, Any]:
    interval = bootstrap_mean(recall, task.units, unit=task.unit_kind)
    return {"recall_against_exact@10": interval.value, "recall_interval": _ends(interval)}


def _losses(task: Retrieval, exact: Mapping[str, Floats], through: Mapping[str, Floats]) -> dict[str, Any]:
    """Exact minus through Qdrant, paired by query, with 95 % intervals that resample units."""
    gaps = {name: exact[name] - values for name, values in through.items()}
    found = bootstrap_means(gaps, task.units, unit=task.unit_kind)
    return {
        "ann_loss": {name: interval.value for name, interval in found.items()},
        "ann_loss_intervals": {name: _ends(interval) for name, interval in found.items()},
    }


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _full_scan(task: Retrieval, rows: Rows) -> dict[str, float]:
    """How far the engine's own full scan is from ours: recall, and the largest difference of any metric's mean."""
    recall = recall_at_10(rows, task.exact.top_rows, task.gallery_vectors, task.query_vectors)
    differences = [
        abs(float(np.nanmean(values) - np.nanmean(task.exact.metrics[name])))
        for name, values in _metrics(task, rows).items()
    ]
    return {"recall_against_exact@10": float(np.nanmean(recall)), "largest_metric_difference": max(differences)}


def _filtered(task: Retrieval, lists: Mapping[str, Rows], parts: int) -> dict[str, Any]:
    rows = len(task.gallery) // parts
    if rows < LEAST_ROWS:
        why = f"a filter to 1/{parts} leaves {rows} of {len(task.gallery)} rows, at least {LEAST_ROWS} are needed"
        return {"selectivity": 1 / parts, "skipped": why}
    truth, found = truth_in_parts(task, parts), lists[_name(parts)]
    recall = recall_at_10(found, truth.rows, task.gallery_vectors, task.query_vectors)
    return {
        "selectivity": 1 / parts,
        "rows": rows,
        "queries": int((truth.n_relevant > 0).sum()),
        **_recall(task, recall),
        **_losses(task, _short_metrics(task, truth, truth.rows), _short_metrics(task, truth, found)),
    }


def _short_metrics(task: Retrieval, truth: Truth, rows: Rows) -> dict[str, Floats]:
    return ranking_metrics(_relevant(task, rows), truth.n_relevant, full=False)


def _timing(run: EngineRun) -> dict[str, Any]:
    return {
        "build_seconds": run.build_seconds,
        "latency_ms": run.lists["top"].latency_ms,
        "filtered_latency_ms": {
            str(1 / parts): run.lists[_name(parts)].latency_ms for parts in PARTS if _name(parts) in run.lists
        },
        "memory": run.memory,
    }
