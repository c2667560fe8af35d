"""What a classifier on frozen vectors would be worth with fewer labels: accuracy at 1, 5, 25 and 100 % of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vitrine.classification import knn_predict, linear_probe
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.sampling import stratified_rows

SHARES = (0.01, 0.05, 0.25)
SEEDS = 3


@dataclass(frozen=True)
class Labelled:
    """Items with their vectors (n, D) and labels."""

    vectors: Vectors
    labels: Sequence[str]

    def part(self, rows: NDArray[np.int64]) -> Labelled:
        """Some of them."""
        return Labelled(self.vectors[rows], [self.labels[row] for row in rows])


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with a share of the training labels.

    Attributes:
        share: of each label's training items, at least one of each.
        items: how many that is.
        draws: samples drawn, each with a seed of its own.
        knn, probe: mean accuracy over the draws.
        knn_spread, probe_spread: sample standard deviation over the draws; None for a single one.
    """

    share: float
    items: int
    draws: int
    knn: float
    knn_spread: float | None
    probe: float
    probe_spread: float | None


def label_curve(
    train: Labelled,
    val: Labelled,
    queries: Labelled,
    *,
    k: int,
    shares: Sequence[float] = SHARES,
    seeds: int = SEEDS,
    track: Track = quiet,
) -> list[CurvePoint]:
    """Accuracy on the queries by share of training labels, without the last point, which is all of them.

    Validation items keep all their labels at every share: they choose the probe's strength and nothing else.

    Args:
        train: what samples are drawn from.
        val: for the strength; may be empty.
        queries: what is labelled.
        k: neighbours that vote.
        shares: of the training items of each label.
        seeds: samples a share.
        track: progress over the shares.

    Raises:
        BadInput: no training items, or a share out of range.
        Unsupported: too many labels for a probe.
    """
    with threadpool_limits(1, "blas"):
        steps = track(shares, "classifying with fewer labels", len(shares))
        return [_point(share, train, val, queries, k, seeds) for share in steps]


def _point(share: float, train: Labelled, val: Labelled, queries: Labelled, k: int, seeds: int) -> CurvePoint:
    draws = [train.part(stratified_rows(train.labels, share, seed)) for seed in range(seeds)]
    near = [_right(knn_predict(one.vectors, one.labels, queries.vectors, k), queries) for one in draws]
    line = [
        _right(linear_probe(one.vectors, one.labels, val.vectors, val.labels, queries.vectors).predicted, queries)
        for one in draws
    ]
    return CurvePoint(share, len(draws[0].labels), seeds, *_summary(near), *_summary(line))


def _right(predicted: Sequence[str], queries: Labelled) -> float:
    return float(np.mean(np.asarray(predicted, dtype=str) == np.asarray(queries.labels, dtype=str)))


def _summary(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
