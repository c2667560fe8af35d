"""Many callers of a server: open loop, deadlines, what became of each request, memory and health meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import grpc
from soak_server import Served

from vitrine.bench.asking import made_photos
from vitrine.bench.offering import arrivals, send_when_due
from vitrine.v1 import common_pb2, embedding_pb2

EMBED = "/vitrine.v1.Embedding/Embed"
HEALTH = "/grpc.health.v1.Health/Check"
DEADLINE_S = 2.0
HTTP_SHARE, HTTP_TIMEOUT_S = 0.1, 10.0  # HTTP tells the server no deadline

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

    async def one(number: int, due: float) -> None:
        code = await send(number)
        into.answers.append(Answer(due, time.monotonic(), code))

    into.late_s = await send_when_due(one, arrivals(rate, seconds, seed))


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
