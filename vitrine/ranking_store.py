"""Results of a ranking while it runs: in memory, or in a folder so that a repeated call goes on where one stopped."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.files import read_json, write_json
from vitrine.relevance import Relevance, Rows

Vectors = NDArray[np.float32]
_FINGERPRINT = "ranking.json"


@dataclass
class Kept:
    """Columns of all queries, filled block by block.

    Attributes:
        metrics: float64 (metrics, Q), in the order of `names`.
        n_relevant: int64 (Q,).
        top_rows, top_scores: (Q, K).
        done: uint8 (blocks,), 1 where a block is whole.
    """

    names: tuple[str, ...]
    metrics: NDArray[np.float64]
    n_relevant: Rows
    top_rows: Rows
    top_scores: Vectors
    done: NDArray[np.uint8]

    def has(self, block: int) -> bool:
        """Whether the block was finished, by this run or an earlier one."""
        return bool(self.done[block])

    def put(
        self, block: int, start: int, columns: dict[str, NDArray[np.float64]], counts: Rows, rows: Rows, best: Vectors
    ) -> None:
        """Keep a block; its mark comes last, so that a killed run leaves no half block marked whole."""
        span = slice(start, start + len(rows))
        for place, name in enumerate(self.names):
            self.metrics[place, span] = columns[name]
        self.n_relevant[span], self.top_rows[span], self.top_scores[span] = counts, rows, best
        self.done[block] = 1

    def flush(self) -> None:
        """Write what is in memory to the folder, marks last."""
        for array in (self.metrics, self.n_relevant, self.top_rows, self.top_scores, self.done):
            if isinstance(array, np.memmap):
                array.flush()


@contextmanager
def keeping(
    folder: Path | None, task: tuple[Vectors, Vectors, Relevance], names: Sequence[str], depth: int, step: int
) -> Iterator[Kept]:
    """Room for the results of `task` (queries, gallery, relevance) in blocks of `step` queries.

    With a folder, blocks that an interrupted run of the same task finished are there already; another task's are
    thrown away. When the block ends without an error the folder is removed.
    """
    if folder is None:
        yield _room(None, tuple(names), len(task[0]), depth, step)
        return
    wanted = {"task": _fingerprint(*task), "names": list(names), "depth": depth, "step": step}
    known = read_json(folder / _FINGERPRINT, "unfinished ranking") if (folder / _FINGERPRINT).is_file() else None
    if known != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    kept = _room(folder, tuple(names), len(task[0]), depth, step)
    write_json(folder / _FINGERPRINT, wanted)
    try:
        yield kept
    except BaseException:
        kept.flush()
        raise
    shutil.rmtree(folder, ignore_errors=True)  # the same command run twice at once may have removed it


def _room(folder: Path | None, names: tuple[str, ...], queries: int, depth: int, step: int) -> Kept:
    blocks = -(-queries // step)
    return Kept(
        names,
        _array(folder, "metrics", (len(names), queries), np.float64),
        _array(folder, "n_relevant", (queries,), np.int64),
        _array(folder, "top_rows", (queries, depth), np.int64),
        _array(folder, "top_scores", (queries, depth), np.float32),
        _array(folder, "done", (blocks,), np.uint8),
    )


def _array(folder: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    if folder is None or 0 in shape:
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    if path.is_file():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _fingerprint(queries: Vectors, gallery: Vectors, relevance: Relevance) -> str:
    digest = hashlib.sha256()
    for array in (queries, gallery, *(getattr(relevance, part.name) for part in fields(relevance))):
        digest.update(b"-" if array is None else f"{array.dtype}{array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
