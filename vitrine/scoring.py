"""A block of similarity scores and the two questions asked of it, on the processor or on a GPU.

`top`: the K nearest gallery rows. `ranks`: at which rank each relevant row stands in the whole gallery, found by
counting the scores above it; the gallery is never ordered by index, and no queries x gallery matrix exists beyond
the block. Both follow one tie rule: falling score, equal scores by rising gallery row.

What differs between numpy and torch is a handful of primitives (`Arrays`); everything else is the same code.
Dim names: B queries of the block, N gallery, K depth, P relevant rows of a query (padded), D dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import Unavailable

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Scores = Any
"""float32 (B, N): a numpy array or a torch tensor, as the `Arrays` in use make them."""

_FEW = 10
"""Up to so many relevant rows a query, counting pass by pass is cheaper than sorting values once (measured)."""


class Arrays(Protocol):
    """The primitives; scores go in, small numpy arrays come out."""

    def scores(self, start: int, stop: int) -> Scores:
        """Inner products of queries [start, stop) with the whole gallery, float32 (B, N)."""
        ...

    def leave_out(self, scores: Scores, rows: Rows, columns: Rows) -> None:
        """Set these places to -inf: nothing ranks behind them."""
        ...

    def take(self, scores: Scores, columns: Rows) -> Scores:
        """scores[i, columns[i, j]] as (B, P)."""
        ...

    def kth(self, scores: Scores, k: int) -> Scores:
        """The k-th largest score of each row, (B, 1)."""
        ...

    def at_least(self, scores: Scores, threshold: Scores) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """Rows, columns and values of every score that reaches its row's threshold, by row, then column."""
        ...

    def count(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """How many scores of its row are greater than, and how many equal to, each value (B, P)."""
        ...

    def count_sorted(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """As `count`, by one sort of the values; faster for many values a row."""
        ...

    def equal_before(self, scores: Scores, row: int, column: int) -> int:
        """How many scores of `row` equal the one at `column` and stand before it."""
        ...


def top(arrays: Arrays, scores: Scores, k: int) -> tuple[Rows, NDArray[np.float32]]:
    """The k nearest: gallery rows int64 (B, k) with -1, and scores float32 (B, k) with -inf, where a list ends early."""
    count = len(scores)
    best_rows, best = np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32)
    if not k or not count:
        return best_rows, best
    rows, columns, values = arrays.at_least(scores, arrays.kth(scores, k))
    kept = np.isfinite(values)  # what was left out is -inf
    rows, columns, values = rows[kept], columns[kept], values[kept]
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    inside = place < k
    best_rows[rows[inside], place[inside]] = columns[inside]
    best[rows[inside], place[inside]] = values[inside]
    return best_rows, best


def ranks(arrays: Arrays, scores: Scores, relevant: Rows) -> Floats:
    """Ranks from 1 of the gallery rows `relevant` (B, P) in the whole ranking, ascending; inf where -1.

    A relevant row that was left out of the scores must be -1.
    """
    if relevant.size == 0:
        return np.zeros(relevant.shape)
    values = arrays.take(scores, np.maximum(relevant, 0))
    counting = arrays.count if relevant.shape[1] <= _FEW else arrays.count_sorted
    greater, equal = counting(scores, values)
    found = np.asarray(greater + 1.0, np.float64)
    for row, place in np.argwhere((equal > 1) & (relevant >= 0)):
        found[row, place] += arrays.equal_before(scores, int(row), int(relevant[row, place]))
    found[relevant < 0] = np.inf
    found.sort(axis=1)
    return found


class HostArrays:
    """numpy: one thread a block; numpy's sort and partition use the processor's vector units."""

    def __init__(self, queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> None:
        self._queries, self._gallery = queries, gallery

    def scores(self, start: int, stop: int) -> Scores:
        """See `Arrays`."""
        return self._queries[start:stop] @ self._gallery.T

    def leave_out(self, scores: Scores, rows: Rows, columns: Rows) -> None:
        """See `Arrays`."""
        scores[rows, columns] = -np.inf

    def take(self, scores: Scores, columns: Rows) -> Scores:
        """See `Arrays`."""
        return np.take_along_axis(scores, columns, axis=1)

    def kth(self, scores: Scores, k: int) -> Scores:
        """See `Arrays`."""
        place = scores.shape[1] - min(k, scores.shape[1])
        return np.partition(scores, place, axis=1)[:, place, None]

    def at_least(self, scores: Scores, threshold: Scores) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """See `Arrays`."""
        flat = np.flatnonzero(scores >= threshold)
        rows, columns = np.divmod(flat, scores.shape[1])
        return rows, columns, scores.ravel()[flat]

    def count(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """See `Arrays`."""
        greater, equal = np.empty(values.shape, np.int64), np.empty(values.shape, np.int64)
        for row, (line, wanted) in enumerate(zip(scores, values, strict=True)):
            for place, value in enumerate(wanted):
                greater[row, place] = np.count_nonzero(line > value)
                equal[row, place] = np.count_nonzero(line == value)
        return greater, equal

    def count_sorted(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """See `Arrays`."""
        below, upto = np.empty(values.shape, np.int64), np.empty(values.shape, np.int64)
        for row, line in enumerate(np.sort(scores, axis=1)):
            below[row] = np.searchsorted(line, values[row], "left")
            upto[row] = np.searchsorted(line, values[row], "right")
        return scores.shape[1] - upto, upto - below

    def equal_before(self, scores: Scores, row: int, column: int) -> int:
        """See `Arrays`."""
        return int(np.count_nonzero(scores[row, :column] == scores[row, column]))


class TorchArrays:
    """torch on a device: the queries stay on the host, the gallery lies on the device."""

    def __init__(self, queries: NDArray[np.float32], gallery: NDArray[np.float32], device: str) -> None:
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise Unavailable(f"device {device!r} was asked for, but torch finds no CUDA GPU here; use device 'cpu'")
        self._torch, self._queries = torch, torch.from_numpy(queries)
        self._gallery = torch.from_numpy(gallery).to(device)

    def scores(self, start: int, stop: int) -> Scores:
        """See `Arrays`."""
        return self._queries[start:stop].to(self._gallery.device) @ self._gallery.T

    def leave_out(self, scores: Scores, rows: Rows, columns: Rows) -> None:
        """See `Arrays`."""
        scores[self._torch.from_numpy(rows), self._torch.from_numpy(columns)] = -self._torch.inf

    def take(self, scores: Scores, columns: Rows) -> Scores:
        """See `Arrays`."""
        return scores.gather(1, self._torch.from_numpy(columns).to(scores.device))

    def kth(self, scores: Scores, k: int) -> Scores:
        """See `Arrays`."""
        return scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]

    def at_least(self, scores: Scores, threshold: Scores) -> tuple[Rows, Rows, NDArray[np.float32]]:
        """See `Arrays`."""
        rows, columns = self._torch.nonzero(scores >= threshold, as_tuple=True)
        return _host(rows), _host(columns), _host(scores[rows, columns])

    def count(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """See `Arrays`."""
        columns = [values[:, place, None] for place in range(values.shape[1])]
        greater = self._torch.stack([(scores > value).sum(dim=1) for value in columns], dim=1)
        equal = self._torch.stack([(scores == value).sum(dim=1) for value in columns], dim=1)
        return _host(greater), _host(equal)

    def count_sorted(self, scores: Scores, values: Scores) -> tuple[Rows, Rows]:
        """See `Arrays`."""
        lines, wanted = scores.sort(dim=1).values, values.contiguous()
        below = self._torch.searchsorted(lines, wanted)
        upto = self._torch.searchsorted(lines, wanted, right=True)
        return _host(scores.shape[1] - upto), _host(upto - below)

    def equal_before(self, scores: Scores, row: int, column: int) -> int:
        """See `Arrays`."""
        return int((scores[row, :column] == scores[row, column]).sum())


def open_arrays(queries: NDArray[np.float32], gallery: NDArray[np.float32], device: str) -> Arrays:
    """Primitives over queries (Q, D) and gallery (N, D) on `cpu`, or on `cuda` or any other device of torch.

    Raises:
        Unavailable: the device is not there.
    """
    return HostArrays(queries, gallery) if device == "cpu" else TorchArrays(queries, gallery, device)


def _host(tensor: torch.Tensor) -> NDArray[Any]:
    return np.asarray(tensor.cpu().numpy())
