"""Anybody's embeddings as a space to evaluate: a `.npy` file of vectors and a CSV file that says what each row is.

vectors.npy   float16, float32 or float64 (rows, D); made unit length where it is not
labels.csv    one line a row, in the same order, with a header:
              item_id,label                          both needed
              product_id,category,title              optional; category is a path such as home > kitchen > mug
              split                                  optional: query, gallery or both (the default)
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrine.dataset import Dataset, content_digest
from vitrine.encoder import normalise
from vitrine.errors import BadInput, NotFound, Unsupported
from vitrine.items import DEFAULT_PROTOCOL, EvalProtocol, Item, Split
from vitrine.ports import Vectors

_SPLITS: dict[str, Split] = {"query": "test", "gallery": "gallery", "both": "val"}
_COLUMNS = ("item_id", "label", "product_id", "category", "title", "split")
_UNIT = 1e-5
"""How far a length may be from 1; more could change the order of close neighbours."""
_ROWS = 65_536


class VectorFile:
    """Given vectors with their items; see `vitrine.embedding.Space`."""

    reads_text = False
    label_names: Sequence[str] = ()
    titles = 0

    def __init__(self, dataset: Dataset, vectors: Vectors, rows: dict[str, int], engine: str) -> None:
        self.dataset, self.engine = dataset, engine
        self.seconds, self.photos = 0.0, 0
        self.shared: dict[object, object] = {}
        self._vectors, self._rows = vectors, rows

    def vectors(self, items: Sequence[Item]) -> Vectors:
        """float32 (len(items), D), unit rows; all of them in file order are not copied."""
        rows = np.fromiter((self._rows[item.item_id] for item in items), np.int64, len(items))
        if len(rows) == len(self._vectors) and (rows == np.arange(len(rows))).all():
            return self._vectors
        return self._vectors[rows]

    def probabilities(self, items: Sequence[Item]) -> None:
        """There is no classifier in a file of vectors."""
        del items

    def norms_before(self, items: Sequence[Item]) -> None:
        """What made the vectors is not here."""
        del items

    def texts(self, strings: Sequence[str]) -> Vectors:
        """A file of vectors reads no text."""
        raise Unsupported(f"{self.engine} cannot embed {len(strings)} titles: it is a file of vectors")


def read_vector_file(vectors: Path, labels: Path) -> VectorFile:
    """Read both files and hold them against each other.

    Raises:
        NotFound: a file is not there.
        BadInput: not a .npy file of numbers, a value that is not finite, a missing column or value, an id twice,
            or not one line a vector. The message names the file and the line.
    """
    items = _items(labels)
    array = _array(vectors)
    if len(items) != len(array):
        raise BadInput(
            f"{vectors} has {len(array)} vectors and {labels} {len(items)} lines after its header; give one line a vector"
        )
    order = sorted(range(len(items)), key=lambda row: items[row].item_id)
    in_order = order == list(range(len(items)))
    unit = _unit(array if in_order else array[order], vectors, order)
    items = items if in_order else [items[row] for row in order]
    protocols = tuple(_protocols(items))
    dataset = Dataset(
        folder=labels.parent,
        name=labels.stem,
        digest=content_digest(items, (), protocols, "given"),
        items=tuple(items),
        protocols=protocols,
        licence="given",
    )
    return VectorFile(
        dataset, unit, {item.item_id: row for row, item in enumerate(items)}, f"vectors of {vectors.name}"
    )


def _array(path: Path) -> NDArray[np.floating]:
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give a .npy file of vectors (rows, D)")
    try:
        array: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path} is no .npy file of numbers: {error}; write one with numpy.save") from error
    if array.ndim != 2 or array.dtype.kind != "f":
        raise BadInput(f"{path} holds {array.dtype} {array.shape}; vectors are float16, float32 or float64 (rows, D)")
    return array


def _unit(array: NDArray[np.floating], path: Path, order: Sequence[int]) -> Vectors:
    """Unit rows as float32: the file's own memory where they are that already."""
    unit = array.dtype == np.float32
    for start in range(0, len(array), _ROWS):
        norms = np.linalg.norm(np.asarray(array[start : start + _ROWS], np.float32), axis=1)
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if len(bad):
            raise BadInput(f"vector {order[start + bad[0]] + 1} of {path} is zero or not finite; it has no direction")
        unit = unit and bool((np.abs(norms - 1) < _UNIT).all())
    return np.asarray(array, np.float32) if unit else normalise(np.asarray(array, np.float32))


def _items(path: Path) -> list[Item]:
    if not path.is_file():
        raise NotFound(
            f"there is no file {path}; give a CSV file with the columns item_id and label, one line a vector"
        )
    seen: dict[str, int] = {}
    items = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for line, row in _rows(csv.DictReader(stream), path):
            item = _item(row, path, line)
            if item.item_id in seen:
                raise BadInput(f"{path}, line {line}: item_id {item.item_id!r} is on line {seen[item.item_id]} already")
            seen[item.item_id] = line
            items.append(item)
    return items


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        names = list(reader.fieldnames or [])
        missing = [name for name in ("item_id", "label") if name not in names]
        unknown = [name for name in names if name not in _COLUMNS]
        if missing or unknown:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown columns {', '.join(map(repr, unknown))}"
            raise BadInput(f"the header of {path} {wrong}; the columns are {', '.join(_COLUMNS)}, the first two needed")
        for row in reader:
            if None in row:
                raise BadInput(
                    f"{path}, line {reader.line_num}: more values than columns; put quotes around a value with a comma in it"
                )
            yield reader.line_num, {name: (row.get(name) or "").strip() for name in _COLUMNS}
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _item(row: dict[str, str], path: Path, line: int) -> Item:
    for name in ("item_id", "label"):
        if not row[name]:
            raise BadInput(f"{path}, line {line}: {name} is empty")
    split = row["split"].lower() or "both"
    if split not in _SPLITS:
        raise BadInput(f"{path}, line {line}: split {row['split']!r} is none of {', '.join(_SPLITS)}")
    category = tuple(part.strip() for part in row["category"].split(">") if part.strip())
    return Item(row["item_id"], (), row["label"], _SPLITS[split], category, row["product_id"] or None, row["title"])


def _protocols(items: Sequence[Item]) -> Iterator[EvalProtocol]:
    """Who asks and who can be found; by product too, where products are given."""
    used = {item.split for item in items}
    query: tuple[Split, ...] = tuple(split for split in ("test", "val") if split in used)
    gallery: tuple[Split, ...] = tuple(split for split in ("gallery", "val") if split in used)
    yield EvalProtocol(DEFAULT_PROTOCOL, query, gallery)
    if any(item.product_id for item in items):
        yield EvalProtocol("product", query, gallery, "product_id")
