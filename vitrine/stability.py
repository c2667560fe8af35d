"""Would the same models rank the same on other products? All models are judged on the same resampled units.

Standard library and numpy. Dim names: M models, Q queries, G units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.significance import UnitSums, detectable_difference, holm, permutation_tests

Floats = NDArray[np.float64]

_CELLS = 1 << 20  # numbers drawn at once
_FLIPS = 40
"""Permutations a pair, at least: with many pairs a fixed number would leave no p-value below 5 % after the correction."""

SATURATED_FROM = 0.98
"""A best value from here on leaves too little room to tell models apart (paper: arXiv 2504.07567, its fashion set)."""


@dataclass(frozen=True)
class RankStability:
    """How firmly the order of M models stands.

    Attributes:
        rank_low, rank_high: int (M,), the ranks from 1 that hold 95 % of the resamples of each model.
        first: float (M,), share of the resamples in which each model is best.
        agreement: mean Kendall tau-b between a resample's order and the full sample's, in [-1, 1].
    """

    rank_low: NDArray[np.int64]
    rank_high: NDArray[np.int64]
    first: Floats
    agreement: float


@dataclass(frozen=True)
class PairTest:
    """Models `a` and `b` (their places) compared: difference a - b and its p-value after Holm's correction over all pairs."""

    a: int
    b: int
    difference: float
    p_holm: float


@dataclass(frozen=True)
class Separation:
    """Whether a dataset can rank these models at all.

    Attributes:
        pairs: every pair of models.
        detectable: the median over the pairs of the difference that this sample shows with 80 % power.
        saturated: the best value leaves no room: from 0.98 on, with a spread smaller than what can be detected.
        cannot_rank: no pair is shown different.
    """

    pairs: tuple[PairTest, ...]
    detectable: float
    saturated: bool
    cannot_rank: bool


def rank_stability(
    values: NDArray[np.floating], units: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> RankStability:
    """Resample units for all models together.

    Args:
        values: (M, Q), one row a model; a query with a NaN anywhere is left out for all.
        units: the unit of each query.
        resamples: draws.
        seed: the same seed gives the same result.

    Raises:
        BadInput: shapes do not fit, or no query is left.
    """
    sums, counts = _by_unit(values, units)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // len(counts))
    even = np.full(len(counts), 1 / len(counts))
    means = np.empty((resamples, len(sums)))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(len(counts), even, size=min(step, resamples - start)).astype(np.float64)
        means[start : start + step] = (drawn @ sums.T) / (drawn @ counts)[:, None]
    ranks = _ranks(means)
    low, high = np.quantile(ranks, (0.025, 0.975), axis=0)
    whole = sums.sum(axis=1) / counts.sum()
    return RankStability(
        np.floor(low).astype(np.int64),
        np.ceil(high).astype(np.int64),
        (ranks == 1).mean(axis=0),
        float(np.mean([_kendall(whole, line) for line in means])) if len(sums) > 1 else 1.0,
    )


def separation(values: NDArray[np.floating], units: Sequence[str], *, seed: int = 0) -> Separation:
    """Test every pair of models on the same units.

    Args:
        values: (M, Q), one row a model, higher is better, 1 the best possible.
        units: the unit of each query.
        seed: of the permutations.

    Raises:
        BadInput: shapes do not fit, or no query is left.
    """
    sums, counts = _by_unit(values, units)
    places = list(combinations(range(len(sums)), 2))
    tests = [UnitSums(sums[a] - sums[b], counts) for a, b in places]
    gaps = np.stack([test.sums for test in tests]) if tests else np.zeros((0, len(counts)))
    corrected = holm(permutation_tests(gaps, permutations=max(10_000, _FLIPS * len(tests)), seed=seed).tolist())
    pairs = tuple(PairTest(a, b, test.mean, p) for (a, b), test, p in zip(places, tests, corrected, strict=True))
    detectable = float(np.median([detectable_difference(test) for test in tests])) if tests else float("nan")
    means = sums.sum(axis=1) / counts.sum()
    saturated = bool(tests) and means.max() >= SATURATED_FROM and float(np.ptp(means)) < detectable
    return Separation(pairs, detectable, bool(saturated), bool(pairs) and all(pair.p_holm > 0.05 for pair in pairs))


def _by_unit(values: NDArray[np.floating], units: Sequence[str]) -> tuple[Floats, Floats]:
    """Sums (M, G) and counts (G,) over the queries that every model has a value for."""
    given = np.asarray(values, np.float64)
    if given.ndim != 2 or given.shape[1] != len(units):
        raise BadInput(
            f"values have shape {given.shape} and there are {len(units)} units; give (models, queries) and one unit a query"
        )
    kept = ~np.isnan(given).any(axis=0)
    if not kept.any():
        raise BadInput(
            "there is no query that every model has a value for; evaluate them on the same dataset and protocol"
        )
    _, codes = np.unique(np.asarray(units, dtype=str)[kept], return_inverse=True)
    sums = np.stack([np.bincount(codes, weights=line) for line in given[:, kept]])
    return sums.astype(np.float64), np.bincount(codes).astype(np.float64)


def _ranks(means: Floats) -> NDArray[np.int64]:
    """Rank of each model in each line (lines, M), 1 the best; equal values share the better rank."""
    return np.asarray((means[:, None, :] > means[:, :, None]).sum(axis=2) + 1, np.int64)


def _kendall(left: Floats, right: Floats) -> float:
    """Kendall's tau-b of two (M,) lists, ties counted."""
    upper = np.triu_indices(len(left), 1)
    a, b = (np.sign(line[:, None] - line[None, :])[upper] for line in (left, right))
    scale = np.sqrt((a != 0).sum() * (b != 0).sum())
    return float((a * b).sum() / scale) if scale else 0.0
