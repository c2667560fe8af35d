"""Intervals by the cluster bootstrap: whole units (labels, products) are resampled, never single queries.

Queries of one label share its difficulty, so they are not independent; an interval that resamples queries one by
one is too narrow and calls noise an improvement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference shown"]

_CELLS = 1 << 20  # numbers drawn at once: bounds the memory of a run to some tens of megabytes


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its percentile interval.

    Attributes:
        value: the mean, or the mean difference; NaN where no query is left.
        low: lower end; -inf where fewer than two units leave it unknown.
        high: upper end; inf where unknown.
        units: how many units were resampled.
        queries: how many queries they hold.
        unit: what a unit is, such as "label" or "product_id".
        dropped: queries left out because a value was NaN (nothing to find).
    """

    value: float
    low: float
    high: float
    units: int
    queries: int
    unit: str
    dropped: int = 0


def bootstrap_mean(
    values: NDArray[np.floating],
    units: Sequence[str],
    *,
    unit: str = "label",
    resamples: int = 5000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over queries with an interval that resamples units.

    Args:
        values: (Q,), one value a query; NaN is left out and counted.
        units: the unit of each query, Q of them.
        unit: what the units are, for the record.
        resamples: bootstrap draws.
        confidence: share of the draws inside the interval.
        seed: the same seed gives the same interval.

    Raises:
        BadInput: lengths differ, or a setting is out of range.
    """
    given = np.asarray(values, np.float64)
    _check(given, units, resamples, confidence)
    kept = ~np.isnan(given)
    values = given[kept]
    dropped = int((~kept).sum())
    if not len(values):
        return Interval(float("nan"), -np.inf, np.inf, 0, 0, unit, dropped)
    _, codes = np.unique(np.asarray(units, dtype=str)[kept], return_inverse=True)
    sums, counts = np.bincount(codes, weights=values).astype(np.float64), np.bincount(codes).astype(np.float64)
    low, high = -np.inf, np.inf
    if len(sums) > 1:
        tail = (1 - confidence) / 2
        means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
        low, high = (float(end) for end in np.quantile(means, (tail, 1 - tail)))
    return Interval(float(values.mean()), low, high, len(sums), len(values), unit, dropped)


def paired_bootstrap(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    units: Sequence[str],
    *,
    unit: str = "label",
    resamples: int = 5000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """mean(a) - mean(b) over the same queries, resampling units; a pair with a NaN is left out and counted.

    Args:
        a: (Q,), one value a query of the first system.
        b: (Q,), the second system on the same queries in the same order.
        units: the unit of each query, Q of them.
        unit: what the units are, for the record.
        resamples: bootstrap draws.
        confidence: share of the draws inside the interval.
        seed: the same seed gives the same interval.

    Raises:
        BadInput: lengths differ, or a setting is out of range.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise BadInput(f"a has {len(a)} values and b {len(b)}; pair the same queries in the same order")
    return bootstrap_mean(a - b, units, unit=unit, resamples=resamples, confidence=confidence, seed=seed)


def decision(interval: Interval, margin: float = 0.0) -> Verdict:
    """What a difference shows: beyond `margin` (>= 0) with its whole interval, or nothing."""
    if interval.low > margin:
        return "better"
    return "worse" if interval.high < -margin else "no difference shown"


def _resampled_means(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Mean over queries in each resample of the units (a ratio of sums: units differ in size), (resamples,)."""
    units = len(sums)
    step = max(1, _CELLS // units)
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, units, size=(min(step, resamples - start), units))
        means[start : start + step] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _check(values: Floats, units: Sequence[str], resamples: int, confidence: float) -> None:
    if values.ndim != 1 or len(values) != len(units):
        raise BadInput(f"values have shape {values.shape} but there are {len(units)} units; give one unit a query")
    if resamples < 1 or not 0 < confidence < 1:
        raise BadInput(f"resamples={resamples}, confidence={confidence}: allowed are at least 1, and between 0 and 1")
