"""The evaluator against bare arithmetic and its peers: `make bench-evaluator` prints benchmarks/evaluator.md.

Every method runs in processes of its own, alternating round by round with the others, on the same seeded vectors.
CPU seconds are of the process; extra memory is its peak less what it held once vectors and libraries were loaded.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from evaluator_methods import CASES, METHODS, ONCE, RUN, Case, Values, data


def child(case: Case, method: str) -> None:
    """Run one method once, after a small run that loads and compiles what it needs; print its figures as JSON."""
    import torch

    torch.set_num_threads(case.threads)
    small = Case(200, 400, case.dim, 20, case.same, case.threads, case.block, 1)
    RUN[method](small, data(small))
    search = data(case)
    held = peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    values = RUN[method](case, search)
    figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "extra": peak_mb() - held}
    print(json.dumps({**figures, "peak": peak_mb(), "values": values}))


def peak_mb() -> float:
    """The most memory this process ever held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_case(case: Case, methods: dict[str, str], name: str) -> dict[str, list[dict[str, Any]]]:
    """All methods in turn, round by round."""
    figures: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    threads = {key: str(case.threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    for turn in range(case.rounds):
        for method in [one for one in methods if not turn or one not in ONCE]:
            print(f"case ({name}) round {turn + 1}/{case.rounds}: {method}", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--case", name, "--method", method]
            done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
            figures[method].append(json.loads(done.stdout.splitlines()[-1]))
    return figures


def page(name: str, case: Case, figures: dict[str, list[dict[str, Any]]]) -> str:
    """The table of one case."""
    middle = {
        method: {key: statistics.median(run[key] for run in runs) for key in ("cpu", "wall", "extra", "peak")}
        for method, runs in figures.items()
    }
    unit = "cpu" if case.threads == 1 else "wall"
    base = middle["floor"][unit]
    same = "query = gallery, itself left out" if case.same else "disjoint"
    title = f"## ({name}) {case.queries:,} x {case.gallery:,} x {case.dim}, {case.classes:,} classes, {same}, threads: {case.threads}"
    kind = "CPU" if unit == "cpu" else "wall"
    said = f"Median of {case.rounds} alternating rounds (torchmetrics: one); the ratio is of {kind} seconds; floor block {case.block}."
    lines = [title, "", said, "", row(["method", "CPU s", "wall s", "ratio to the floor", "extra MB", "peak MB"])]
    lines.append(row(["---"] * 6))
    for method, found in middle.items():
        figures_of = [f"{found['cpu']:.2f}", f"{found['wall']:.2f}", f"{found[unit] / base:.2f}"]
        lines.append(row([METHODS[name][method], *figures_of, f"{found['extra']:.0f}", f"{found['peak']:.0f}"]))
    return "\n".join([*lines, "", *values_table(figures)])


def values_table(figures: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Our value of every metric, and how far each peer that computes it is from it."""
    mine: Values = figures["ours"][0]["values"]
    peers = [method for method, runs in figures.items() if method != "ours" and runs[0]["values"]]
    lines = ["Values; a peer's column is its difference to ours.", "", row(["metric", "ours", *peers])]
    lines.append(row(["---"] * (2 + len(peers))))
    for metric, value in mine.items():
        theirs = [figures[peer][0]["values"].get(metric) for peer in peers]
        lines.append(
            row([f"`{metric}`", f"{value:.6f}", *("" if one is None else f"{one - value:+.1e}" for one in theirs)])
        )
    return lines


def row(cells: list[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Processor and libraries, for the head of the page."""
    from importlib import metadata

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    names = ("numpy", "torch", "faiss-cpu", "pytorch-metric-learning", "torchmetrics", "ranx", "pytrec-eval-terrier")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"{model or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Print the page, or run one method in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--method", choices=RUN)
    given = parser.parse_args()
    if given.method:
        child(CASES[given.case], given.method)
        return
    print("# The evaluator against bare arithmetic and its peers\n\n`make bench-evaluator`\n")
    print(f"{machine()}, {dt.datetime.now(tz=dt.UTC).date()}.\n")
    for name in [given.case] if given.case else CASES:
        print(page(name, CASES[name], measure_case(CASES[name], METHODS[name], name)), flush=True)
        print()


if __name__ == "__main__":
    main()
