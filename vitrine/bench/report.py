"""What a load test found, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitrine.bench.latencies import Bucket, Latencies, histogram, summarise
from vitrine.bench.offering import Offered


@dataclass(frozen=True)
class Run:
    """One rate.

    Attributes:
        rate: requests a second that were due.
        answered: successful answers a second.
        latency: milliseconds from due to answered.
        outcomes: answers by gRPC status.
        late_ms: how far the generator fell behind at worst.
        cpu_ms: the server's CPU milliseconds a successful answer; None where its process is not known.
        rss_mb: its memory after the run.
    """

    rate: float
    answered: float
    latency: Latencies
    histogram: list[Bucket]
    outcomes: dict[str, int]
    late_ms: float
    cpu_ms: float | None
    rss_mb: float | None

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return asdict(self)

    def row(self) -> tuple[str, ...]:
        """A line of the table that `COLUMNS` heads."""
        failed = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()) if name != "OK")
        shown = (self.latency.p50, self.latency.p90, self.latency.p99, self.latency.p999, self.latency.worst)
        return (
            f"{self.rate:.1f}",
            f"{self.answered:.1f}",
            *("-" if value is None else f"{value:.1f}" for value in shown),
            "-" if self.cpu_ms is None else f"{self.cpu_ms:.2f}",
            failed or "none",
        )


COLUMNS = ("offered/s", "answered/s", "p50 ms", "p90", "p99", "p99.9", "worst", "CPU ms/answer", "failed")


def run_of(offered: Offered, cpu_s: float | None, rss: int | None) -> Run:
    """Figures of one run; `cpu_s` is what the server used meanwhile."""
    done = offered.succeeded
    return Run(
        rate=offered.rate,
        answered=offered.answered_rate,
        latency=summarise(offered.latencies),
        histogram=histogram(offered.latencies),
        outcomes=dict(offered.outcomes),
        late_ms=offered.late_s * 1000,
        cpu_ms=None if cpu_s is None or not done else cpu_s / done * 1000,
        rss_mb=None if rss is None else rss / 1e6,
    )


def bars(run: Run, width: int = 40) -> list[str]:
    """The histogram as lines of text."""
    most = max((bucket.count for bucket in run.histogram), default=1)
    return [
        f"{bucket.low:9.1f} - {bucket.high:<9.1f} ms {'#' * max(1, round(width * bucket.count / most)):<{width}} {bucket.count}"
        for bucket in run.histogram
        if bucket.count
    ]
