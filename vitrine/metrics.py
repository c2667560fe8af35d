"""Retrieval metrics, one value a query, from a ranked list of right and wrong answers.

The same short name means different things in different libraries (MAP@10 of one ranking can differ twentyfold),
so a name carries its denominator in brackets and `METRICS` says each definition in one sentence. R is the number
of relevant gallery items of a query, without the query itself. A list that ends because the gallery is small
counts as filled up with wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

PRIMARY = "mmp@5"


@dataclass(frozen=True)
class Metric:
    """One metric: its name, what it says, and how much of the ranking it needs.

    Attributes:
        name: key in every result file, with its denominator where usage differs.
        definition: one sentence.
        compute: `(relevant (Q, K), n_relevant (Q,)) -> (Q,)`; every query has R >= 1.
        depth: how many ranks it reads; 0 where `needs_full_depth`.
        needs_full_depth: reads ranks down to the last relevant item.
        higher_is_better: the direction of improvement.
        source: where the definition comes from.
    """

    name: str
    definition: str
    compute: Callable[[Bools, Ints], Floats]
    depth: int = 0
    needs_full_depth: bool = False
    higher_is_better: bool = True
    source: str = ""


def _hits(relevant: Bools, k: int) -> Floats:
    return np.asarray(relevant[:, :k].sum(axis=1), np.float64)


def _modified_precision(relevant: Bools, n_relevant: Ints) -> Floats:
    """Hits among the first min(5, R), over min(5, R): 1.0 is reachable however rare the label."""
    reach = np.minimum(5, n_relevant)
    inside = np.arange(min(5, relevant.shape[1])) < reach[:, None]
    return np.asarray((relevant[:, :5] & inside).sum(axis=1) / reach, np.float64)


def _hit_rate(k: int) -> Callable[[Bools, Ints], Floats]:
    def hit_rate(relevant: Bools, _: Ints) -> Floats:
        return np.asarray(relevant[:, :k].any(axis=1), np.float64)

    return hit_rate


def _recall(k: int) -> Callable[[Bools, Ints], Floats]:
    return lambda relevant, n_relevant: _hits(relevant, k) / n_relevant


def _precision_sum(relevant: Bools) -> Floats:
    """Sum over the hits of the precision at their rank; touches hits only, so long lists stay cheap."""
    rows, places = np.nonzero(relevant)
    first = np.searchsorted(rows, np.arange(len(relevant)))
    hit_number = np.arange(len(rows)) - first[rows] + 1
    return np.bincount(rows, weights=hit_number / (places + 1), minlength=len(relevant)).astype(np.float64)


def _average_precision(relevant: Bools, n_relevant: Ints) -> Floats:
    return _precision_sum(relevant) / n_relevant


def _average_precision_at_10(relevant: Bools, n_relevant: Ints) -> Floats:
    return _precision_sum(relevant[:, :10]) / np.minimum(10, n_relevant)


def _r_precision(relevant: Bools, n_relevant: Ints) -> Floats:
    rows, places = np.nonzero(relevant)
    inside = places < n_relevant[rows]
    return np.bincount(rows[inside], minlength=len(relevant)) / n_relevant


def _reciprocal_rank(relevant: Bools, _: Ints) -> Floats:
    if relevant.shape[1] == 0:
        return np.zeros(len(relevant))
    first = relevant.argmax(axis=1)
    return np.where(relevant.any(axis=1), 1.0 / (first + 1), 0.0)


def _ndcg_at_10(relevant: Bools, n_relevant: Ints) -> Floats:
    discounts = 1.0 / np.log2(np.arange(2, 12))
    top = relevant[:, :10]
    ideal = np.cumsum(discounts)[np.minimum(10, n_relevant) - 1]
    return np.asarray((top @ discounts[: top.shape[1]]) / ideal, np.float64)


_UNED = "UnED, Towards Universal Image Embeddings (ICCV 2023)"
_TREC = "TREC evaluation"

_ALL = (
    Metric(
        "mmp@5",
        "Hits among the first min(5, R) answers, divided by min(5, R); also called modified precision at 5.",
        _modified_precision,
        depth=5,
        source=_UNED,
    ),
    Metric("mr@1", "1 if the nearest answer is relevant, else 0.", _hit_rate(1), depth=1, source=_UNED),
    *(
        Metric(f"hit_rate@{k}", f"1 if any of the first {k} answers is relevant, else 0.", _hit_rate(k), depth=k)
        for k in (1, 5, 10)
    ),
    *(
        Metric(f"recall@{k}[/R]", f"Relevant answers among the first {k}, divided by R.", _recall(k), k, source=_TREC)
        for k in (1, 5, 10)
    ),
    Metric(
        "map@10[/min(R,k)]",
        "Sum of the precision at each hit among the first 10 answers, divided by min(R, 10).",
        _average_precision_at_10,
        depth=10,
        source=_UNED,
    ),
    Metric(
        "map[/R]",
        "Sum of the precision at each hit over the whole ranking, divided by R.",
        _average_precision,
        needs_full_depth=True,
        source=_TREC,
    ),
    Metric(
        "r_precision",
        "Relevant answers among the first R, divided by R.",
        _r_precision,
        needs_full_depth=True,
        source=_TREC,
    ),
    Metric(
        "mrr",
        "1 divided by the rank of the first relevant answer, without a cut-off.",
        _reciprocal_rank,
        needs_full_depth=True,
        source=_TREC,
    ),
    Metric(
        "ndcg@10",
        "Hits among the first 10 discounted by log2(rank + 1), divided by the best reachable with R.",
        _ndcg_at_10,
        depth=10,
        source="Järvelin and Kekäläinen (2002), gains of 0 and 1",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def ranking_metrics(relevant: Bools, n_relevant: NDArray[np.integer], *, full: bool) -> dict[str, Floats]:
    """Every metric that the given depth allows, per query.

    Args:
        relevant: bool (Q, K), whether the answer at each rank is relevant; the query itself is not in it.
        n_relevant: int (Q,), relevant items in the whole gallery, without the query itself.
        full: the lists end because the gallery ends, not because they were cut at K.

    Returns:
        name -> float64 (Q,). A query with nothing to find is NaN in every column. Metrics that need more
        ranks than a cut list has are left out, never estimated.

    Raises:
        BadInput: shapes do not fit, or a list has more hits than there are relevant items.
    """
    relevant, counts = np.asarray(relevant, bool), np.asarray(n_relevant, np.int64)
    _check(relevant, counts)
    depth = relevant.shape[1]
    answerable = counts > 0
    kept, kept_counts = (relevant, counts) if answerable.all() else (relevant[answerable], counts[answerable])
    columns: dict[str, Floats] = {}
    for metric in METRICS.values():
        if full or _reaches(metric, depth, counts):
            columns[metric.name] = np.full(len(relevant), np.nan)
            columns[metric.name][answerable] = metric.compute(kept, kept_counts)
    return columns


def _reaches(metric: Metric, depth: int, counts: Ints) -> bool:
    if metric.name == "r_precision":
        return bool(len(counts)) and depth >= int(counts.max())
    return not metric.needs_full_depth and depth >= metric.depth


def _check(relevant: Bools, counts: Ints) -> None:
    if relevant.ndim != 2 or counts.shape != relevant.shape[:1]:
        raise BadInput(
            f"relevant has shape {relevant.shape} and n_relevant {counts.shape}; give (queries, ranks) and (queries,)"
        )
    excess = np.flatnonzero(relevant.sum(axis=1) > counts)
    if len(excess):
        raise BadInput(
            f"query {excess[0]} has {int(relevant[excess[0]].sum())} hits but n_relevant says {counts[excess[0]]}; "
            "count the relevant items of the whole gallery, and list each item once"
        )


def resolve_metric(text: str) -> str:
    """The full name that `text` means: a full name, or one without its bracket.

    Raises:
        BadInput: no such metric; the message lists the known ones.

    >>> resolve_metric("map@10")
    'map@10[/min(R,k)]'
    """
    if text in METRICS:
        return text
    found = [name for name in METRICS if name.partition("[")[0] == text]
    if len(found) == 1:
        return found[0]
    raise BadInput(f"no metric {text!r}; the metrics are {', '.join(METRICS)}", field="metric")
