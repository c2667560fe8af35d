"""Photos for the report: a few queries of a cell with what it found, as small data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import NotFound, VitrineError
from vitrine.images import ImageSpec, decode
from vitrine.items import Item
from vitrine.report_data import Cell

QUERIES, HITS, SIDE = 6, 5, 96


@dataclass(frozen=True)
class Picture:
    """One photo: its data URI ("" where it cannot be shown), a caption, and whether it is right (None: a query)."""

    uri: str
    caption: str
    right: bool | None = None


@dataclass(frozen=True)
class Found:
    """A query and its nearest items, best first."""

    query: Picture
    hits: tuple[Picture, ...]


def pictures(root: Path, cell: Cell, seed: int = 0) -> list[Found]:
    """`QUERIES` queries of the cell, drawn by `seed` alone, with their first `HITS` answers.

    Empty where the dataset's folder is gone or was imported anew with other content.
    """
    try:
        dataset = load_dataset(root / "data" / cell.dataset)
    except NotFound:
        return []
    if dataset.digest != cell.exact["dataset_digest"]:
        return []
    items = {item.item_id: item for item in dataset.items}
    rows = cell.per_query.select(["query_id", "hits"]).to_pylist()
    drawn = np.random.default_rng(seed).permutation(len(rows))[:QUERIES]
    by_label = dataset.protocol(cell.exact["protocol"]).relevance == "label"
    return [
        _found(dataset, items[rows[row]["query_id"]], [items[hit] for hit in rows[row]["hits"][:HITS]], by_label)
        for row in sorted(drawn)
    ]


def _found(dataset: Dataset, query: Item, hits: list[Item], by_label: bool) -> Found:
    def right(hit: Item) -> bool:
        if by_label:
            return hit.label == query.label
        return hit.product_id is not None and hit.product_id == query.product_id

    shown = tuple(Picture(_thumbnail(dataset, hit), _caption(hit), right(hit)) for hit in hits)
    return Found(Picture(_thumbnail(dataset, query), _caption(query)), shown)


def _caption(item: Item) -> str:
    return item.title or item.label


def _thumbnail(dataset: Dataset, item: Item) -> str:
    if not item.images:
        return ""
    try:
        pixels = decode(dataset.photo(item.images[0]), ImageSpec(SIDE, SIDE, "pad"))
    except VitrineError:  # a broken photo leaves an empty frame, not an empty report
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
