"""What a version must answer, computed from its collection's files alone, and whether an answer is that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrine.collection import open_collection
from vitrine.encoder import load_encoder
from vitrine.registry import Registry

TIE = 1e-5


@dataclass(frozen=True)
class Answer:
    """One search as it came over the wire.

    Attributes:
        due: when it should have left, on the clock of the load.
        seconds: from due to answered.
        query: which of the photos.
        status: "OK" or the name of a gRPC status.
    """

    due: float
    seconds: float
    query: int
    status: str
    version: int = 0
    collection: str = ""
    item_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


class Truth:
    """Exact scores of every query against every item of one version's collection.

    Args:
        registry: where the version is.
        collections: folder of the collections.
        ref: the version.
        collection: the name of its collection.
        photos: the queries.
        k: hits asked for.
    """

    def __init__(
        self, registry: Registry, collections: Path, ref: str, collection: str, photos: Sequence[bytes], k: int
    ) -> None:
        found = open_collection(collections / collection)
        queries = load_encoder(registry.open(ref), threads=1).embed(list(photos), batch=1).vectors  # (Q, D)
        self.collection = collection
        self.scores: NDArray[np.float64] = queries.astype(np.float64) @ found.vectors.T.astype(np.float64)  # (Q, N)
        self._k = min(k, len(found.item_ids))
        self._row = {item_id: row for row, item_id in enumerate(found.item_ids)}
        self._kth = np.partition(self.scores, -self._k, axis=1)[:, -self._k]  # (Q,)

    def fault(self, answer: Answer) -> str:
        """What is wrong with an answer that names this version, "" if nothing is.

        Right is: K items, none twice, each with its own score, in falling order, and no better item left out; scores
        within `TIE` of each other count as equal.
        """
        rows = [self._row.get(item_id, -1) for item_id in answer.item_ids]
        if answer.collection != self.collection:
            return f"it names collection {answer.collection}"
        if -1 in rows or len(set(rows)) != self._k or len(rows) != self._k:
            return f"{len(set(rows))} items of the collection, {self._k} were asked for"
        true, kth = self.scores[answer.query, rows], self._kth[answer.query]
        if np.abs(true - answer.scores).max() > TIE:
            return f"scores differ from the exact ones by {np.abs(true - answer.scores).max():.2g}"
        if (np.diff(true) > TIE).any():
            return "the order is not by falling score"
        better = set(np.flatnonzero(self.scores[answer.query] > kth + TIE)) - set(rows)
        return f"{len(better)} better items are left out" if better or true.min() < kth - TIE else ""
