"""Tests of paired differences over whole units, corrected for how many were made, and how large a sample they need.

Standard library and numpy. Dim names: M models, Q queries, G units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.stats import student_quantile

Floats = NDArray[np.float64]

_CELLS = 1 << 20
_ROUNDING = 1e-12
"""A standard error below this is one of arithmetic: the differences are all the same."""


@dataclass(frozen=True)
class UnitSums:
    """Paired differences added up by unit: all that a test over units needs.

    Attributes:
        sums: float64 (G,), sum of the differences of each unit's queries.
        counts: float64 (G,), queries of each unit.
    """

    sums: Floats
    counts: Floats

    @staticmethod
    def of(differences: NDArray[np.floating], units: Sequence[str]) -> UnitSums:
        """Add up (Q,) differences by unit; NaN is left out.

        Raises:
            BadInput: not one unit a difference.
        """
        values = np.asarray(differences, np.float64)
        if values.ndim != 1 or len(values) != len(units):
            raise BadInput(f"differences have shape {values.shape} but there are {len(units)} units; give one a query")
        kept = ~np.isnan(values)
        _, codes = np.unique(np.asarray(units, dtype=str)[kept], return_inverse=True)
        sums = np.bincount(codes, weights=values[kept]).astype(np.float64)
        return UnitSums(sums, np.bincount(codes).astype(np.float64))

    @property
    def mean(self) -> float:
        """The mean difference over queries; NaN without any."""
        return float(self.sums.sum() / self.counts.sum()) if len(self.sums) else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean, by the linearised ratio of sums over units; inf for fewer than two units."""
        units = len(self.sums)
        if units < 2:
            return math.inf
        residuals = self.sums - self.mean * self.counts
        return float(math.sqrt(units / (units - 1) * (residuals**2).sum()) / self.counts.sum())


def permutation_test(difference: UnitSums, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of "no difference": were the labels of both systems swapped unit by unit, how often is it as large?

    Signs of whole units are flipped at random; the value counts the observed arrangement itself, so it is never 0
    (Phipson and Smyth 2010). 1.0 where there is no unit.
    """
    return float(permutation_tests(difference.sums[None], permutations=permutations, seed=seed)[0])


def permutation_tests(sums: Floats, *, permutations: int = 10_000, seed: int = 0) -> Floats:
    """As `permutation_test`, of several differences over the same units: all are flipped together.

    Args:
        sums: (T, G), sums of T differences by unit.
        permutations: random flips; after Holm's correction no p-value is below T / permutations.
        seed: the same seed gives the same values.

    Returns:
        float64 (T,), p-values.
    """
    tests, units = sums.shape
    if not units:
        return np.ones(tests)
    observed, rng = np.abs(sums.sum(axis=1)) - 1e-12, np.random.default_rng(seed)
    step, larger = max(1, _CELLS // max(units, tests)), np.zeros(tests)
    for start in range(0, permutations, step):
        flips = rng.integers(0, 2, size=(min(step, permutations - start), units), dtype=np.int8) * 2.0 - 1
        larger += (np.abs(flips @ sums.T) >= observed).sum(axis=0)
    return (larger + 1) / (permutations + 1)


def means_below(found: Sequence[UnitSums], mean: float) -> list[float]:
    """One-sided p-values of "the true mean is `mean` or more", one for each of several groups of the same kind of value.

    Student's t over units, with the larger of a group's own spread and that of all groups: in a small group that happens to
    miss the rare large values, its own spread is far too small, and groups whose true mean is `mean` are called lower
    several times too often (benchmarks/gates.md). 1.0 where a group's mean is not below, or where it has one unit.
    """
    return [_tail(one, mean - one.mean, error) for one, error in zip(found, _careful_errors(found), strict=True)]


def means_differ(found: Sequence[UnitSums], mean: float = 0.0) -> list[float]:
    """As `means_below`, two-sided: p-values of "the true mean is `mean`"."""
    return [
        min(1.0, 2 * _tail(one, abs(one.mean - mean), error))
        for one, error in zip(found, _careful_errors(found), strict=True)
    ]


def _careful_errors(found: Sequence[UnitSums]) -> list[float]:
    """Standard error of each group's mean: by its own spread or by that of all groups, whichever is larger."""
    freedom = [max(0, len(one.sums) - 1) for one in found]
    spreads = [
        one.standard_error**2 * one.counts.sum() if free else 0.0 for one, free in zip(found, freedom, strict=True)
    ]
    pooled = sum(free * spread for free, spread in zip(freedom, spreads, strict=True)) / max(1, sum(freedom))
    return [
        math.sqrt(max(spread, pooled) / one.counts.sum()) if free else math.inf
        for one, spread, free in zip(found, spreads, freedom, strict=True)
    ]


def _tail(one: UnitSums, away: float, error: float) -> float:
    """Chance of a mean that lies `away` >= 0 or further off on one side; 1.0 where the error is not known.

    Where nothing varies at all Student's t has no scale: what is left is that all units lie on the same side, 2^-G.
    """
    if not math.isfinite(error) or not away > 0:
        return 1.0
    if error < _ROUNDING:
        return 0.5 ** len(one.sums)
    return student_tail(away / error, len(one.sums) - 1)


def student_tail(value: float, freedom: float) -> float:
    """Chance that Student's t with `freedom` >= 1 degrees lies above a value >= 0 (Wallace 1959, by a normal value).

    Up to a value of 6 it is off by -1 % to +5 % of itself from 9 degrees on, by up to +14 % for a single one.
    """
    normal = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(value * value / freedom))
    return NormalDist().cdf(-normal)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false finding among all of them stays at the level (Holm 1979).

    Raises:
        BadInput: a value outside [0, 1].
    """
    values = np.asarray(p_values, np.float64)
    if len(values) and not ((values >= 0) & (values <= 1)).all():
        raise BadInput(f"p-values must lie in [0, 1], given: {[float(value) for value in values]}")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)) if len(values) else values
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, steps)
    return [float(value) for value in adjusted]


def detectable_difference(difference: UnitSums, *, power: float = 0.8, confidence: float = 0.95) -> float:
    """The smallest true difference that this sample would show with that power; inf for fewer than two units."""
    units = len(difference.sums)
    return _quantiles(power, confidence, units - 1) * difference.standard_error if units > 1 else math.inf


def needed_units(difference: UnitSums, wanted: float, *, power: float = 0.8, confidence: float = 0.95) -> int | None:
    """How many units like these would show a true difference of `wanted`; None where two units' spread is unknown.

    Raises:
        BadInput: `wanted` is not above 0.
    """
    if not wanted > 0:
        raise BadInput(f"the wanted difference is {wanted}; it must be above 0, such as 0.01", field="difference")
    if len(difference.sums) < 2:
        return None
    ratio = detectable_difference(difference, power=power, confidence=confidence) / wanted
    return max(2, math.ceil(len(difference.sums) * ratio**2))


def _quantiles(power: float, confidence: float, freedom: int) -> float:
    if not (0 < power < 1 and 0 < confidence < 1):
        raise BadInput(f"power={power}, confidence={confidence}: both must lie between 0 and 1")
    return student_quantile((1 + confidence) / 2, freedom) + student_quantile(power, freedom)
