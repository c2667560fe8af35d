"""A block of similarity scores and the two questions asked of it, on the processor or on a GPU.

`ranks`: at which rank each relevant row stands in the whole gallery, found by counting the scores above it; the
gallery is never ordered by index, and no queries x gallery matrix exists beyond the block. `top`: the K nearest
gallery rows. Both follow one tie rule: falling score, equal scores by rising gallery row.

What differs between numpy and torch is a handful of primitives (`Scores`); everything else is the same code.
Dim names: B queries of the block, N gallery, K depth, P relevant rows of a query (padded), D dim.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import Unavailable

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Values = NDArray[np.float32]

_FEW = 10
"""Up to so many relevant rows a query, counting pass by pass is cheaper than ordering the values once (measured)."""

_COPIES = 4096
"""Columns of copies that are filled at a time: it takes room beside the block."""


class Scores(Protocol):
    """Inner products of B queries with the whole gallery; numpy arrays go in and come out."""

    def leave_out(self, rows: Rows, columns: Rows) -> None:
        """Set these places to -inf: nothing ranks behind them."""
        ...

    def take(self, columns: Rows) -> Values:
        """The scores at `columns` (B, P) of each row, (B, P)."""
        ...

    def count(self, values: Values) -> tuple[Rows, Rows]:
        """How many scores of its row are greater than, and how many equal to, each value (B, P)."""
        ...

    def reaching_kth(self, k: int) -> tuple[Rows, Rows, Values]:
        """Row, column and value of the k largest scores of each row, by row, then column.

        Of equal scores at the end the lowest columns are taken, so that a collapsed gallery is no flood of ties.
        """
        ...

    def equal_before(self, row: int, column: int) -> int:
        """How many scores of `row` equal the one at `column` and stand before it."""
        ...


class Arrays(Protocol):
    """Queries and a gallery on a device."""

    def scores(self, start: int, stop: int) -> Scores:
        """The scores of queries [start, stop); they hold until this thread asks for the next ones."""
        ...


def ranks(scores: Scores, relevant: Rows) -> Floats:
    """Ranks from 1 of the gallery rows `relevant` (B, P) in the whole ranking, ascending; inf where -1.

    A relevant row that was left out of the scores must be -1.
    """
    if relevant.size == 0:
        return np.zeros(relevant.shape)
    greater, equal = scores.count(scores.take(np.maximum(relevant, 0)))
    found = np.asarray(greater + 1.0, np.float64)
    for row, place in np.argwhere((equal > 1) & (relevant >= 0)):
        found[row, place] += scores.equal_before(int(row), int(relevant[row, place]))
    found[relevant < 0] = np.inf
    found.sort(axis=1)
    return found


def top(scores: Scores, count: int, k: int) -> tuple[Rows, Values]:
    """The k nearest of each of `count` queries: gallery rows int64 (B, k) and scores float32 (B, k).

    Where a list ends early, rows are -1 and scores -inf.
    """
    best_rows, best = np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32)
    if not k or not count:
        return best_rows, best
    rows, columns, values = scores.reaching_kth(k)
    kept = np.isfinite(values)  # what was left out is -inf
    rows, columns, values = rows[kept], columns[kept], values[kept]
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    inside = place < k
    best_rows[rows[inside], place[inside]] = columns[inside]
    best[rows[inside], place[inside]] = values[inside]
    return best_rows, best


class HostScores:
    """numpy. `work` holds a copy that is ordered as far as was needed; numpy orders by the processor's vector units."""

    def __init__(self, scores: Values, work: Values) -> None:
        self._scores, self._work, self._ordered = scores, work, False

    def leave_out(self, rows: Rows, columns: Rows) -> None:
        """See `Scores`."""
        self._scores[rows, columns] = -np.inf

    def take(self, columns: Rows) -> Values:
        """See `Scores`."""
        return np.take_along_axis(self._scores, columns, axis=1)

    def count(self, values: Values) -> tuple[Rows, Rows]:
        """See `Scores`."""
        if values.shape[1] > _FEW:
            return self._count_ordered(values)
        greater, equal = np.empty(values.shape, np.int64), np.empty(values.shape, np.int64)
        for row, (line, wanted) in enumerate(zip(self._scores, values, strict=True)):
            for place, value in enumerate(wanted):
                greater[row, place] = np.count_nonzero(line > value)
                equal[row, place] = np.count_nonzero(line == value)
        return greater, equal

    def reaching_kth(self, k: int) -> tuple[Rows, Rows, Values]:
        """See `Scores`."""
        place = self._scores.shape[1] - min(k, self._scores.shape[1])
        if not self._ordered:
            np.copyto(self._work, self._scores)
            self._work.partition(place, axis=1)
        kth = self._work[:, place]
        reaching = self._scores >= kth[:, None]
        if np.count_nonzero(reaching) > k * len(reaching):
            for row in np.flatnonzero(np.count_nonzero(reaching, axis=1) > k):
                tied = np.flatnonzero(self._scores[row] == kth[row])
                reaching[row, tied[k - np.count_nonzero(reaching[row]) :]] = False
        flat = np.flatnonzero(reaching)
        rows, columns = np.divmod(flat, self._scores.shape[1])
        return rows, columns, self._scores.ravel()[flat]

    def equal_before(self, row: int, column: int) -> int:
        """See `Scores`."""
        return int(np.count_nonzero(self._scores[row, :column] == self._scores[row, column]))

    def _count_ordered(self, values: Values) -> tuple[Rows, Rows]:
        np.copyto(self._work, self._scores)
        self._work.sort(axis=1)
        self._ordered = True
        last = self._work.shape[1] - 1
        below = np.stack([np.searchsorted(line, wanted) for line, wanted in zip(self._work, values, strict=True)])
        equal = np.ones(values.shape, np.int64)
        after = np.take_along_axis(self._work, np.minimum(below + 1, last), axis=1)
        for row in np.flatnonzero(((after == values) & (below < last)).any(axis=1)):
            equal[row] = np.searchsorted(self._work[row], values[row], "right") - below[row]
        return last + 1 - below - equal, equal


class HostArrays:
    """numpy. Each thread has its own two blocks of memory, used again and again: fresh pages cost as much as sorting."""

    def __init__(self, queries: Values, gallery: Values) -> None:
        self._queries, self._gallery, self._memory = queries, gallery, threading.local()
        self._copies, self._originals = copies(gallery)

    def scores(self, start: int, stop: int) -> Scores:
        """See `Arrays`."""
        rows = stop - start
        if getattr(self._memory, "rows", 0) < rows:
            self._memory.scores, self._memory.work = np.empty((2, rows, len(self._gallery)), np.float32)
            self._memory.rows = rows
        scores, work = self._memory.scores[:rows], self._memory.work[:rows]
        np.matmul(self._queries[start:stop], self._gallery.T, out=scores)
        for some in range(0, len(self._copies), _COPIES):
            scores[:, self._copies[some : some + _COPIES]] = scores[:, self._originals[some : some + _COPIES]]
        return HostScores(scores, work)


class TorchScores:
    """torch, on the device of its tensor."""

    def __init__(self, scores: torch.Tensor) -> None:
        import torch

        self._torch, self._scores = torch, scores

    def leave_out(self, rows: Rows, columns: Rows) -> None:
        """See `Scores`."""
        self._scores[self._there(rows), self._there(columns)] = -self._torch.inf

    def take(self, columns: Rows) -> Values:
        """See `Scores`."""
        return _host(self._scores.gather(1, self._there(columns)))

    def count(self, values: Values) -> tuple[Rows, Rows]:
        """See `Scores`."""
        ordered, wanted = self._scores.sort(dim=1).values, self._there(values)
        below = self._torch.searchsorted(ordered, wanted)
        upto = self._torch.searchsorted(ordered, wanted, right=True)
        return _host(self._scores.shape[1] - upto), _host(upto - below)

    def reaching_kth(self, k: int) -> tuple[Rows, Rows, Values]:
        """See `Scores`."""
        kth = self._scores.topk(min(k, self._scores.shape[1]), dim=1).values[:, -1:]
        reaching = self._scores >= kth
        for row in self._torch.nonzero(reaching.sum(dim=1) > k)[:, 0].tolist():
            tied = self._torch.nonzero(self._scores[row] == kth[row])[:, 0]
            reaching[row, tied[k - int(reaching[row].sum()) :]] = False
        rows, columns = self._torch.nonzero(reaching, as_tuple=True)
        return _host(rows), _host(columns), _host(self._scores[rows, columns])

    def equal_before(self, row: int, column: int) -> int:
        """See `Scores`."""
        return int((self._scores[row, :column] == self._scores[row, column]).sum())

    def _there(self, array: NDArray[Any]) -> torch.Tensor:
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self._scores.device)


class TorchArrays:
    """torch on a device: the queries stay on the host, the gallery lies on the device."""

    def __init__(self, queries: Values, gallery: Values, device: str) -> None:
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise Unavailable(f"device {device!r} was asked for, but torch finds no CUDA GPU here; use device 'cpu'")
        self._queries, self._gallery = torch.from_numpy(queries), torch.from_numpy(gallery).to(device)
        self._copies, self._originals = (torch.from_numpy(rows).to(device) for rows in copies(gallery))

    def scores(self, start: int, stop: int) -> Scores:
        """See `Arrays`."""
        scores = self._queries[start:stop].to(self._gallery.device) @ self._gallery.T
        if len(self._copies):
            scores[:, self._copies] = scores[:, self._originals]
        return TorchScores(scores)


def copies(gallery: Values) -> tuple[Rows, Rows]:
    """Gallery rows (N, D) that equal an earlier row, and that row: int64 (C,) each.

    A matrix product rounds equal columns differently, by where they stand in its tiles. Their scores are taken from the
    first of them, so that equal vectors are a tie, which the row decides, and not a matter of rounding.
    """
    sums = gallery.sum(axis=1)
    _, places, counts = np.unique(sums, return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    alike = np.flatnonzero(counts[places] > 1).tolist()
    pairs = [(row, seen.setdefault(_content(gallery[row]), row)) for row in alike]
    found = np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _content(vector: Values) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def open_arrays(queries: Values, gallery: Values, device: str) -> Arrays:
    """Queries (Q, D) and gallery (N, D) on `cpu`, or on `cuda` or any other device of torch.

    Raises:
        Unavailable: the device is not there.
    """
    return HostArrays(queries, gallery) if device == "cpu" else TorchArrays(queries, gallery, device)


def _host(tensor: torch.Tensor) -> NDArray[Any]:
    return np.asarray(tensor.cpu().numpy())
