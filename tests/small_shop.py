"""A shop's export as a shop has it: a CSV with decimal commas, a folder of photos, and a few rows in trouble."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from vitrine.datasets import demo
from vitrine.ports import RawItem

COLUMNS = ("sku", "product_no", "name", "category", "price", "colour", "pics")
IN_TROUBLE = 5
"""Rows of `_spoil`; two of them cannot be imported."""

Row = Mapping[str, str]


def write_shop(folder: Path, *, products: int = 96, photos: int = 4, seed: int = 5) -> Path:
    """`folder`/shop.csv and `folder`/photos: `products` of homeware with `photos` offers each, one photo an offer."""
    (folder / "photos").mkdir(parents=True)
    options = {"domain": "homeware", "products": products, "photos": photos, "seed": seed}
    rows = [_row(item, folder) for item in demo.read(Path("-"), options).items]
    table = folder / "shop.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, delimiter=";")
        writer.writeheader()
        writer.writerows([*_spoil(rows, folder), rows[-1]])
    return table


def _row(item: RawItem, folder: Path) -> Row:
    name = f"photos/{item.item_id}.jpg"
    (photo,) = item.images
    assert isinstance(photo, bytes)
    (folder / name).write_bytes(photo)
    values = (
        item.item_id,
        item.product_id,
        item.title,
        " > ".join(item.category),
        f"{item.price:.2f} €".replace(".", ","),
        item.attributes["colour"],
        name,
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def _spoil(rows: list[Row], folder: Path) -> list[Row]:
    """A price that is a word, a photo that was deleted, one that broke off, and a class that nobody entered."""
    (folder / rows[30]["pics"]).unlink()
    broken = folder / rows[40]["pics"]
    broken.write_bytes(broken.read_bytes()[:900])
    changed = {20: {"price": "on request"}, 50: {"category": ""}}
    return [{**row, **changed.get(number, {})} for number, row in enumerate(rows)]
