"""`make bench-serving`: what serving costs over the bare engine, beside peers; prints benchmarks/serving.md.

The first run makes the peers' environments (.venv-peers, about 5 GB). usage: run.py [--repeats 9] [--images 40] [--peers pytriton,…]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import comparison
import systems
import transport
from comparison import Floor
from installation import install
from models import make

PEERS = {"pytriton": systems.pytriton, "infinity": systems.infinity, "clip-server": systems.clip_server}


def main() -> None:
    """Measure and print."""
    told = _arguments()
    transport.pin_client()
    print(_head())
    if told.part in {"all", "transport"}:
        print(_transport(told.transport_repeats, told.seconds, told.other.split()))
    if told.part in {"all", "engine"}:
        print(
            _engine(told.models.absolute(), told.repeats, told.images, [name for name in told.peers.split(",") if name])
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What serving costs, beside peers.")
    parser.add_argument("--part", choices=("all", "engine", "transport"), default="all")
    parser.add_argument("--repeats", type=int, default=9, help="of the comparison on a real model")
    parser.add_argument("--images", type=int, default=40, help="a system, number of callers and repeat")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--models", type=Path, default=Path(".venv-peers/models"), help="made once and kept")
    parser.add_argument("--transport-repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each transport run")
    parser.add_argument("--other", default="", help="command of one more server of Embed; it gets PORT and on or off")
    return parser.parse_args()


def _engine(models: Path, repeats: int, images: int, peers: Sequence[str]) -> str:
    bundle = make(models)
    photos = sorted((models / "photos").iterdir())
    served = [systems.ours(install(models / "home", bundle, photos[:8]), photos)]
    served += [PEERS[name](models, photos) for name in peers]
    floor = Floor(models / "bundle", photos)
    try:
        for system in served:
            system.start()
        found = comparison.compare(served, floor, repeats, images)
    finally:
        floor.stop()
        for system in served:
            system.stop()
    columns = (
        "server",
        "callers",
        "CPU ms/image",
        "over the floor",
        "theirs / ours",
        "median latency ms",
        "mean batch",
    )
    return (
        f"\n## CLIP ViT-B/32, random weights\n\n{repeats} interleaved repeats of {images} JPEGs (400 x 400) each; one image a request, "
        "closed loop; server on one core, client on the other; one engine thread each. Floor: decoding and ONNX Runtime in one process "
        "at the batch sizes that our server had. Medians; ratios paired by repeat with a 95 % interval.\n\n"
        + _table(columns, comparison.rows(found, [system.name for system in served]))
    )


def _transport(repeats: int, seconds: float, other: Sequence[str]) -> str:
    parts = []
    for decoding in ("off", "on"):
        found = transport.closed(decoding, repeats, seconds, other)
        columns = (
            "server",
            "answers/s",
            "CPU ms/answer",
            "p50 ms",
            "p99 ms",
            "rate, ours / theirs",
            "CPU, ours / theirs",
        )
        parts.append(
            f"\n### Decoding {decoding}\n\n"
            + _table(columns, transport.rows(found, [n for n in found if n != "Vitrine"]))
        )
        if decoding == "off":
            saturation = float(sorted(one.rate for one in found["Vitrine"])[len(found["Vitrine"]) // 2])
    rate = 0.7 * saturation
    calm = transport.tails(rate, 2 * seconds, max(1, repeats // 3), other)
    head = (
        f"\n## The way of a request\n\nA model that sleeps 5 ms whatever the batch; {transport.CALLERS} callers, one connection each, closed loop; "
        f"{repeats} interleaved repeats of {seconds:g} s. `bare` is a loop of 60 lines over the same messages without limits, checks, metrics "
        "or deadlines (benchmarks/serving/bare.py); ours has all of them on.\n"
    )
    tail = (
        f"\n### Open loop at 70 %\n\n{rate:.0f} requests a second at random moments, 70 % of ours above, decoding off; twice batch time and "
        "delay is 14 ms. The generator shares its core with the client's side of the calls.\n\n"
        + _table(("server", "p50 ms", "p99 ms", "answered", "generator late at worst, ms"), calm)
    )
    return head + "".join(parts) + tail


def _head() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return (
        "# Serving: what it costs over the bare engine, and beside peers\n\n`make bench-serving` printed this on "
        f"{dt.datetime.now(tz=dt.UTC).date()} at commit {commit.stdout.strip()}, {platform.system()}, "
        f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}.\n"
    )


def _processor() -> str:
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
