"""The retrieval metrics: each one function of the ranks at which a query's relevant items stand, and one table.

The same short name means different things in different libraries (MAP@10 of one ranking can differ twentyfold),
so a name carries its denominator in brackets and says its definition in one sentence. R is the number of relevant
gallery items of a query, without the query itself.

Dim names: Q queries, P the largest R among the queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

GRADED_DEPTH = 10


@dataclass(frozen=True)
class Answers:
    """What is known of the answers to Q queries, each with R >= 1.

    Attributes:
        ranks: float64 (Q, P), ranks from 1 of the relevant items, ascending; inf fills a row up, and stands for a
            relevant item that a cut list does not hold.
        n_relevant: int64 (Q,), R.
        grades: float64 (Q, 10), how relevant each of the ten nearest is, in [0, 1]; None where relevance has no grades.
        ideal: float64 (Q, 10), the ten best grades of the gallery, falling; None without grades.
    """

    ranks: Floats
    n_relevant: Ints
    grades: Floats | None = None
    ideal: Floats | None = None

    def hits(self, k: int | Ints) -> Floats:
        """Relevant items among the first k answers; k may differ from query to query."""
        reach = np.broadcast_to(np.asarray(k), self.n_relevant.shape)[:, None]
        return np.asarray((self.ranks <= reach).sum(axis=1), np.float64)

    def precision_sum(self, k: float | Ints = np.inf) -> Floats:
        """Sum over the hits among the first k of the precision at their rank; k may differ from query to query."""
        precisions = np.arange(1, self.ranks.shape[1] + 1) / self.ranks
        reach = np.broadcast_to(np.asarray(k), self.n_relevant.shape)[:, None]
        return np.asarray(np.where(self.ranks <= reach, precisions, 0.0).sum(axis=1), np.float64)

    def gain(self, k: float = np.inf) -> Floats:
        """Sum over the hits among the first k of 1 / log2(rank + 1)."""
        return np.asarray(np.where(self.ranks <= k, 1 / np.log2(self.ranks + 1), 0.0).sum(axis=1), np.float64)


@dataclass(frozen=True)
class Metric:
    """One metric: its name, what it says, and how much of the ranking it needs.

    Attributes:
        name: key in every result file, with its denominator where usage differs.
        definition: one sentence.
        compute: answers of Q queries -> float64 (Q,).
        depth: how many ranks it reads; 0 where `needs_full_depth`.
        needs_full_depth: reads ranks down to the last relevant item.
        needs_grades: reads grades of relevance.
        higher_is_better: the direction of improvement.
        source: where the definition comes from.
    """

    name: str
    definition: str
    compute: Callable[[Answers], Floats]
    depth: int = 0
    needs_full_depth: bool = False
    needs_grades: bool = False
    higher_is_better: bool = True
    source: str = ""


def _modified_precision(answers: Answers) -> Floats:
    """Hits among the first min(5, R), over min(5, R): 1.0 is reachable however rare the label."""
    reach = np.minimum(5, answers.n_relevant)
    return answers.hits(reach) / reach


def _hit_rate(k: int) -> Callable[[Answers], Floats]:
    return lambda answers: np.minimum(answers.hits(k), 1.0)


def _recall(k: int) -> Callable[[Answers], Floats]:
    return lambda answers: answers.hits(k) / answers.n_relevant


def _precision(k: int) -> Callable[[Answers], Floats]:
    return lambda answers: answers.hits(k) / k


def _average_precision(answers: Answers) -> Floats:
    return answers.precision_sum() / answers.n_relevant


def _average_precision_at(k: int) -> Callable[[Answers], Floats]:
    return lambda answers: answers.precision_sum(k) / np.minimum(k, answers.n_relevant)


def _average_precision_at_10_by_r(answers: Answers) -> Floats:
    return answers.precision_sum(10) / answers.n_relevant


def _average_precision_at_r(answers: Answers) -> Floats:
    return answers.precision_sum(answers.n_relevant) / answers.n_relevant


def _r_precision(answers: Answers) -> Floats:
    return answers.hits(answers.n_relevant) / answers.n_relevant


def _reciprocal_rank(answers: Answers) -> Floats:
    return np.asarray(1 / answers.ranks.min(axis=1, initial=np.inf), np.float64)


def _ndcg(answers: Answers) -> Floats:
    return answers.gain() / _ideal_gain(answers.n_relevant)


def _ndcg_at_10(answers: Answers) -> Floats:
    return answers.gain(10) / _ideal_gain(np.minimum(10, answers.n_relevant))


def _ideal_gain(hits: Ints) -> Floats:
    """The gain of `hits` relevant answers in front, (Q,)."""
    gains = np.cumsum(1 / np.log2(np.arange(2, int(hits.max(initial=1)) + 2)))
    return np.asarray(gains[hits - 1], np.float64)


def _graded_ndcg_at_10(answers: Answers) -> Floats:
    """NaN where the gallery holds nothing of any level of the query's path: nothing could be gained."""
    assert answers.grades is not None
    assert answers.ideal is not None  # `compute_metrics` leaves the metric out otherwise
    discounts = 1 / np.log2(np.arange(2, GRADED_DEPTH + 2))
    best = answers.ideal @ discounts
    return np.asarray(
        np.where(best > 0, (answers.grades @ discounts) / np.where(best > 0, best, 1.0), np.nan), np.float64
    )


_UNED = "UnED, Towards Universal Image Embeddings (ICCV 2023)"
_TREC = "TREC evaluation"
_JARVELIN = "Järvelin and Kekäläinen (2002)"

DEFINITIONS = (
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
    *(
        Metric(
            f"precision@{k}[/k]",
            f"Relevant answers among the first {k}, divided by {k}.",
            _precision(k),
            k,
            source=_TREC,
        )
        for k in (5, 10)
    ),
    *(
        Metric(
            f"map@{k}[/min(R,k)]",
            f"Sum of the precision at each hit among the first {k} answers, divided by min(R, {k}).",
            _average_precision_at(k),
            depth=k,
            source=_UNED,
        )
        for k in (5, 10)
    ),
    Metric(
        "map@10[/R]",
        "Sum of the precision at each hit among the first 10 answers, divided by R.",
        _average_precision_at_10_by_r,
        depth=10,
        source=_TREC,
    ),
    Metric(
        "map[/R]",
        "Sum of the precision at each hit over the whole ranking, divided by R.",
        _average_precision,
        needs_full_depth=True,
        source=_TREC,
    ),
    Metric(
        "map@R[/R]",
        "Sum of the precision at each hit among the first R answers, divided by R.",
        _average_precision_at_r,
        needs_full_depth=True,
        source="Musgrave et al., A Metric Learning Reality Check (ECCV 2020)",
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
        source=f"{_JARVELIN}, gains of 0 and 1",
    ),
    Metric(
        "ndcg",
        "Hits over the whole ranking discounted by log2(rank + 1), divided by the best reachable with R.",
        _ndcg,
        needs_full_depth=True,
        source=f"{_JARVELIN}, gains of 0 and 1",
    ),
    Metric(
        "ndcg@10[tree]",
        "Levels of the category tree shared with each of the first 10 answers, from the root down, discounted by "
        "log2(rank + 1), divided by the best reachable in the gallery.",
        _graded_ndcg_at_10,
        depth=GRADED_DEPTH,
        needs_grades=True,
        source=f"{_JARVELIN}, linear gains",
    ),
)
