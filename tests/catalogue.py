"""A tiny real dataset for tests: photos on disk, tables, digest, as an import would write them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tests.factories import photo
from vitrine.dataset import Dataset, load_dataset, write_records
from vitrine.items import EvalProtocol, Item, LabelInfo, Split

DEFAULT = EvalProtocol("default", query=("test",), gallery=("train",))
WITHIN = EvalProtocol("within", query=("test",), gallery=("test",))


def tiny_dataset(
    folder: Path,
    *,
    name: str = "shop",
    labels: Sequence[str] = ("jug", "mug", "pan"),
    splits: Sequence[tuple[Split, int]] = (("train", 4), ("val", 2), ("test", 3)),
    images: int = 1,
    protocols: Sequence[EvalProtocol] = (DEFAULT, WITHIN),
    products: bool = False,
    seed: int = 0,
) -> Dataset:
    """`count` items of every label in every split; with `products`, two neighbours share a product id."""
    (folder / "images").mkdir(parents=True)
    items = []
    for place, label in enumerate(labels):
        for split, count in splits:
            for number in range(count):
                first = seed + 1000 * place + 100 * len(split) + 10 * number
                names = tuple(_store(folder, photo(first + extra)) for extra in range(images))
                product = f"{label}-{split}-{number // 2}" if products else None
                items.append(Item(f"{label}-{split}-{number}", names, label, split, (label,), product))
    write_records(
        folder,
        name=name,
        items=items,
        labels=[LabelInfo(label) for label in labels],
        protocols=protocols,
        licence="CC0-1.0",
        source={"format": "test", "path": "", "options": {}},
    )
    return load_dataset(folder)


def _store(folder: Path, data: bytes) -> str:
    name = f"{hashlib.sha256(data).hexdigest()}.jpg"
    (folder / "images" / name).write_bytes(data)
    return name
