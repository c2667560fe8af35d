"""Titles run at a few lengths: as many tokens as they have, and not the whole context of the text tower.

Where a graph takes texts of any length, padding is cut to the smallest of `lengths_of` that covers a text. The lengths
are few because engines prepare themselves for each one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrine.manifest import Graph
from vitrine.ports import Vectors

LENGTH = "length"
"""What a manifest calls the second axis of token ids that may have any size."""
SHORT = (8, 16, 32)
_WORTH_A_RUN = 16  # tokens: a run costs about as many, for reading the weights (benchmarks/serving-notes.md)


def lengths_of(graph: Graph, context_length: int) -> tuple[int, ...]:
    """The lengths at which a text graph is run, rising; the last one is its context, the only one of a fixed graph."""
    short = SHORT if graph.inputs[0].shape[1] == LENGTH else ()
    return (*(length for length in short if length < context_length), context_length)


def run_by_length(
    tokens: NDArray[np.int64],
    real: NDArray[np.int64],
    lengths: Sequence[int],
    run: Callable[[NDArray[np.int64]], Vectors],
) -> Vectors:
    """Vectors (B, D) in the order of the texts, each run at a length that covers it.

    Args:
        tokens: ids (B, L), padded to one length.
        real: how many ids of each text are no padding, (B,).
        lengths: rising; the last one is L.
        run: one batch of one length (b, l) through the graph, giving (b, D).
    """
    if len(lengths) == 1 or not len(tokens):
        return run(tokens)
    parts = [(rows, run(tokens[rows, :length])) for length, rows in _groups(real, lengths)]
    vectors = np.empty((len(tokens), parts[0][1].shape[1]), np.float32)
    for rows, found in parts:
        vectors[rows] = found
    return vectors


def _groups(real: NDArray[np.int64], lengths: Sequence[int]) -> list[tuple[int, NDArray[np.intp]]]:
    """Length -> places of the texts that run at it; a few go along with the next longer ones, never with shorter ones."""
    smallest = np.asarray(lengths)[np.searchsorted(np.asarray(lengths), real)]
    used = np.unique(smallest).tolist()
    found: list[tuple[int, NDArray[np.intp]]] = []
    waiting: list[int] = []
    for length, longer in itertools.zip_longest(used, used[1:]):
        waiting += np.flatnonzero(smallest == length).tolist()
        if longer is None or len(waiting) * (longer - length) > _WORTH_A_RUN:
            found.append((length, np.array(waiting)))
            waiting = []
    return found
