"""What a candidate and the live version found for the same searches, and how long each took."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services import metrics

DEPTH = 10
_KEPT = 10_000
"""Latencies of which quantiles are told: the last so many."""


@dataclass
class Comparison:
    """A candidate beside one live version: what both found, and how long each took."""

    candidate: str
    live: str
    share: float
    compared: int = 0
    dropped: int = 0
    failed: int = 0
    overlaps: float = 0.0
    same: int = 0
    live_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    candidate_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, live: Sequence[str], live_s: float, found: Sequence[str], found_s: float) -> None:
        """Take one search in that both answered: item ids, best first, and seconds of each side."""
        shared = overlap(live[:DEPTH], found[:DEPTH])
        self.compared += 1
        self.overlaps += shared
        self.same += list(live[:DEPTH]) == list(found[:DEPTH])
        self.live_s.append(live_s)
        self.candidate_s.append(found_s)
        metrics.SHADOW.labels(self.candidate, "compared").inc()
        metrics.SHADOW_OVERLAP.labels(self.candidate).observe(shared)
        for side, took in (("live", live_s), ("candidate", found_s)):
            metrics.SHADOW_SECONDS.labels(self.candidate, side).observe(took)

    def drop(self) -> None:
        """A search was not tried: the queue was full, or the live version busy."""
        self.dropped += 1
        metrics.SHADOW.labels(self.candidate, "dropped").inc()

    def fail(self) -> None:
        """The candidate could not answer."""
        self.failed += 1
        metrics.SHADOW.labels(self.candidate, "failed").inc()

    def as_json(self) -> dict[str, Any]:
        """The figures, JSON-ready; None where nothing was compared yet."""
        return {
            "candidate": self.candidate,
            "live": self.live,
            "share": self.share,
            "compared": self.compared,
            "dropped": self.dropped,
            "failed": self.failed,
            f"overlap@{DEPTH}": self.overlaps / self.compared if self.compared else None,
            "same_answer": self.same / self.compared if self.compared else None,
            "latency_ms": {"live": _quantiles(self.live_s), "candidate": _quantiles(self.candidate_s)},
        }


def overlap(live: Sequence[str], candidate: Sequence[str]) -> float:
    """Share of the live items that the candidate found too, of the longer list's length; two empty lists agree."""
    longest = max(len(live), len(candidate))
    return len(set(live) & set(candidate)) / longest if longest else 1.0


def _quantiles(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"p50": None, "p99": None}
    p50, p99 = np.quantile(np.asarray(seconds), [0.5, 0.99]) * 1000
    return {"p50": float(p50), "p99": float(p99)}
