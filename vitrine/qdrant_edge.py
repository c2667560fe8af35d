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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitrine.errors import Unavailable
from vitrine.files import write_json
from vitrine.ports import Vectors
from vitrine.qdrant_plan import EngineRun, Lists, Pass, QdrantSettings

NOT_INSTALLED = 86
_ELSEWHERE = "set QDRANT_URL to a Qdrant server, or use --via exact"


def measure(
    vectors: Vectors,
    queries: Vectors,
    passes: Sequence[Pass],
    settings: QdrantSettings | None = None,
    *,
    timeout_s: float = 1800,
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
        _run(folder, timeout_s)
        return _answer(folder, passes)


def _run(folder: Path, timeout_s: float) -> None:
    command = [sys.executable, "-m", "vitrine.qdrant_edge_process", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"the embedded Qdrant engine did not finish within {timeout_s:.0f} s; "
            "measure fewer items, or set QDRANT_URL to a Qdrant server"
        ) from error
    if done.returncode == NOT_INSTALLED:
        raise Unavailable(
            "the embedded Qdrant engine needs qdrant-edge-py, which is not installed; install the extra: "
            f"pip install 'vitrine-embeddings[cpu]', {_ELSEWHERE}"
        )
    if done.returncode < 0:
        raise Unavailable(
            f"the embedded Qdrant engine was stopped by {signal.Signals(-done.returncode).name}, which often means that "
            f"memory ran out; measure fewer items, {_ELSEWHERE}"
        )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Unavailable(
            f"the embedded Qdrant engine failed (exit {done.returncode}): {said[-1] if said else 'it said nothing'}; "
            f"{_ELSEWHERE}"
        )


def _answer(folder: Path, passes: Sequence[Pass]) -> EngineRun:
    said = json.loads((folder / "said.json").read_text())
    waited = said.pop("latency_ms")

    def array(kind: str, one: Pass) -> np.ndarray:
        return np.asarray(np.load(folder / f"{one.name}.{kind}.npy", allow_pickle=False))

    lists = {one.name: Lists(array("rows", one), array("scores", one), waited[one.name]) for one in passes}
    return EngineRun(lists=lists, **said)
