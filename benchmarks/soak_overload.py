"""Five times as many requests as the server can answer, over gRPC and HTTP: `make soak-overload` prints the page.

    capacity -> quiet -> overload -> recovery -> SIGTERM under load

Open loop: a request leaves when it is due, however slowly answers come, and has a deadline. What must hold is in `checks`;
the exit code is 1 where it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from soak_callers import DEADLINE_S, Callers, Phase, capacity, offer, recover, watch
from soak_server import Served, install, serving

FACTOR, SECONDS, LAYERS = 5, 600, 20
RECOVERY_S = 2.0
SLACK_S = 0.1  # a deadline is the caller's clock; the answer has to come back through a loaded client
GROWTH_MB = 40.0


@dataclass(frozen=True)
class Ended:
    """SIGTERM under load: what callers saw, and what the server says it admitted, answered and cut."""

    seen: Phase
    exit_code: int
    seconds: float
    admitted: int
    cut: int


async def terminate(server: Served, callers: Callers, rate: float, seed: int) -> Ended:
    """SIGTERM in the middle of six seconds of load, over gRPC alone: there the server counts what it admits."""
    seen = Phase()
    before = admitted_so_far(server, await _metrics(server))
    load = asyncio.create_task(offer(callers.rpc, rate, 6.0, seed, seen))
    await asyncio.sleep(3.0)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(server.process.wait, 60)
    seconds = time.monotonic() - began
    await load
    told = _told(server, "gRPC ends")
    return Ended(seen, code, seconds, int(told["admitted"]) - before, int(told["cut"]))


async def _metrics(server: Served) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{server.http}/metrics") as answer:
        return await answer.text()


def admitted_so_far(server: Served, metrics: str) -> int:
    """Calls that were let in: all that ended but those refused at the door."""
    del server
    ended = sum(
        float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("vitrine_grpc_requests_total{")
    )
    refused = [line for line in metrics.splitlines() if line.startswith('vitrine_refused_total{by="calls"')]
    return int(ended - sum(float(line.split()[-1]) for line in refused))


def _told(server: Served, message: str) -> dict[str, int]:
    """The last line of the server's log with this message."""
    lines = [line for line in server.log.read_text().splitlines() if f'"message": "{message}"' in line]
    return dict(json.loads(lines[-1])) if lines else {"admitted": -1, "cut": -1}


@dataclass(frozen=True)
class Report:
    """All phases of a run."""

    seconds: float
    rate: float
    quiet: Phase
    overload: Phase
    recovery_s: float
    ended: Ended

    def slope(self) -> tuple[float, float]:
        """Memory: megabytes a minute, and the growth over the last three quarters of the overload by that line."""
        times, sizes = (np.array(part) for part in zip(*self.overload.memory, strict=True))
        late = times >= times[0] + (times[-1] - times[0]) / 4
        a_second = float(np.polyfit(times[late] - times[0], sizes[late], 1)[0])
        return 60 * a_second, a_second * float(np.ptp(times[late]))

    def checks(self, *, times: bool = True) -> dict[str, bool]:
        """What must hold; without `times` what holds on a machine that is busy with other things, too."""
        codes, after = self.overload.count(), self.ended.seen.count()
        refusals = {"RESOURCE_EXHAUSTED", "HTTP 429"}
        answers = {"OK", "HTTP 200", *refusals}
        held = {
            "every request answered: a result, or a refusal that says when to try again": set(codes) <= answers,
            "something was refused, so it was an overload": codes["RESOURCE_EXHAUSTED"] > 0,
            f"memory flat: grows by less than {GROWTH_MB:g} MB": self.slope()[1] < GROWTH_MB,
            "quiet load before: nothing refused": set(self.quiet.count()) <= {"OK", "HTTP 200"},
            "recovered": self.recovery_s < float("inf"),
            "SIGTERM: exit code 0": self.ended.exit_code == 0,
            "SIGTERM: callers got a result or were told to go elsewhere": set(after)
            <= answers | {"UNAVAILABLE", "CANCELLED"},
            "SIGTERM: every admitted request was answered": self._all_answered(),
        }
        return held | (self._in_time() if times else {})

    def _in_time(self) -> dict[str, bool]:
        slowest = max(self.overload.latencies(), default=0.0)
        return {
            f"admitted ones inside their deadline of {DEADLINE_S:g} s": slowest <= DEADLINE_S + SLACK_S,
            "health checks answered throughout": max(self.overload.health) < DEADLINE_S,
            f"recovered within {RECOVERY_S:g} s": self.recovery_s <= RECOVERY_S,
        }

    def _all_answered(self) -> bool:
        """What the server let in is what callers got an answer to; refusals for want of time are answers, too.

        A newcomer that reaches gRPC's core while it says goodbye is CANCELLED there; no handler has seen it.
        """
        after = self.ended.seen.count()
        return self.ended.cut == 0 and self.ended.admitted == after["OK"] + after["RESOURCE_EXHAUSTED"]


async def run(server: Served, seconds: float, seed: int) -> Report:
    """All phases against a running server."""
    callers = Callers(server)
    try:
        await capacity(callers, 2.0)
        rate = await capacity(callers, 5.0)
        quiet, overload = Phase(), Phase()
        await offer(callers.mixed, rate / 2, min(30.0, max(5.0, seconds / 4)), seed, quiet)
        watching = asyncio.create_task(watch(server, callers, overload))
        await offer(callers.mixed, FACTOR * rate, seconds, seed + 1, overload)
        watching.cancel()
        last_due = max(answer.due for answer in overload.answers)
        recovery_s = await recover(callers, percentile(quiet.latencies(), 99), last_due)
        ended = await terminate(server, callers, 0.8 * rate, seed + 2)
    finally:
        await callers.close()
    return Report(seconds, rate, quiet, overload, recovery_s, ended)


def percentile(values: Sequence[float], share: float) -> float:
    """In seconds; 0 for none."""
    return float(np.percentile(values, share)) if values else 0.0


def page(report: Report, seed: int, *, times: bool = True) -> str:
    """The measured page, as Markdown."""
    over, ended = report.overload, report.ended
    slope, growth = report.slope()
    sizes = [size for _, size in over.memory]
    ok, told = over.latencies(), ", ".join(f"{count:,} {code}" for code, count in over.count().most_common())
    refused = over.latencies("RESOURCE_EXHAUSTED")
    lines = [
        f"# {FACTOR} times overloaded for {report.seconds:g} seconds",
        (
            f"\n`make soak-overload` (`python benchmarks/soak_overload.py --seconds {report.seconds:g} --seed {seed}`), "
            f"{platform.machine()}, {os.cpu_count()} cores, {dt.datetime.now(tz=dt.UTC).date()}. "
            "Server and callers share the cores. A real `bentoml serve` with one engine thread and default limits, a random "
            f"network, 400 x 400 JPEGs; open loop, a tenth over HTTP, every request with a deadline of {DEADLINE_S:g} s.\n"
        ),
        "| | |\n|---|---|",
        f"| capacity (16 callers, closed loop) | {report.rate:.0f} requests/s |",
        (
            f"| offered | {FACTOR * report.rate:.0f} requests/s, {len(over.answers):,} in all; the generator was late by at most "
            f"{1000 * over.late_s:.0f} ms |"
        ),
        f"| answers | {told} |",
        f"| answered with a result | {(len(ok) + over.count()['HTTP 200']) / report.seconds:.0f} requests/s |",
        f"| latency of results over HTTP, which has no deadline, p50 / p99 / most | {_ms(over.latencies('HTTP 200'))} |",
        f"| latency of results, p50 / p99 / most | {_ms(ok)} |",
        f"| latency of refusals, p50 / p99 / most | {_ms(refused)} |",
        f"| latency at half the capacity before, p50 / p99 / most | {_ms(report.quiet.latencies())} |",
        f"| memory, first / most / last | {sizes[0]:.0f} / {max(sizes):.0f} / {sizes[-1]:.0f} MB |",
        f"| memory's slope after the first quarter | {slope:+.2f} MB/min, {growth:+.1f} MB in all |",
        f"| health checks, p50 / p99 / most | {_ms(over.health)} |",
        f"| recovered after the load's end | {report.recovery_s:.2f} s |",
        f"| SIGTERM at 0.8 of the capacity | exit {ended.exit_code} after {ended.seconds:.1f} s; the server admitted "
        f"{ended.admitted} and cut {ended.cut}; callers saw "
        + ", ".join(f"{count} {code}" for code, count in ended.seen.count().most_common())
        + " |",
        "\n| must hold | |\n|---|---|",
        *(f"| {what} | {'yes' if held else '**NO**'} |" for what, held in report.checks(times=times).items()),
    ]
    return "\n".join(lines)


def _ms(values: Sequence[float]) -> str:
    return " / ".join(f"{1000 * percentile(values, share):.0f}" for share in (50, 99, 100)) + " ms"


def main() -> None:
    """Install, serve, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of overload")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-times", action="store_true", help="do not judge by the clock: the machine is busy")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        install(home, layers=LAYERS)
        with serving(home, threads=1) as server:
            server.wait_until_ready()
            report = asyncio.run(run(server, wanted.seconds, wanted.seed))
    times = not wanted.no_times
    print(page(report, wanted.seed, times=times))
    if not all(report.checks(times=times).values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
