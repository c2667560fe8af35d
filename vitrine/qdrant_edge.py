"""Qdrant's engine over a set of vectors, run in a process of its own: what does its graph cost in quality?

The engine holds the interpreter lock while it works, does not survive a fork and lets one process open a folder, so
the caller never imports it: `measure` starts `python -m vitrine.qdrant_edge_process FOLDER` on a folder of its own,
which reads arrays from there and writes arrays back. The folder and the engine's files are gone afterwards.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitrine.errors import Unavailable
from vitrine.files import write_json
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.qdrant_plan import EngineRun, Lists, Pass, QdrantSettings

NOT_INSTALLED = 86
BUILD_STEPS = 2
"""Upload and graph; then one step a pass."""
_ELSEWHERE = "set QDRANT_URL to a Qdrant server, or use --via exact"


def measure(
    vectors: Vectors,
    queries: Vectors,
    passes: Sequence[Pass],
    settings: QdrantSettings | None = None,
    *,
    timeout_s: float = 1800,
    track: Track = quiet,
) -> EngineRun:
    """Index unit vectors (N, D) and ask unit queries (Q, D), in a process of its own.

    Raises:
        Unavailable: the engine is not installed, failed, was killed, or took longer than `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="vitrine-edge-") as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", np.ascontiguousarray(vectors, dtype=np.float32))
        np.save(folder / "queries.npy", np.ascontiguousarray(queries, dtype=np.float32))
        wanted = {
            "settings": asdict(settings or QdrantSettings()),
            "passes": [asdict(one) for one in passes],
            "timeout_s": timeout_s,
        }
        write_json(folder / "wanted.json", wanted)
        _run(folder, timeout_s, BUILD_STEPS + len(passes), track)
        return _answer(folder, passes)


def _run(folder: Path, timeout_s: float, steps: int, track: Track) -> None:
    """Run the process to its end; it says a line after each step."""
    command = [sys.executable, "-m", "vitrine.qdrant_edge_process", str(folder)]
    late = threading.Event()
    with (
        (folder / "stderr.txt").open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):

        def stop() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(timeout_s, stop)
        clock.start()
        try:
            for _ in track(process.stdout or (), "searching Qdrant's engine", steps):
                pass
            process.wait()
        finally:
            clock.cancel()
            process.kill()
    if late.is_set():
        raise Unavailable(
            f"the embedded Qdrant engine did not finish within {timeout_s:.0f} s; "
            "measure fewer items, or set QDRANT_URL to a Qdrant server"
        )
    _refuse_failure(process.returncode, (folder / "stderr.txt").read_text(errors="replace"))


def _refuse_failure(status: int, stderr: str) -> None:
    if status == NOT_INSTALLED:
        raise Unavailable(
            "the embedded Qdrant engine needs qdrant-edge-py, which is not installed; install the extra: "
            f"pip install 'vitrine-embeddings[cpu]', {_ELSEWHERE}"
        )
    if status < 0:
        raise Unavailable(
            f"the embedded Qdrant engine was stopped by {signal.Signals(-status).name}, which often means that "
            f"memory ran out; measure fewer items, {_ELSEWHERE}"
        )
    if status != 0:
        said = stderr.strip().splitlines()
        raise Unavailable(
            f"the embedded Qdrant engine failed (exit {status}): {said[-1] if said else 'it said nothing'}; "
            f"{_ELSEWHERE}"
        )


def _answer(folder: Path, passes: Sequence[Pass]) -> EngineRun:
    said = json.loads((folder / "said.json").read_text())
    waited = said.pop("latency_ms")

    def array(kind: str, one: Pass) -> np.ndarray:
        return np.asarray(np.load(folder / f"{one.name}.{kind}.npy", allow_pickle=False))

    lists = {one.name: Lists(array("rows", one), array("scores", one), waited[one.name]) for one in passes}
    return EngineRun(lists=lists, **said)
