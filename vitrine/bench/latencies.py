"""Latencies as figures and as a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHARES = (0.5, 0.9, 0.99, 0.999)
PER_DOUBLING = 2
"""Buckets between a latency and twice that latency."""


@dataclass(frozen=True)
class Latencies:
    """Percentiles in milliseconds; None where nothing was measured."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    worst: float | None


@dataclass(frozen=True)
class Bucket:
    """How many latencies lie in [low, high) milliseconds."""

    low: float
    high: float
    count: int


def summarise(seconds: Sequence[float]) -> Latencies:
    """Percentiles of latencies given in seconds: each is a value that was seen, the lowest one that covers its share."""
    if not seconds:
        return Latencies(0, None, None, None, None, None, None)
    found = np.asarray(seconds, np.float64) * 1000
    p50, p90, p99, p999 = np.quantile(found, SHARES, method="inverted_cdf").tolist()
    return Latencies(len(found), float(found.mean()), p50, p90, p99, p999, float(found.max()))


def histogram(seconds: Sequence[float]) -> list[Bucket]:
    """Counts in buckets whose edges grow by a half power of two, from the first to the last that holds anything."""
    if not seconds:
        return []
    places = np.floor(np.log2(np.maximum(np.asarray(seconds) * 1000, 1e-3)) * PER_DOUBLING).astype(int)
    first, counts = int(places.min()), np.bincount(places - places.min())
    return [
        Bucket(2 ** ((first + place) / PER_DOUBLING), 2 ** ((first + place + 1) / PER_DOUBLING), int(count))
        for place, count in enumerate(counts)
    ]
