"""Mutated photos and messages against a real server, over gRPC and HTTP: `make soak-fuzz` prints the page.

Each case is drawn from the seed and its number alone, so `--only N` repeats the one that failed. Whatever is sent, the answer
is a result or a precise status; the exit code is 1 where it was not, where the server died, hung, or kept memory.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
from fuzz_cases import METHODS, Case, Cases
from soak_server import Served, install, serving

CASES, LAYERS, CALLERS, TIMEOUT_S = 20_000, 1, 8, 60.0
GROWTH_MB = 150.0
MOST_MB = 1500  # photos at the limit of 50 megapixels are decoded one at a time
PRECISE = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED",
    "HTTP 200", "HTTP 400", "HTTP 404", "HTTP 405", "HTTP 409", "HTTP 429",
}  # fmt: skip


@dataclass
class Found:
    """What became of the cases."""

    codes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    memory: list[float] = field(default_factory=list)
    last: str = ""


class Sender:
    """Sends cases and gives the name of the answer."""

    def __init__(self, server: Served) -> None:
        self._channel = grpc.aio.insecure_channel(server.address)
        self._stubs = {name: self._channel.unary_unary(f"/vitrine.v1.{name}") for name in METHODS}
        self._session = aiohttp.ClientSession()
        self._http = server.http

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await self._channel.close()

    async def send(self, case: Case) -> str:
        """The status of the answer; HTTP's begins with "HTTP"."""
        if not case.target.startswith("/"):
            try:
                await self._stubs[case.target](case.body, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"
        told = await self._post(case)
        # A server may close a kept connection at any time; the request is then sent on a new one.
        return await self._post(case) if told in {"HTTP ClientOSError", "HTTP ServerDisconnectedError"} else told

    async def _post(self, case: Case) -> str:
        limit = aiohttp.ClientTimeout(TIMEOUT_S)
        url = f"{self._http}{case.target}"
        try:
            async with self._session.post(url, data=case.body, headers=case.headers, timeout=limit) as answer:
                told = await answer.read()
                if answer.status != 200 and answer.status < 500 and answer.status not in {404, 405}:
                    json.loads(told)["message"]
                return f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            return f"HTTP {type(error).__name__}"


async def run(server: Served, cases: Cases, numbers: range) -> Found:
    """Send the cases, eight at a time, and look at the server in between."""
    found, sender, rest = Found(), Sender(server), iter(numbers)

    async def caller() -> None:
        for number in rest:
            case = cases[number]
            began = time.monotonic()
            code = await sender.send(case)
            found.slowest_s = max(found.slowest_s, time.monotonic() - began)
            found.codes[code] += 1
            found.kinds[case.kind] += 1
            if code not in PRECISE:
                found.wrong.append(f"case {number}: {case.kind} to {case.target} ({len(case.body)} bytes): {code}")
            if number % 100 == 0:
                found.memory.append(server.rss_mb())

    try:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        found.last = await sender.send(cases.sound())
    finally:
        await sender.close()
    return found


def checks(server: Served, found: Found) -> dict[str, bool]:
    """What must hold."""
    log = server.log.read_text()
    return {
        "every case: a result or a precise status": not found.wrong,
        "a sound request at the end has a result": found.last == "OK",
        "no crash: the same worker to the end": server.process.poll() is None
        and log.count("Service vitrine initialized") == 1,
        f"no hang: each within {TIMEOUT_S:g} s": found.slowest_s < TIMEOUT_S,
        f"memory bounded: never above {MOST_MB:,} MB": max(found.memory) < MOST_MB,
        f"memory given back: at the end at most {GROWTH_MB:g} MB above the start": found.memory[-1] - found.memory[0]
        < GROWTH_MB,
        "nothing unexpected in the log": "failed unexpectedly" not in log and "Traceback" not in log,
    }


def page(found: Found, held: dict[str, bool], numbers: range, seed: int, seconds: float) -> str:
    """The measured page, as Markdown."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.kinds.items()))
    lines = [
        f"# {len(numbers):,} mutated photos and messages\n",
        (
            f"`make soak-fuzz` (`python benchmarks/soak_fuzz.py --cases {len(numbers)} --seed {seed}`), {platform.machine()}, "
            f"{os.cpu_count()} cores, {dt.datetime.now(tz=dt.UTC).date()}. A real `bentoml serve`, {CALLERS} callers.\n"
        ),
        "| | |\n|---|---|",
        f"| cases | {kinds} |",
        f"| answers | {', '.join(f'{code} {count:,}' for code, count in found.codes.most_common())} |",
        f"| time | {seconds:.0f} s; the slowest answer took {found.slowest_s:.2f} s |",
        f"| memory, first / most / last | {found.memory[0]:.0f} / {max(found.memory):.0f} / {found.memory[-1]:.0f} MB |",
        "\n| must hold | |\n|---|---|",
        *(f"| {what} | {'yes' if fine else '**NO**'} |" for what, fine in held.items()),
    ]
    return "\n".join([*lines, *(f"\n    {line}" for line in found.wrong[:20])])


def main() -> None:
    """Install, serve, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="send this case alone")
    wanted = parser.parse_args()
    numbers = range(wanted.cases) if wanted.only is None else range(wanted.only, wanted.only + 1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        install(home, layers=LAYERS)
        with serving(home, threads=2) as server:
            server.wait_until_ready()
            began = time.monotonic()
            found = asyncio.run(run(server, Cases(wanted.seed), numbers))
            seconds = time.monotonic() - began
            found.memory.append(server.rss_mb())
            held = checks(server, found)
            if not all(held.values()):
                sys.stderr.write(server.log.read_text()[-6000:])
    print(page(found, held, numbers, wanted.seed, seconds))
    if not all(held.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
