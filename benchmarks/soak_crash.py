"""300 kills over the whole life of an installation: `make soak-crash` prints the page.

Lanes of the crash harness (`tests/crash/lane.py`) run side by side, each over an installation of its own. After its last
kill a real `bentoml serve` is started over what each lane left, asked, killed with SIGKILL, started again and asked again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from random import Random
from typing import Any

import psutil

from benchmarks.soak_server import ROOT, serving
from tests.crash.invariants import wrong_answers
from tests.crash.shop import Shop
from vitrine.progress import bar

Seen = Mapping[str, Any]
SERVED = "bentoml serve"


def main() -> None:
    """Exit code 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--lanes", type=int, default=6, help="installations, each with its share of the kills")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="lanes that run side by side")
    parser.add_argument("--seed", type=int, default=0)
    options, began = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-crash-", ignore_cleanup_errors=True) as name:
        seen = list(bar(_live(Path(name), options), "kills", options.kills))
    problems = [problem for kill in seen for problem in kill["problems"]]
    kills = [kill for kill in seen if kill["operation"] != SERVED]
    print(_page(kills, problems, time.monotonic() - began, options))
    sys.exit(1 if problems or len(kills) != options.kills else 0)


def _live(folder: Path, options: argparse.Namespace) -> Iterator[Seen]:
    """What is seen in all lanes, as it comes."""
    list(_lane(folder, 0, 0))  # makes the template that all of them are copies of
    seen: Queue[Seen] = Queue()
    shares = [len(range(lane, options.kills, options.lanes)) for lane in range(options.lanes)]
    with ThreadPoolExecutor(options.at_once) as pool:
        lanes = [
            pool.submit(_life, folder, options.seed + lane, kills, seen) for lane, kills in enumerate(shares, start=1)
        ]
        while not (all(lane.done() for lane in lanes) and seen.empty()):
            with suppress(Empty):
                yield seen.get(timeout=0.2)
        for lane in lanes:
            lane.result()


def _life(folder: Path, seed: int, kills: int, seen: Queue[Seen]) -> None:
    for kill in _lane(folder, seed, kills):
        seen.put(kill)
    for problem in _served(Shop(folder / f"lane-{seed}", Random(seed))):
        seen.put({"operation": SERVED, "problems": [problem]})


def _lane(folder: Path, seed: int, kills: int) -> Iterator[Seen]:
    command = [sys.executable, "-m", "tests.crash.lane", str(folder), "--seed", str(seed), "--kills", str(kills)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)


def _served(shop: Shop) -> list[str]:
    """What a real server over the remains gets wrong, before and after it was killed itself."""
    found = []
    for _ in range(2):
        with serving(shop.home.root, datasets=shop.home.datasets) as server:
            server.wait_until_ready()
            found += [f"{SERVED}: {problem}" for problem in wrong_answers(shop, server.address)]
            for process in [*psutil.Process(server.process.pid).children(recursive=True), server.process]:
                process.kill()  # a worker outlives a parent that had no time to end it
    return found


def _page(seen: list[Seen], problems: list[str], seconds: float, options: argparse.Namespace) -> str:
    lines = [
        "# Crashes",
        "",
        _how(options, seconds),
        "",
        "Each row: that many processes of the command were killed with SIGKILL, at a named moment or at a random one. After",
        "each kill the registry must fold and every artifact verify, production be the old or the new version, its collection",
        "be complete and its vectors those of the version; then the same command is repeated and must finish, a server in a",
        "new process must answer with the production version and the exact nearest items, and both clean-ups must leave no",
        "half-written file. The processes are forks of an interpreter that has imported the libraries; they run the real",
        "commands, with small chunks so that there is more to be killed between.",
        "",
        "| command | kills | at a named moment | median seconds a round | did not hold |",
        "|---|---:|---:|---:|---:|",
        *_rows(seen),
        "",
        _total(seen, problems, options.lanes),
        *(f"- {problem}" for problem in problems),
    ]
    return "\n".join(lines)


def _how(options: argparse.Namespace, seconds: float) -> str:
    command = f"python -m benchmarks.soak_crash --kills {options.kills} --lanes {options.lanes} --seed {options.seed}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {options.at_once} lanes at once"
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}, {seconds / 60:.1f} minutes."


def _total(seen: list[Seen], problems: list[str], lanes: int) -> str:
    served = f"a `bentoml serve` was started over each of the {lanes} installations, killed and started again"
    return f"Together {len(seen)} kills, {len(problems)} violations; {served}."


def _rows(seen: list[Seen]) -> Iterator[str]:
    by_command: dict[str, list[Seen]] = defaultdict(list)
    for kill in seen:
        by_command[kill["operation"]].append(kill)
    for name, kills in sorted(by_command.items()):
        named = sum(not kill["at"].endswith(" s") for kill in kills)
        bad = sum(bool(kill["problems"]) for kill in kills)
        yield f"| {name} | {len(kills)} | {named} | {statistics.median(k['seconds'] for k in kills):.1f} | {bad} |"


if __name__ == "__main__":
    main()
