"""The way of a request alone: our server and others over a model that sleeps 5 ms, 64 callers, photos of 30 kB."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import uvloop
from comparison import ratio
from systems import CLIENT_CORE, HERE, SERVER_CORE

from vitrine.bench.asking import METHODS, calling, made_photos, requests
from vitrine.bench.latencies import summarise
from vitrine.bench.offering import Offered, keep_asking, offer
from vitrine.bench.processes import usage

CALLERS, SIDE = 64, 360
"""A photo of that side has about 30 kB."""

PORT = 17970


@dataclass(frozen=True)
class Server:
    """A server that answers Embed: its command, without the core it is pinned to."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Taken:
    """Answers a second, server CPU milliseconds an answer, and p50 and p99 in milliseconds."""

    rate: float
    cpu_ms: float
    p50: float
    p99: float


def servers(example: Sequence[str] = ()) -> list[Server]:
    """Ours, the bare one, and another command if one is given; it gets PORT and `on` or `off`."""
    found = [Server(name, [sys.executable, str(HERE / f"{file}.py")]) for name, file in
             (("Vitrine", "fake_vitrine"), ("bare", "bare"))]  # fmt: skip
    return [*found, *([Server("other", example)] if example else [])]


def closed(decoding: str, repeats: int, seconds: float, example: Sequence[str]) -> dict[str, list[Taken]]:
    """All servers in a new order each repeat, 64 callers in a closed loop."""
    bodies = requests("embed", made_photos(16, SIDE))
    found: dict[str, list[Taken]] = {}
    for repeat in range(repeats):
        order = servers(example)
        random.Random(repeat).shuffle(order)
        for server in order:
            found.setdefault(server.name, []).append(_one(server, decoding, bodies, seconds))
        print(f"transport, decoding {decoding}: repeat {repeat + 1} of {repeats}", file=sys.stderr)
    return found


def tails(rate: float, seconds: float, rounds: int, example: Sequence[str]) -> list[list[str]]:
    """All servers at one rate, decoding off, open loop, in turn: a line each of medians over the rounds.

    The generator shares its core with the clients' side of every call, so its own lateness and the bare server's
    latencies say how much of a tail is the server's.
    """
    found: dict[str, list[Offered]] = {}
    for repeat in range(rounds):
        for server in servers(example):
            found.setdefault(server.name, []).append(_offered(server, rate, seconds))
        print(f"open loop: round {repeat + 1} of {rounds}", file=sys.stderr)
    return [_tail(name, taken) for name, taken in found.items()]


def _tail(name: str, taken: Sequence[Offered]) -> list[str]:
    seen = [summarise(one.latencies) for one in taken]
    answered = sum(one.succeeded for one in taken) / sum(one.outcomes.total() for one in taken)
    percentiles = [f"{np.median([getattr(one, field) for one in seen]):.1f}" for field in ("p50", "p99")]
    late_ms = 1000 * float(np.median([one.late_s for one in taken]))
    return [name, *percentiles, f"{100 * answered:.1f} %", f"{late_ms:.1f}"]


def _offered(server: Server, rate: float, seconds: float) -> Offered:
    bodies = requests("embed", made_photos(16, SIDE))
    process = _started(server, "off")

    async def run() -> Offered:
        async with calling(f"127.0.0.1:{PORT}", "embed", bodies, connections=8) as call:
            await keep_asking(call, 8, 1)
            return await offer(call, rate, seconds)

    try:
        return uvloop.run(run())
    finally:
        _stop(process)


def rows(found: dict[str, list[Taken]], others: Sequence[str]) -> list[list[str]]:
    """A line a server; ratios are ours to theirs, paired by repeat."""
    lines = []
    for name in ("Vitrine", *others):
        taken = found[name]
        medians = [f"{np.median([getattr(one, field) for one in taken]):{digits}}" for field, digits in
                   (("rate", ".0f"), ("cpu_ms", ".3f"), ("p50", ".1f"), ("p99", ".1f"))]  # fmt: skip
        beside = ["-", "-"]
        if name != "Vitrine":
            beside = [
                str(ratio([one.rate for one in found["Vitrine"]], [one.rate for one in taken])),
                str(ratio([one.cpu_ms for one in found["Vitrine"]], [one.cpu_ms for one in taken])),
            ]
        lines.append([name, *medians, *beside])
    return lines


def _one(server: Server, decoding: str, bodies: Sequence[bytes], seconds: float) -> Taken:
    process = _started(server, decoding)
    try:
        asyncio.run(_load(bodies, 1.0))
        before = usage(process.pid).cpu_s
        offered = asyncio.run(_load(bodies, seconds))
        cpu_s = usage(process.pid).cpu_s - before
    finally:
        _stop(process)
    if offered.outcomes.keys() != {"OK"}:
        raise SystemExit(f"{server.name} failed: {dict(offered.outcomes)}")
    seen = summarise(offered.latencies)
    assert seen.p50 is not None
    assert seen.p99 is not None
    return Taken(offered.answered_rate, cpu_s / offered.succeeded * 1000, seen.p50, seen.p99)


async def _load(bodies: Sequence[bytes], seconds: float) -> Offered:
    """64 callers, one connection each."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{PORT}", options) for _ in range(CALLERS)]
    stubs = [channel.unary_unary(METHODS["embed"]) for channel in channels]

    async def call(number: int) -> str:
        try:
            await stubs[number % CALLERS](bodies[number % len(bodies)], timeout=30)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    try:
        return await keep_asking(call, CALLERS, seconds)
    finally:
        for channel in channels:
            await channel.close()


def _started(server: Server, decoding: str) -> subprocess.Popen[bytes]:
    command = ["taskset", "-c", SERVER_CORE, *server.command, str(PORT), decoding]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(["."])})
    with grpc.insecure_channel(f"127.0.0.1:{PORT}") as channel:
        grpc.channel_ready_future(channel).result(60)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)
    time.sleep(0.2)


def pin_client() -> None:
    """This process is the client."""
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
