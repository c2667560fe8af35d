"""From the command to ready, for the checkout and for a built bento: `make bench-startup` prints the page."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from soak_server import ROOT, install, serving

REPEATS, LAYERS = 7, 8


def build(home: Path) -> str:
    """The tag of a bento with this installation's production version."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "BENTOML_"))}
    environment |= {
        "BENTOML_HOME": str(home.parent / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "VITRINE_HOME": str(home),
    }
    command = [sys.executable, "-m", "bentoml", "build", "-o", "tag"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")


def started(home: Path, what: str, cwd: Path) -> float:
    """Seconds until `/readyz` is true; then gRPC answers, too, because one says what the other does."""
    with serving(home, what=what, cwd=cwd, settle_s=0) as server:
        return server.wait_until_ready()


def bare() -> float:
    """Seconds that importing what the server imports takes, in a process of its own: twice of it is in every start."""
    command = "import time; began = time.perf_counter(); import services.bento; print(time.perf_counter() - began)"
    environment = os.environ | {"VITRINE_HOME": "/nowhere", "VITRINE_LOG_LEVEL": "error"}
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Install, build, start again and again, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        home, elsewhere = Path(name) / "home", Path(name) / "elsewhere"
        elsewhere.mkdir()
        install(home, layers=LAYERS)
        tag = build(home)
        started(home, "services.bento:Vitrine", ROOT)  # the first one compiles to byte code
        rows: dict[str, list[float]] = {"`vitrine serve` in the checkout": [], "a built bento": [], "imports alone": []}
        for _ in range(repeats):
            rows["`vitrine serve` in the checkout"].append(started(home, "services.bento:Vitrine", ROOT))
            rows["a built bento"].append(started(home, tag, elsewhere))
            rows["imports alone"].append(bare())
    print("# From the command to ready\n")
    print(
        f"`make bench-startup`, {platform.machine()}, {os.cpu_count()} cores, {dt.datetime.now(tz=dt.UTC).date()}. "
        f"Until `/readyz` is true: registry opened, version verified, loaded and warmed up. {repeats} starts each, taking turns.\n"
    )
    print("| | median s | least | most |\n|---|---|---|---|")
    for what, seconds in rows.items():
        print(f"| {what} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
