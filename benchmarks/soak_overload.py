"""Five times as many requests as the server can answer, over gRPC and HTTP: `make soak-overload` prints the page.

    capacity -> quiet -> overload -> recovery -> SIGTERM under load

Open loop: a request leaves when it is due, however slowly answers come, and has a deadline. What must hold is in `checks`;
the exit code is 1 where it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import itertools
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import numpy as np
from soak_server import Served, install, serving

from vitrine.bench.asking import made_photos
from vitrine.v1 import common_pb2, embedding_pb2

EMBED = "/vitrine.v1.Embedding/Embed"
HEALTH = "/grpc.health.v1.Health/Check"
FACTOR, SECONDS, DEADLINE_S, LAYERS = 5, 600, 2.0, 20
HTTP_SHARE, HTTP_TIMEOUT_S = 0.1, 10.0  # HTTP tells the server no deadline
RECOVERY_S = 2.0
SLACK_S = 0.1  # a deadline is the caller's clock; the answer has to come back through a loaded client
GROWTH_MB = 40.0

Send = Callable[[int], Awaitable[str]]


@dataclass(frozen=True)
class Answer:
    """One request: when it was due and answered (seconds on the monotonic clock), and what came back."""

    due: float
    at: float
    code: str

    @property
    def seconds(self) -> float:
        """From due to answered."""
        return self.at - self.due


@dataclass
class Phase:
    """What became of a phase's requests, and the server's memory meanwhile."""

    answers: list[Answer] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    late_s: float = 0.0

    def count(self) -> Counter[str]:
        """Answers by code."""
        return Counter(answer.code for answer in self.answers)

    def latencies(self, code: str = "OK") -> list[float]:
        """Seconds of the answers of a code."""
        return [answer.seconds for answer in self.answers if answer.code == code]


def arrivals(rate: float, seconds: float, seed: int) -> Sequence[float]:
    """When requests are due, in seconds from the start: a Poisson process."""
    draw, times, at = random.Random(seed), [], 0.0
    while (at := at + draw.expovariate(rate)) < seconds:
        times.append(at)
    return times


class Callers:
    """Many callers: 16 gRPC connections and an HTTP session, each request a photo with a deadline."""

    def __init__(self, server: Served) -> None:
        photos = made_photos(16)
        self._bodies = photos
        self._messages = [
            embedding_pb2.EmbedRequest(
                items=[common_pb2.Item(images=[common_pb2.Image(data=photo)])]
            ).SerializeToString()
            for photo in photos
        ]
        self._channels = [
            grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1), ("soak", n)])
            for n in range(16)
        ]
        self._stubs = itertools.cycle([channel.unary_unary(EMBED) for channel in self._channels])
        self._health = self._channels[0].unary_unary(HEALTH)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._url = f"{server.http}/v1/embed"

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()
        for channel in self._channels:
            await channel.close()

    async def rpc(self, number: int) -> str:
        """One call over gRPC: "OK", or the status; a refusal must say when to try again."""
        try:
            await next(self._stubs)(self._messages[number % len(self._messages)], timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            code = str(error.code().name)
            detail = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            return f"{code} without RetryInfo" if code == "RESOURCE_EXHAUSTED" and b"RetryInfo" not in detail else code
        return "OK"

    async def post(self, number: int) -> str:
        """One call over HTTP: its status; a refusal must say when to try again."""
        body = self._bodies[number % len(self._bodies)]
        try:
            limit = aiohttp.ClientTimeout(HTTP_TIMEOUT_S)
            async with self._http.post(self._url, data=body, timeout=limit) as answer:
                await answer.read()
                told = "" if answer.status != 429 or "Retry-After" in answer.headers else " without Retry-After"
                return f"HTTP {answer.status}{told}"
        except TimeoutError:
            return "DEADLINE_EXCEEDED"
        except aiohttp.ClientError as error:
            return f"HTTP {type(error).__name__}"

    async def mixed(self, number: int) -> str:
        """A tenth over HTTP; its results are called "HTTP 200"."""
        return await (self.post(number) if number % round(1 / HTTP_SHARE) == 0 else self.rpc(number))

    async def health_s(self) -> float:
        """Seconds that a health check takes."""
        began = time.monotonic()
        await self._health(b"", timeout=5)
        return time.monotonic() - began


async def offer(send: Send, rate: float, seconds: float, seed: int, into: Phase) -> None:
    """Send at `rate` a second for `seconds`, then wait for the answers."""
    began, tasks = time.monotonic(), []

    async def one(number: int, due: float) -> None:
        code = await send(number)
        into.answers.append(Answer(due, time.monotonic(), code))

    for number, at in enumerate(arrivals(rate, seconds, seed)):
        wait = began + at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        into.late_s = max(into.late_s, time.monotonic() - began - at)
        tasks.append(asyncio.create_task(one(number, began + at)))
    await asyncio.gather(*tasks)


async def watch(server: Served, callers: Callers, into: Phase) -> None:
    """Memory and health, once a second until cancelled."""
    while True:
        into.memory.append((time.monotonic(), server.rss_mb()))
        into.health.append(await callers.health_s())
        await asyncio.sleep(1.0)


async def capacity(callers: Callers, seconds: float) -> float:
    """Answers a second with 16 callers that ask, wait and ask again."""
    ended, codes = time.monotonic() + seconds, Counter[str]()

    async def caller(number: int) -> None:
        while time.monotonic() < ended:
            codes[await callers.rpc(number)] += 1

    began = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(16)))
    return codes["OK"] / (time.monotonic() - began)


async def recover(callers: Callers, quiet_s: float, since: float) -> float:
    """Seconds after `since` from which single requests are answered as fast as in quiet (within twice its p99)."""
    good_since, good = 0.0, 0
    while good < 20 and time.monotonic() - since < 30:
        began = time.monotonic()
        fine = await callers.rpc(0) == "OK" and time.monotonic() - began <= 2 * quiet_s
        good_since = (good_since or began) if fine else 0.0
        good = good + 1 if fine else 0
        await asyncio.sleep(0.05)
    return max(0.0, good_since - since) if good >= 20 else float("inf")


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
