"""200,000 x 512 through the public command, interrupted and resumed: `make soak-evaluator` prints the page.

The command runs on a terminal of its own, as a person would see it; Ctrl-C is sent when a third of the blocks are done.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import pty
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ITEMS, DIM, CLASSES, THREADS = 200_000, 512, 20_000, 2
LIMIT_MB = 2048


@dataclass(frozen=True)
class Run:
    """How one run of the command ended."""

    code: int
    seconds: float
    shown: str


def main() -> None:
    """Make the vectors, run, interrupt, resume, and print the table."""
    items = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_search(folder, items)
        first = run(folder, interrupt_at=1 / 3)
        done, blocks = finished(folder)
        second = run(folder, interrupt_at=None)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    vectors = items * DIM * 4 / 2**20
    print(f"# {items:,} x {DIM} evaluated, interrupted and resumed\n\n`make soak-evaluator`\n")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {dt.datetime.now(tz=dt.UTC).date()}; "
    )
    print(f"{THREADS} threads, every metric, per-query values, exact search, query = gallery, {CLASSES:,} classes.\n")
    print("| | |\n|---|---|")
    print(f"| first run, Ctrl-C | exit code {first.code} after {first.seconds:.0f} s, {done} of {blocks} blocks kept |")
    print(f"| second run | exit code {second.code} after {second.seconds:.0f} s |")
    print(f"| progress bar seen | {'yes' if 'ranking' in first.shown and 'ranking' in second.shown else 'NO'} |")
    print(f"| peak memory of the command | {peak:.0f} MB, of which the vectors are {vectors:.0f} MB |")
    if second.code or not 0 < done < blocks or peak > LIMIT_MB or "ranking" not in second.shown:
        sys.exit("the run did not hold what it should; see the table")


def write_search(folder: Path, items: int) -> None:
    """Seeded clustered unit vectors and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, items)
    centres = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    vectors = np.lib.format.open_memmap(folder / "v.npy", mode="w+", dtype=np.float32, shape=(items, DIM))
    for start in range(0, items, 10_000):
        rows = labels[start : start + 10_000]
        some = centres[rows] + 2 * rng.standard_normal((len(rows), DIM), dtype=np.float32)
        vectors[start : start + 10_000] = some / np.linalg.norm(some, axis=1, keepdims=True)
    vectors.flush()
    lines = [f"i{row:06d},c{label}" for row, label in enumerate(labels)]
    (folder / "l.csv").write_text("\n".join(["item_id,label", *lines]) + "\n")


def run(folder: Path, *, interrupt_at: float | None) -> Run:
    """The command on a pseudo-terminal; with `interrupt_at` Ctrl-C comes when that share of the blocks is done."""
    command = [Path(sys.executable).with_name("vitrine"), "evaluate", "--vectors", "v.npy", "--labels", "l.csv"]
    command += ["--via", "exact", "--threads", str(THREADS)]
    ours, theirs = pty.openpty()
    began = time.perf_counter()
    environment = {**os.environ, "VITRINE_HOME": str(folder / "home"), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown: list[bytes] = []
    reader = threading.Thread(target=drain, args=(ours, shown))
    reader.start()
    while process.poll() is None:
        done, blocks = finished(folder)
        if interrupt_at is not None and blocks and done >= interrupt_at * blocks:
            process.send_signal(signal.SIGINT)
            process.wait()
        time.sleep(0.2)
    reader.join()
    return Run(process.returncode, time.perf_counter() - began, b"".join(shown).decode(errors="replace"))


def drain(terminal: int, shown: list[bytes]) -> None:
    """Keep what the command writes until it hangs up."""
    while True:
        try:
            data = os.read(terminal, 65_536)
        except OSError:
            return
        if not data:
            return
        shown.append(data)


def finished(folder: Path) -> tuple[int, int]:
    """Blocks done and blocks in all of the unfinished ranking; (0, 0) where there is none."""
    for path in folder.glob("home/unfinished/*/done.npy"):
        try:
            marks = np.load(path, mmap_mode="r")
        except (ValueError, OSError):  # just being made
            continue
        return int(marks.sum()), len(marks)
    return 0, 0


if __name__ == "__main__":
    main()
