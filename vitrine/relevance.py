"""Who is relevant to whom, and who must not be found: labels, category paths and ids as integer codes.

Dim names: Q queries, N gallery, B queries of a block, P the most relevant rows a query of the block has, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Pair = tuple[Sequence[str], Sequence[str]]
Paths = tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Groups:
    """Gallery rows by code: `rows` sorted by code, then row; those of code c are rows[starts[c]:starts[c + 1]]."""

    rows: Rows
    starts: Rows

    @staticmethod
    def of(codes: Rows, size: int) -> Groups:
        """Group gallery rows (N,) by their codes in [0, size)."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))])
        return Groups(np.argsort(codes, kind="stable"), starts.astype(np.int64))

    def members(self, codes: Rows) -> Rows:
        """Rows of each code (B,) as int64 (B, P), ascending, filled up with -1."""
        counts = self.starts[codes + 1] - self.starts[codes]
        places = np.arange(int(counts.max(initial=0)))
        inside = places < counts[:, None]
        found = self.rows[np.minimum(self.starts[codes][:, None] + places, len(self.rows) - 1)] if len(self.rows) else 0
        return np.where(inside, found, -1)

    def pairs(self, codes: Rows) -> tuple[Rows, Rows]:
        """Places in `codes` (B,) and the rows of each, as many pairs as there are rows: nothing is filled up."""
        counts = self.starts[codes + 1] - self.starts[codes]
        places = np.repeat(np.arange(len(codes)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self.rows[self.starts[codes][places] + within]


@dataclass(frozen=True)
class Relevance:
    """Everything about Q queries and N gallery rows that is no vector.

    Attributes:
        query: int64 (Q,), label code of each query.
        gallery: int64 (N,), label code of each gallery row; equal codes are relevant to each other.
        own: int64 (Q,), the gallery row that is the query itself, -1 for none.
        query_twin, gallery_twin: int64 codes of exact copies, (Q,) and (N,); equal codes are never answers. Optional.
        query_path, gallery_path: int64 (Q, L) and (N, L), codes of the category path cut at each level, -1 where a
            path ends earlier; for graded relevance. Optional.
    """

    query: Rows
    gallery: Rows
    own: Rows
    query_twin: Rows | None = None
    gallery_twin: Rows | None = None
    query_path: Rows | None = None
    gallery_path: Rows | None = None

    def excluded(self, start: int, stop: int) -> tuple[Rows, Rows]:
        """What queries [start, stop) must not find: places in the block and gallery rows, each pair once."""
        own = self.own[start:stop]
        queries = np.flatnonzero(own >= 0)
        pairs = np.stack([queries, own[queries]])
        if self.query_twin is not None:
            twins = np.stack(self._twin_groups.pairs(self.query_twin[start:stop]))
            pairs = np.unique(np.concatenate([pairs, twins], axis=1), axis=1)
        return pairs[0], pairs[1]

    def relevant(self, start: int, stop: int, excluded: tuple[Rows, Rows]) -> Rows:
        """Gallery rows relevant to queries [start, stop), int64 (B, P), -1 where there are fewer."""
        found = self._groups.members(self.query[start:stop])
        queries, rows = excluded
        among = found[queries] == rows[:, None]
        hit = np.flatnonzero(among.any(axis=1))
        found[queries[hit], among[hit].argmax(axis=1)] = -1
        return found

    @cached_property
    def _groups(self) -> Groups:
        return _grouped(self.query, self.gallery)

    @cached_property
    def _twin_groups(self) -> Groups:
        assert self.query_twin is not None
        assert self.gallery_twin is not None
        return _grouped(self.query_twin, self.gallery_twin)

    @property
    def graded(self) -> bool:
        """Whether there are category paths to grade by."""
        return self.query_path is not None and self.gallery_path is not None

    def grades(self, start: int, top_rows: Rows) -> Floats:
        """Share of the path's levels that answers (B, K) of the queries from `start` on share with them, in [0, 1]."""
        asked, offered = self._paths(start, start + len(top_rows))
        found = offered[np.maximum(top_rows, 0)]
        shared = (found == asked[:, None, :]) & (found >= 0) & (top_rows >= 0)[:, :, None]
        return np.asarray(shared.sum(axis=2) / max(1, asked.shape[1]), np.float64)

    def ideal(self, start: int, stop: int, excluded: tuple[Rows, Rows], depth: int) -> Floats:
        """The `depth` best grades that the gallery holds for queries [start, stop), falling, (B, depth)."""
        asked, offered = self._paths(start, stop)
        queries, rows = excluded
        within = np.zeros(asked.shape, np.int64)  # gallery rows that share the path down to each level
        for level in range(asked.shape[1]):
            counts = np.bincount(offered[offered[:, level] >= 0, level], minlength=int(asked.max(initial=0)) + 1)
            within[:, level] = np.where(asked[:, level] >= 0, counts[np.maximum(asked[:, level], 0)], 0)
            out = (offered[rows, level] == asked[queries, level]) & (asked[queries, level] >= 0)
            within[:, level] -= np.bincount(queries[out], minlength=len(asked))
        better = (np.arange(depth)[None, :, None] < within[:, None, :]).sum(axis=2)
        return np.asarray(better / max(1, asked.shape[1]), np.float64)

    def _paths(self, start: int, stop: int) -> tuple[Rows, Rows]:
        assert self.query_path is not None
        assert self.gallery_path is not None
        return self.query_path[start:stop], self.gallery_path


def relevance_of(
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    *,
    paths: Paths | None = None,
    copies: Pair | None = None,
) -> Relevance:
    """Relevance from texts: equal labels are relevant, equal ids and equal copies are never answers.

    Raises:
        BadInput: not one label an id, or a gallery id that occurs twice.
    """
    if len(query_labels) != len(query_ids) or len(gallery_labels) != len(gallery_ids):
        raise BadInput(
            f"{len(query_labels)} labels for {len(query_ids)} queries, {len(gallery_labels)} for {len(gallery_ids)} "
            "gallery vectors; give one label a vector"
        )
    twins = codes(*copies) if copies else (None, None)
    tree = path_codes(*paths) if paths else (None, None)
    return Relevance(*codes(query_labels, gallery_labels), own_rows(query_ids, gallery_ids), *twins, *tree)


def _grouped(asked: Rows, offered: Rows) -> Groups:
    return Groups.of(offered, int(max(asked.max(initial=-1), offered.max(initial=-1))) + 1)


def codes(left: Sequence[str], right: Sequence[str]) -> tuple[Rows, Rows]:
    """Equal texts get equal numbers from 0, on both sides."""
    numbers = {text: number for number, text in enumerate(sorted({*left, *right}))}
    return (
        np.fromiter((numbers[text] for text in left), np.int64, len(left)),
        np.fromiter((numbers[text] for text in right), np.int64, len(right)),
    )


def path_codes(left: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> tuple[Rows, Rows]:
    """Category paths as codes of their beginnings: (Q, L) and (N, L), L the longest path, -1 where one is shorter."""
    levels = max((len(path) for path in [*left, *right]), default=0)
    known: dict[tuple[str, ...], int] = {}

    def encode(paths: Sequence[Sequence[str]]) -> Rows:
        table = np.full((len(paths), levels), -1, np.int64)
        for row, path in enumerate(paths):
            for level in range(len(path)):
                table[row, level] = known.setdefault(tuple(path[: level + 1]), len(known))
        return table

    return encode(left), encode(right)


def own_rows(query_ids: Sequence[str], gallery_ids: Sequence[str]) -> Rows:
    """The gallery row of each query's own id, int64 (Q,), -1 for none.

    Raises:
        BadInput: a gallery id occurs twice.
    """
    rows = {item_id: row for row, item_id in enumerate(gallery_ids)}
    if len(rows) != len(gallery_ids):
        raise BadInput(f"{len(gallery_ids) - len(rows)} gallery ids occur twice; list each item once")
    return np.fromiter((rows.get(item_id, -1) for item_id in query_ids), np.int64, len(query_ids))
