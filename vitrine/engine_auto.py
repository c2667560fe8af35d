"""The quickest engine that this machine can load, found by measuring and told with its measurements."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from vitrine.bundle import Bundle
from vitrine.engines import agree, open_engine, ready
from vitrine.errors import Unavailable, Unsupported, VitrineError
from vitrine.manifest import Graph
from vitrine.ports import Engine, Precision
from vitrine.progress import Track, quiet

BATCHES = (1, 8)
"""What is measured: one caller, and a few at once."""
_ROUNDS = 7

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """One engine's median milliseconds a photo, batch size -> ms; `problem` says why there are none."""

    backend: str
    precision: Precision
    ms: dict[int, float]
    problem: str = ""

    @property
    def score(self) -> float:
        """Geometric mean of the milliseconds over the batch sizes: less is better."""
        return float(np.exp(np.mean(np.log(list(self.ms.values()))))) if self.ms else float("inf")

    def sentence(self) -> str:
        """What was measured, in words."""
        if self.problem:
            return f"{self.backend} {self.precision}: not measured: {self.problem}"
        return f"{self.backend} {self.precision}: " + ", ".join(
            f"{v:.2f} ms a photo at {b}" for b, v in self.ms.items()
        )


def choose(
    bundle: Bundle,
    *,
    engines: Path | None,
    threads: int,
    precision: str = "",
    beside: str = "",
    track: Track = quiet,
) -> Measured:
    """The engine with the lowest geometric mean of ms a photo over `BATCHES`; logs what was measured.

    Args:
        bundle: the version.
        engines: folder of built engines.
        threads: of each engine.
        precision: only engines of this one; "" for any.
        beside: precision of the vectors that are searched; engines that do not agree with them are left out.
        track: progress.

    Raises:
        Unavailable: no engine can be loaded here, or none at the asked precision.
    """
    found = measure(bundle, engines=engines, threads=threads, precision=precision, beside=beside, track=track)
    for one in found:
        _log.info("measured %s", one.sentence())
    best = min(found, key=lambda one: one.score, default=None)
    if best is None or not best.ms:
        wanted = f" at {precision}" if precision else ""
        raise Unavailable(
            f"no engine can run this version here{wanted}: "
            + ("; ".join(one.sentence() for one in found) or "none is ready")
        )
    _log.info("chose %s %s", best.backend, best.precision)
    return best


def measure(
    bundle: Bundle,
    *,
    engines: Path | None,
    threads: int,
    precision: str = "",
    beside: str = "",
    track: Track = quiet,
) -> list[Measured]:
    """Every engine that is ready, on the same random rows, rounds interleaved so that a busy moment hits all alike."""
    graph_name, rows = _rows(bundle)
    pairs = [pair for pair in ready(bundle, engines) if precision in ("", pair[1]) and agree(pair[1], beside)]
    found: list[Measured] = []
    loaded: list[tuple[Measured, Engine]] = []
    for name, exact in track(pairs, "loading engines", len(pairs)):
        try:
            engine = open_engine(bundle, backend_name=name, precision=exact, threads=threads, engines=engines)
            for batch in BATCHES:
                engine.run(graph_name, {_input(bundle, graph_name): rows[:batch]})
        except (VitrineError, RuntimeError) as error:
            found.append(Measured(name, exact, {}, str(error)))
        else:
            loaded.append((Measured(name, exact, {}), engine))
    return found + _timed(loaded, graph_name, _input(bundle, graph_name), rows, track)


def _timed(
    loaded: Sequence[tuple[Measured, Engine]], graph: str, name: str, rows: NDArray[np.generic], track: Track
) -> list[Measured]:
    times: dict[tuple[int, int], list[float]] = {}
    for _ in track(range(_ROUNDS), "measuring engines", _ROUNDS):
        for place, (_, engine) in enumerate(loaded):
            for batch in BATCHES:
                began = time.perf_counter()
                engine.run(graph, {name: rows[:batch]})
                times.setdefault((place, batch), []).append((time.perf_counter() - began) / batch * 1000)
    return [
        Measured(one.backend, one.precision, {batch: median(times[place, batch]) for batch in BATCHES})
        for place, (one, _) in enumerate(loaded)
    ]


def _rows(bundle: Bundle) -> tuple[str, NDArray[np.generic]]:
    graph = bundle.manifest.graphs.get("image")
    if graph is None:
        raise Unsupported("engines are measured on photos; this version has no image graph")
    shape = [int(size) for size in graph.inputs[0].shape[1:]]
    return "image", np.random.default_rng(0).integers(0, 256, (max(BATCHES), *shape), dtype=np.uint8)


def _input(bundle: Bundle, graph: str) -> str:
    found: Graph = bundle.manifest.graphs[graph]
    return found.inputs[0].name
