"""The load of the promotion soak: quiet, beside switches, beside a full build."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc

from benchmarks.exact_answers import Answer
from benchmarks.promotion_switcher import Switcher
from benchmarks.soak_server import Served
from vitrine.bench.asking import METHODS, calling, requests
from vitrine.bench.latencies import summarise
from vitrine.bench.offering import arrivals, keep_asking, offer, send_when_due
from vitrine.bench.saturation import Goal, saturate, sustained
from vitrine.home import Home
from vitrine.names import collection_name
from vitrine.v1 import search_pb2

K, WINDOW_S, CONNECTIONS = 10, 5.0, 8


@dataclass(frozen=True)
class Course:
    """The run: two versions of a model, the queries, and how long each part takes."""

    model: str
    versions: tuple[int, int]
    catalogue: str
    switches: int
    every_s: float
    quiet_s: float
    step_s: float
    seed: int

    def collection(self, number: int) -> str:
        """The collection of a version."""
        return collection_name(self.catalogue, self.model, number)


@dataclass
class Seen:
    """What the load saw.

    Attributes:
        answers: in order of their ends.
        switched: (second of the switch, version), on the clock of the answers.
        late_s: how far the generator fell behind at worst.
    """

    answers: list[Answer] = field(default_factory=list)
    switched: list[tuple[float, int]] = field(default_factory=list)
    late_s: float = 0.0


@dataclass(frozen=True)
class Result:
    """Everything measured."""

    saturation: float
    rate: float
    quiet: Seen
    switching: Seen
    building: Seen
    build_s: float


async def run(course: Course, home: Home, server: Served, photos: Sequence[bytes], cores: Sequence[int]) -> Result:
    """Find the saturation, then load at half of it: quiet, with switches, with a build beside.

    Args:
        course: what to do for how long.
        home: the copy that the server follows.
        server: ready, with the first version live.
        photos: the queries.
        cores: that a builder may use.
    """
    bodies = requests("search", photos, K)
    saturation = await _saturation(server.address, bodies, course.step_s)
    rate = saturation / 2
    say = lambda what: print(f"{datetime.now(tz=UTC):%H:%M:%S} {what}", file=sys.stderr)  # noqa: E731
    say(f"saturation {saturation:.0f} searches/s; load {rate:.0f}/s")
    quiet = await _load(server.address, bodies, rate, course.quiet_s, course.seed)
    say(f"quiet: p99 {p99(quiet.answers):.1f} ms; {course.switches} switches begin")
    with Switcher(course.model, course.catalogue) as switcher:
        switching = await _load(
            server.address, bodies, rate, course.switches * course.every_s + WINDOW_S, course.seed + 1, course, switcher
        )
    say("building")
    building, build_s = await _during_build(course, home, server.address, bodies, rate, cores)
    return Result(saturation, rate, quiet, switching, building, build_s)


async def _saturation(address: str, bodies: Sequence[bytes], step_s: float) -> float:
    """The highest rate that is sustained with every answer right and a 99th percentile under 200 ms."""
    goal = Goal(p99_ms=200)
    async with calling(address, "search", bodies, connections=CONNECTIONS) as call:
        warm = await keep_asking(call, 4, step_s)
        runs = await saturate(lambda rate: offer(call, rate, step_s), goal, start=max(4.0, warm.answered_rate / 2))
    best = sustained(runs, goal)
    if best is None:
        sys.exit(f"the server sustains no rate: {[dict(run.outcomes) for run in runs]}")
    return best.rate


async def _load(
    address: str,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    seed: int,
    course: Course | None = None,
    switcher: Switcher | None = None,
) -> Seen:
    """Open-loop searches at a rate; with a switcher, a promotion or a rollback every so often beside them."""
    seen, began = Seen(), time.monotonic()
    async with AsyncExitStack() as stack:
        stubs = []
        for number in range(CONNECTIONS):
            options = [("grpc.use_local_subchannel_pool", 1), ("vitrine.connection", number)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options))
            stubs.append(
                channel.unary_unary(METHODS["search"], response_deserializer=search_pb2.SearchResponse.FromString)
            )

        async def ask(number: int, due_at: float) -> None:
            query, due = number % len(bodies), due_at - began
            try:
                found = await stubs[number % CONNECTIONS](bodies[query], timeout=10)
            except grpc.aio.AioRpcError as error:
                seen.answers.append(Answer(due, time.monotonic() - due_at, query, str(error.code().name)))
                return
            took, hits = time.monotonic() - due_at, found.hits
            ids, scores = tuple(hit.item_id for hit in hits), tuple(hit.score for hit in hits)
            seen.answers.append(Answer(due, took, query, "OK", found.version.version, found.collection, ids, scores))

        switches = asyncio.create_task(_switches(course, switcher, began, seen)) if course and switcher else None
        seen.late_s = await send_when_due(ask, arrivals(rate, seconds, seed))
        if switches is not None:
            await switches
    return seen


async def _switches(course: Course, switcher: Switcher, began: float, seen: Seen) -> None:
    """Promote the second version, roll back to the first, and so on."""
    for number in range(course.switches):
        await asyncio.sleep(max(0.0, began + number * course.every_s + 1 - time.monotonic()))
        what, version = ("rollback", course.versions[0]) if number % 2 else ("promote", course.versions[1])
        at = await asyncio.to_thread(switcher.ask, what, version)
        seen.switched.append((at - began, version))


async def _during_build(
    course: Course, home: Home, address: str, bodies: Sequence[bytes], rate: float, cores: Sequence[int]
) -> tuple[Seen, float]:
    """The load while the second version embeds the whole catalogue again, niced, with one thread, on all cores."""
    shutil.rmtree(home.collections / course.collection(course.versions[1]))
    command = ["promote", f"{course.model}@{course.versions[1]}", "--catalogue", course.catalogue, "--build-only"]
    quoted = [*command, "--index", "exact", "--threads", "1", "--nice", "19"]
    began = time.monotonic()
    builder = await asyncio.create_subprocess_exec(
        "taskset", "-c", ",".join(map(str, cores)), sys.executable, "-c", "from vitrine.cli import main; main()", *quoted,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    _lower_session(builder.pid)
    ended = asyncio.create_task(builder.wait())
    seen = Seen()
    while not ended.done():
        part = await _load(address, bodies, rate, 5.0, course.seed + 2)
        seen.answers += part.answers
        seen.late_s = max(seen.late_s, part.late_s)
    if ended.result():
        sys.exit(f"the build ended with {ended.result()}")
    return seen, time.monotonic() - began


def _lower_session(pid: int) -> None:
    """Linux shares cores between sessions first (autogroups), and by nice values only within one."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("19")


def p99(answers: Sequence[Answer]) -> float:
    """Milliseconds; NaN without an answer."""
    return summarise([answer.seconds for answer in answers]).p99 or float("nan")
