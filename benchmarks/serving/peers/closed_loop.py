"""A closed loop in threads, driven by lines on standard input; standard library alone, as any environment has it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Ask = Callable[[int, int], None]


def answer_lines(ask: Ask) -> None:
    """For each line `CALLERS IMAGES` ask that often, then print the latencies in seconds as a JSON list."""
    print("ready", flush=True)
    for line in sys.stdin:
        callers, images = map(int, line.split())
        print(json.dumps(run(ask, callers, images)), flush=True)


def run(ask: Ask, callers: int, images: int) -> list[float]:
    """`callers` threads share `images` requests; each asks again when it is answered."""

    def caller(first: int) -> list[float]:
        seen = []
        for number in range(first, images, callers):
            began = time.perf_counter()
            ask(first, number)
            seen.append(time.perf_counter() - began)
        return seen

    with ThreadPoolExecutor(callers) as pool:
        return [seconds for seen in pool.map(caller, range(callers)) for seconds in seen]
