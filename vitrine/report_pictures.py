"""Photos for the report: queries that one version answers better than another, and searches by words.

Thumbnails are small data URIs within a budget for the whole page; beyond it captions stand alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import NotFound, VitrineError
from vitrine.images import ImageSpec, decode
from vitrine.items import Item
from vitrine.metrics import PRIMARY
from vitrine.report_data import Cell, Other, Pair, pairs, rival_of
from vitrine.report_tables import Row, Table, Value

HITS, SIDE, BUDGET = 5, 88, 4_000_000
QUERIES, POOL, WORDS = 3, 20, 6


@dataclass(frozen=True)
class Picture:
    """One photo: its data URI ("" where it cannot be shown), a caption, and whether it is right (None: a query)."""

    uri: str
    caption: str
    right: bool | None = None


@dataclass(frozen=True)
class Duel:
    """One query, what both versions found, best first, and the line of the table with both values."""

    row: Row
    query: Picture
    ours: tuple[Picture, ...]
    theirs: tuple[Picture, ...]


@dataclass(frozen=True)
class Asked:
    """Words, the photos found by them, and the line of the table with the value."""

    row: Row
    hits: tuple[Picture, ...]


class Album:
    """Captions and thumbnails of one dataset; `spent` counts the characters of all albums that share it."""

    def __init__(self, dataset: Dataset, spent: list[int]) -> None:
        """Read no photo yet."""
        self.dataset = dataset
        self.items = {item.item_id: item for item in dataset.items}
        self._spent = spent

    def query(self, item_id: str) -> Picture:
        """A query's own photo."""
        return self._picture(self.items[item_id], None)

    def hits(self, query_id: str, found: Sequence[str], protocol: str) -> tuple[Picture, ...]:
        """The first answers of a query, each with whether it is right."""
        by_label = self.dataset.protocol(protocol).relevance == "label"
        query = self.items[query_id]
        return tuple(
            self._picture(self.items[hit], right(query, self.items[hit], by_label=by_label)) for hit in found[:HITS]
        )

    def _picture(self, item: Item, correct: bool | None) -> Picture:
        uri = thumbnail(self.dataset, item) if self._spent[0] < BUDGET else ""
        self._spent[0] += len(uri)
        return Picture(uri, item.title or item.label, correct)


def right(query: Item, hit: Item, *, by_label: bool) -> bool:
    """Whether a hit is what the query looked for."""
    if by_label:
        return hit.label == query.label
    return hit.product_id is not None and hit.product_id == query.product_id


def albums(root: Path, cells: Sequence[Cell]) -> dict[str, Album]:
    """An album a dataset; none where the folder is gone or was imported anew with other content."""
    found, spent = {}, [0]
    for cell in cells:
        if cell.dataset not in found:
            try:
                dataset = load_dataset(root / "data" / cell.dataset)
            except NotFound:
                continue
            if dataset.digest == cell.exact["dataset_digest"]:
                found[cell.dataset] = Album(dataset, spent)
    return found


def duels(cells: Sequence[Cell], shown: dict[str, Album], seed: int = 0) -> tuple[Table, list[Duel]]:
    """Some of the queries with the largest gains and losses of each dataset's best version, drawn by `seed`."""
    columns = ("dataset", "kind", "query", "version", f"{PRIMARY}", "rival", "rival value", "difference")
    lines: list[dict[str, Value]] = []
    asked: list[tuple[Album, Cell, Cell, Pair]] = []
    for name, album in shown.items():
        own = [cell for cell in cells if cell.dataset == name]
        rival = rival_of(own[0], own)
        if rival:
            for kind, pair in _drawn(pairs(own[0], rival), seed):
                asked.append((album, own[0], rival, pair))
                lines.append(_duel_line(name, kind, own[0], rival, pair))
    table = Table("wins_and_losses", columns, lines)
    return table, [_duel(row, *parts) for row, parts in zip(table.rows, asked, strict=True)]


def _drawn(found: Sequence[Pair], seed: int) -> list[tuple[str, Pair]]:
    """`QUERIES` of the `POOL` largest gains, and of the `POOL` largest losses."""
    drawn: list[tuple[str, Pair]] = []
    for kind, sign in (("win", 1), ("loss", -1)):
        ordered = sorted(found, key=lambda pair: (-sign * pair.difference, pair.query_id))
        pool = [pair for pair in ordered if sign * pair.difference > 0][:POOL]
        chosen = sorted(np.random.default_rng(seed).permutation(len(pool))[:QUERIES])
        drawn += [(kind, pool[place]) for place in chosen]
    return drawn


def _duel_line(dataset: str, kind: str, ours: Cell, theirs: Cell, pair: Pair) -> dict[str, Value]:
    names = {"dataset": dataset, "kind": kind, "query": pair.query_id, "version": ours.ref, "rival": theirs.ref}
    return {**names, PRIMARY: pair.ours, "rival value": pair.theirs, "difference": pair.difference}


def _duel(row: Row, album: Album, ours: Cell, theirs: Cell, pair: Pair) -> Duel:
    found = (
        album.hits(pair.query_id, hits_of(cell, pair.query_id), str(cell.exact["protocol"])) for cell in (ours, theirs)
    )
    return Duel(row, album.query(pair.query_id), *found)


def hits_of(cell: Cell | Other, query_id: str) -> list[str]:
    """The nearest items of one query, best first."""
    place = cell.per_query.column("query_id").to_pylist().index(query_id)
    hits: list[str] = cell.per_query.column("hits")[place].as_py()
    return hits


def word_searches(cells: Sequence[Cell], shown: dict[str, Album], seed: int = 0) -> tuple[Table, list[Asked]]:
    """Queries in words, drawn by `seed`, answered by the version of each dataset that is best at it."""
    lines: list[dict[str, Value]] = []
    asked: list[tuple[Album, Other]] = []
    for name, album in shown.items():
        best = _best_reader([cell for cell in cells if cell.dataset == name])
        if best:
            cell, other = best
            drawn = sorted(np.random.default_rng(seed).permutation(other.per_query.num_rows)[:WORDS])
            for row in other.per_query.take(drawn).to_pylist():
                asked.append((album, other))
                facts = {"query": row["query_id"], "words": row["title"], PRIMARY: row[PRIMARY]}
                lines.append({"dataset": name, "version": cell.ref, **facts})
    table = Table("word_searches", ("dataset", "version", "query", "words", PRIMARY), lines)
    return table, [_asked(row, *parts) for row, parts in zip(table.rows, asked, strict=True)]


def _best_reader(cells: Sequence[Cell]) -> tuple[Cell, Other] | None:
    found = [(cell, other) for cell in cells for other in cell.others if other.by_words]
    return max(found, key=lambda pair: pair[1].primary, default=None)


def _asked(row: Row, album: Album, other: Other) -> Asked:
    return Asked(row, album.hits(row["query"], hits_of(other, row["query"]), other.protocol))


def thumbnail(dataset: Dataset, item: Item) -> str:
    """A small photo as a data URI; "" where there is none that can be read."""
    if not item.images:
        return ""
    try:
        pixels = decode(dataset.photo(item.images[0]), ImageSpec(SIDE, SIDE, "pad"))
    except VitrineError:  # a broken photo leaves an empty frame, not an empty report
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
