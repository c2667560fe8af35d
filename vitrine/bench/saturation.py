"""The highest rate that a server sustains: doubled until it fails, then halved in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vitrine.bench.latencies import summarise
from vitrine.bench.offering import Offered
from vitrine.errors import Unavailable

Run = Callable[[float], Awaitable[Offered]]

_MOST = 1_000_000.0


@dataclass(frozen=True)
class Goal:
    """What "sustains" means.

    Attributes:
        p99_ms: the slowest that the 99th percentile may be.
        failing: the largest share of requests that may fail.
    """

    p99_ms: float = 500.0
    failing: float = 0.0

    def met(self, run: Offered) -> bool:
        """Whether a run stays inside; a run without any request shows nothing and fails."""
        asked = sum(run.outcomes.values())
        if not asked or (asked - run.succeeded) / asked > self.failing:
            return False
        p99 = summarise(run.latencies).p99
        return p99 is not None and p99 <= self.p99_ms


async def saturate(run: Run, goal: Goal, *, start: float, steps: int = 4) -> list[Offered]:
    """Runs at the rates tried, in order; `sustained` names the best of them.

    Args:
        run: one run at a rate.
        goal: what counts as sustained.
        start: requests a second of the first run.
        steps: halvings after the first failure: the answer is known to 1/2^steps of the last doubling.

    Raises:
        Unavailable: not even the start can be sustained at a hundredth of its rate.
    """
    runs, low, high = [], 0.0, float("inf")
    rate = start
    while rate < _MOST:
        runs.append(await run(rate))
        low, high = (rate, high) if goal.met(runs[-1]) else (low, rate)
        if not low and high < start / 100:
            raise Unavailable(f"the server fails at {high:.2f} requests a second: {dict(runs[-1].outcomes)}")
        if not low or high == float("inf"):
            rate = low * 2 or high / 4
        elif steps:
            steps, rate = steps - 1, (low + high) / 2
        else:
            break
    return runs


def sustained(runs: list[Offered], goal: Goal) -> Offered | None:
    """The run of the highest rate at which the goal was met."""
    return max((run for run in runs if goal.met(run)), key=lambda run: run.rate, default=None)
