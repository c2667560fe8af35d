"""A load test from end to end: warm up, find the rate that is sustained, measure at a share of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from vitrine.bench.asking import calling
from vitrine.bench.offering import Call, Offered, keep_asking, offer
from vitrine.bench.processes import usage
from vitrine.bench.report import Run, run_of
from vitrine.bench.saturation import Goal, saturate, sustained
from vitrine.errors import Unavailable
from vitrine.progress import Track, quiet

_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Test:
    """What to do.

    Attributes:
        rate: requests a second; None searches for the highest that meets `goal`.
        share: of that rate, at which latencies are then taken.
        pid: the server's process, for its CPU and memory; None where it is elsewhere.
    """

    server: str
    method: str
    bodies: Sequence[bytes]
    rate: float | None = None
    seconds: float = 10.0
    share: float = 0.7
    connections: int = 8
    timeout_s: float = 5.0
    goal: Goal = field(default_factory=Goal)
    pid: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """All runs in order; `saturation` is the rate sustained (None at a given rate), `measured` the run to quote."""

    runs: list[Run]
    saturation: float | None
    measured: Run

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "saturation_per_s": self.saturation,
            "measured": self.measured.as_json(),
            "runs": [run.as_json() for run in self.runs],
        }


def run_test(test: Test, track: Track = quiet) -> Result:
    """Load a server.

    Raises:
        Unavailable: it does not answer, or sustains no rate.
    """
    return uvloop.run(_run(test, track))


async def _run(test: Test, track: Track) -> Result:
    async with calling(
        test.server, test.method, test.bodies, connections=test.connections, timeout_s=test.timeout_s
    ) as call:
        ticks = iter(track(iter(int, 1), f"loading {test.server}"))  # an endless count: how many runs is not known
        runs: list[Run] = []

        async def at(rate: float) -> Offered:
            next(ticks)
            offered, run = await _measured(test, call, rate)
            runs.append(run)
            return offered

        start = await _warm_up(test, call)
        if test.rate is not None:
            await at(test.rate)
            return Result(runs, None, runs[-1])
        best = sustained(await saturate(at, test.goal, start=start), test.goal)
        if best is None:
            raise Unavailable(f"{test.server} sustains no rate at all; look at its log")
        await at(best.rate * test.share)
        return Result(runs, best.rate, runs[-1])


async def _warm_up(test: Test, call: Call) -> float:
    """A second of one caller after another; half of its rate is where a search begins."""
    warm = await keep_asking(call, 1, _WARM_UP_S)
    if not warm.succeeded:
        raise Unavailable(
            f"{test.server} answers {', '.join(warm.outcomes)} to {test.method}; is it up, and has it what is asked?"
        )
    return max(1.0, warm.answered_rate / 2)


async def _measured(test: Test, call: Call, rate: float) -> tuple[Offered, Run]:
    before = usage(test.pid) if test.pid else None
    offered = await offer(call, rate, test.seconds, test.seed)
    after = usage(test.pid) if test.pid else None
    cpu_s = after.cpu_s - before.cpu_s if after and before else None
    return offered, run_of(offered, cpu_s, after.rss if after else None)
