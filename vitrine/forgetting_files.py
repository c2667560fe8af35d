"""Erasing an item from files: a dataset's tables and photos, cached features, per-query results.

Everything here may be repeated: what is gone already is no trouble, and each file is replaced whole.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitrine import rowreport
from vitrine.dataset import IMAGES, Dataset, write_records
from vitrine.files import read_json, read_utf8, replacing_folder, write_atomic, write_json

_TABLES = (("features.npy", "images.json"), ("texts.npy", "texts.json"))


def without_item(dataset: Dataset, item_id: str, photos: set[str]) -> str:
    """Write the dataset anew without the item and its photos; returns the new digest.

    Args:
        dataset: as loaded.
        item_id: who goes; nothing happens to the tables where it is not there.
        photos: image names that go with it.
    """
    items = [item for item in dataset.items if item.item_id != item_id]
    gone = photos - {info.image for info in dataset.labels}
    with replacing_folder(dataset.folder) as draft:
        for path in dataset.folder.iterdir():
            if path.is_file() and path.name != rowreport.FILE:
                (draft / path.name).write_bytes(path.read_bytes())
        (draft / IMAGES).mkdir()
        for path in (dataset.folder / IMAGES).iterdir():
            if path.name not in gone:
                os.link(path, draft / IMAGES / path.name)
        _copy_report(dataset.folder / rowreport.FILE, draft, item_id)
        return write_records(
            draft,
            name=dataset.name,
            items=items,
            labels=dataset.labels,
            protocols=dataset.protocols,
            licence=dataset.licence,
            source=dataset.source,
            broken=[pair for pair in dataset.broken if not any(item_id in part for part in pair)],
        )


def _copy_report(report: Path, draft: Path, item_id: str) -> None:
    """What became of each row, without the lines that name the item."""
    if not report.is_file():
        return
    stream = io.StringIO()
    rows = csv.reader(io.StringIO(read_utf8(report)))
    csv.writer(stream, lineterminator="\n").writerows(row for row in rows if not any(item_id in cell for cell in row))
    write_atomic(draft / report.name, stream.getvalue())


def stale(folder: Path, dataset: Dataset, item_id: str) -> bool:
    """Whether cached features hold a photo or a title that no other item of the dataset has."""
    return any(len(kept) < len(names) for _, _, names, kept in _kept_rows(folder, dataset, item_id))


def keep_features(folder: Path, dataset: Dataset, item_id: str) -> None:
    """Write cached features anew with the photos and titles of the dataset's other items alone."""
    with replacing_folder(folder) as draft:
        for path in folder.iterdir():
            if path.is_file() and path.name not in {name for pair in _TABLES for name in pair}:
                (draft / path.name).write_bytes(path.read_bytes())
        for array, rows, names, kept in _kept_rows(folder, dataset, item_id):
            values = np.load(folder / array, mmap_mode="r", allow_pickle=False)
            np.save(draft / array, values[kept])
            write_json(draft / rows, [names[row] for row in kept])


def _kept_rows(folder: Path, dataset: Dataset, item_id: str) -> list[tuple[str, str, list[str], list[int]]]:
    """(array, names' file, names, rows that stay) of photos, and of titles where there are any."""
    others = [item for item in dataset.items if item.item_id != item_id]
    photos, titles = {image for item in others for image in item.images}, {item.title for item in others}
    found = []
    for (array, rows), known in zip(_TABLES, (photos, titles), strict=True):
        if (folder / rows).is_file():
            names: list[str] = read_json(folder / rows, "feature rows")
            found.append((array, rows, names, [row for row, name in enumerate(names) if name in known]))
    return found


def pseudonymised(parquet: bytes, item_id: str, pseudonym: str) -> bytes | None:
    """Per-query results in which the item has another name and no title; None where they do not name it."""
    table = pq.read_table(pa.BufferReader(parquet))
    rows = [_pseudonymised(row, item_id, pseudonym) for row in table.to_pylist()]
    if rows == table.to_pylist():
        return None
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), buffer)
    return buffer.getvalue()


def _pseudonymised(row: dict[str, Any], item_id: str, pseudonym: str) -> dict[str, Any]:
    asked = row["query_id"] == item_id
    hits = row.get("hits") or []
    return (
        row
        | ({"hits": [pseudonym if hit == item_id else hit for hit in hits]} if item_id in hits else {})
        | ({"query_id": pseudonym} if asked else {})
        | ({"title": ""} if asked and row.get("title") else {})
    )


def renamed_json(path: Path, item_id: str, pseudonym: str) -> str | None:
    """A JSON file's new text, None where it does not name the item."""
    value = read_json(path, "evaluation")
    changed = renamed_examples(value, item_id, pseudonym)
    return None if changed == value else json.dumps(changed, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def renamed_examples(value: Any, old: str, new: str, *, inside: bool = False) -> Any:
    """A JSON value with `new` for `old` in its lists of `examples`, the one place where results name items.

    Anywhere else the same text may be a label, a metric or a key.
    """
    if isinstance(value, Mapping):
        return {
            key: renamed_examples(part, old, new, inside=inside or key == "examples") for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [renamed_examples(part, old, new, inside=inside) for part in value]
    return new if inside and value == old else value
