"""Retrieval metrics, one value a query: computed from ranks, or from lists of right and wrong answers.

What each metric says is in `vitrine.metric_definitions`. A list that ends because the gallery is small counts as
filled up with wrong answers. Dim names: Q queries, K depth of a list, P the largest R among the queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.metric_definitions import DEFINITIONS, Answers, Bools, Floats, Ints, Metric

__all__ = ["METRICS", "PRIMARY", "Answers", "Metric", "compute_metrics", "ranking_metrics", "resolve_metric"]

PRIMARY = "mmp@5"

METRICS: dict[str, Metric] = {metric.name: metric for metric in DEFINITIONS}


def compute_metrics(answers: Answers, *, depth: int | None = None) -> dict[str, Floats]:
    """Every metric that can be known, per query; a query with R = 0 is NaN in every column.

    Args:
        answers: of Q queries; here R may be 0.
        depth: the lists were cut there; None where all ranks are known. Metrics that need more ranks than a cut
            list has are left out, never estimated.

    Returns:
        name -> float64 (Q,).
    """
    answerable = answers.n_relevant > 0
    kept = _only(answers, answerable)
    columns: dict[str, Floats] = {}
    for metric in METRICS.values():
        if _known(metric, answers, depth):
            columns[metric.name] = np.full(len(answerable), np.nan)
            columns[metric.name][answerable] = metric.compute(kept)
    return columns


def ranking_metrics(
    relevant: Bools, n_relevant: NDArray[np.integer], *, full: bool, grades: tuple[Floats, Floats] | None = None
) -> dict[str, Floats]:
    """As `compute_metrics`, from lists of right and wrong answers.

    Args:
        relevant: bool (Q, K), whether the answer at each rank is relevant; the query itself is not in it.
        n_relevant: int (Q,), relevant items in the whole gallery, without the query itself.
        full: the lists end because the gallery ends, not because they were cut at K.
        grades: of the ten nearest, and the ten best of the gallery, (Q, 10) each; see `Answers`.

    Returns:
        name -> float64 (Q,).

    Raises:
        BadInput: shapes do not fit, or a list has more hits than there are relevant items.
    """
    relevant, counts = np.asarray(relevant, bool), np.asarray(n_relevant, np.int64)
    _check(relevant, counts)
    depth = relevant.shape[1]
    return compute_metrics(Answers(_hit_ranks(relevant), counts, *(grades or ())), depth=None if full else depth)


def _hit_ranks(relevant: Bools) -> Floats:
    """Ranks of the hits of each list (Q, K), ascending, filled up with inf."""
    rows, places = np.nonzero(relevant)
    first = np.searchsorted(rows, np.arange(len(relevant)))
    ranks = np.full((len(relevant), int(relevant.sum(axis=1).max(initial=0))), np.inf)
    ranks[rows, np.arange(len(rows)) - first[rows]] = places + 1
    return ranks


def _only(answers: Answers, chosen: Bools) -> Answers:
    if chosen.all():
        return answers
    graded = (None if part is None else part[chosen] for part in (answers.grades, answers.ideal))
    return Answers(answers.ranks[chosen], answers.n_relevant[chosen], *graded)


def _known(metric: Metric, answers: Answers, depth: int | None) -> bool:
    if metric.needs_grades and answers.grades is None:
        return False
    if depth is None:
        return True
    if metric.name in ("r_precision", "map@R[/R]"):
        return bool(len(answers.n_relevant)) and depth >= int(answers.n_relevant.max())
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
    """The full name that `text` means: a full name, or one without its bracket (of several, the table's first).

    Raises:
        BadInput: no such metric; the message lists the known ones.

    >>> resolve_metric("map@10")
    'map@10[/min(R,k)]'
    """
    if text in METRICS:
        return text
    found = [name for name in METRICS if name.partition("[")[0] == text]
    if found:
        return found[0]
    raise BadInput(f"no metric {text!r}; the metrics are {', '.join(METRICS)}", field="metric")
