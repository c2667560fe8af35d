"""Repeats in turn, then medians with an interval: what serving costs over the floor, and beside the peers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from systems import HERE, SERVER_CORE, System

CALLERS = (1, 8)


@dataclass(frozen=True)
class Cell:
    """One system at one number of callers in one repeat: CPU milliseconds an image, median latency in ms, mean batch."""

    cpu_ms: float
    latency_ms: float
    batch: float = float("nan")


class Floor:
    """The in-process floor, pinned where the servers are."""

    def __init__(self, bundle: Path, photos: Sequence[Path]) -> None:
        command = ["taskset", "-c", SERVER_CORE, sys.executable, str(HERE / "floor.py"), str(bundle), *map(str, photos)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"

    def run(self, images: int, batch: float) -> float:
        """CPU milliseconds an image, in batches of the given mean size."""
        assert self._process.stdin is not None
        sizes = spread(images, batch)
        self._process.stdin.write(json.dumps(sizes) + "\n")
        self._process.stdin.flush()
        return float(self._line()) / images * 1000

    def stop(self) -> None:
        """End it."""
        self._process.kill()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def spread(images: int, batch: float) -> list[int]:
    """Whole batch sizes that sum to `images` with that mean, as even as can be."""
    count = max(1, round(images / batch))
    edges = np.linspace(0, images, count + 1).round().astype(int)
    return [int(size) for size in np.diff(edges) if size]


def compare(systems: Sequence[System], floor: Floor, repeats: int, images: int) -> dict[tuple[str, int], list[Cell]]:
    """All systems and the floor in a new order each repeat. The floor takes the batch sizes that our server had."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for system in systems:
        for callers in CALLERS:
            system.ask(callers, 2 * callers)  # first requests pay for set-up
    for repeat in range(repeats):
        order = list(systems)
        random.Random(repeat).shuffle(order)
        for callers in CALLERS:
            for system in order:
                cell = _cell(system, callers, images)
                found.setdefault((system.name, callers), []).append(cell)
                if system.metrics_port:
                    floor_ms = floor.run(images, cell.batch)
                    found.setdefault(("floor", callers), []).append(Cell(floor_ms, float("nan"), cell.batch))
        print(f"repeat {repeat + 1} of {repeats}", file=sys.stderr)
    return found


def _cell(system: System, callers: int, images: int) -> Cell:
    before = system.batches() if system.metrics_port else (0.0, 0.0)
    cpu_s, seen = system.ask(callers, images)
    batch = float("nan")
    if system.metrics_port:
        after = system.batches()
        batch = (after[0] - before[0]) / (after[1] - before[1])
    return Cell(cpu_s / images * 1000, float(np.median(seen)) * 1000, batch)


@dataclass(frozen=True)
class Ratio:
    """Median over repeats of a paired ratio, with its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(above: Sequence[float], below: Sequence[float], draws: int = 10_000) -> Ratio:
    """The median of paired ratios; the interval resamples the repeats."""
    pairs = np.asarray(above) / np.asarray(below)
    drawn = np.random.default_rng(0).integers(0, len(pairs), (draws, len(pairs)))
    low, high = np.quantile(np.median(pairs[drawn], axis=1), [0.025, 0.975])
    return Ratio(float(np.median(pairs)), float(low), float(high))


def rows(found: Mapping[tuple[str, int], list[Cell]], names: Sequence[str]) -> list[list[str]]:
    """A line a system and number of callers."""
    lines = []
    for callers in CALLERS:
        floor = [cell.cpu_ms for cell in found["floor", callers]]
        mine = [cell.cpu_ms for cell in found["Vitrine", callers]]
        for name in ("floor", *names):
            cells = found[name, callers]
            cpu = [cell.cpu_ms for cell in cells]
            beside = "-" if name in {"floor", "Vitrine"} else _beside(ratio(cpu, mine))
            lines.append(
                [name, str(callers), f"{np.median(cpu):.1f}", "1" if name == "floor" else str(ratio(cpu, floor)), beside,
                 *(f"{np.median(values):.1f}" if np.isfinite(values).all() else "-"
                   for values in ([cell.latency_ms for cell in cells], [cell.batch for cell in cells]))]
            )  # fmt: skip
    return lines


def _beside(found: Ratio) -> str:
    words = "ours is cheaper" if found.low > 1 else "ours is dearer" if found.high < 1 else "no difference shown"
    return f"{found}: {words}"
