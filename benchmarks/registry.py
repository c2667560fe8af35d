"""How long a registry of many events takes to open: `python benchmarks/registry.py [EVENTS]` (default 10,000).

Events are as large as the pipeline's: 24 metrics with 20 intervals an evaluation, losses and libraries a registration.
Prints seconds on the clock and of CPU, each the median of five.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from vitrine.eventlog import EventLog
from vitrine.events import AliasMoved, Evaluated, Event, Registered
from vitrine.home import find_home
from vitrine.registry import open_registry

STAMP = {"at": "2026-01-01T00:00:00+00:00", "actor": "ann"}


def history(count: int) -> list[Event]:
    """Versions of five models: a registration, eight evaluations and an alias each."""
    metrics = {f"metric-{place}": 0.5 for place in range(24)}
    details = {"intervals": {f"metric-{place}": [0.4, 0.6] for place in range(20)}}
    events: list[Event] = []
    for version in range(1, count // 10 + 1):
        common = {"model": f"shop-{version % 5}", "version": version, **STAMP}
        lineage = {"losses": [0.1] * 30, "libraries": {"numpy": "2.4.6"}}
        events.append(Registered(digest=f"{version:064x}", lineage=lineage, **common))
        for place in range(8):
            measured = {"dataset": f"d{place}", "dataset_digest": "d", "protocol": "default", "via": "exact"}
            counts = {"queries": 200, "gallery": 500, "per_query": "a" * 64}
            events.append(Evaluated(metrics=metrics, details=details, **measured, **counts, **common))
        events.append(AliasMoved(alias="newest", **common))
    return events


def report(what: str, act: Callable[[], object]) -> None:
    """Print the medians of five runs."""
    clock, cpu = [], []
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        act()
        clock.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    print(f"| {what} | {statistics.median(clock):.3f} | {statistics.median(cpu):.3f} |")


def main() -> None:
    """Fill a SQLite registry in one transaction, then measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        home = find_home({"VITRINE_HOME": folder})
        EventLog(home.registry_url).append(history(count), expected_seq=0)
        registry = open_registry(home)
        registry.state()
        print(f"{registry.state().seq} events\n\n| what | seconds | CPU seconds |\n|---|---|---|")
        report("open and fold everything", lambda: open_registry(home).state())
        report("look for news (a server does it twice a second)", registry.state)
        report("append one event", lambda: registry.set_alias("shop-1", "x", 1))


if __name__ == "__main__":
    main()
