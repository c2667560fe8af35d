"""Format `products-10k`: photos of products sold by JD.com (Bai et al. 2020, arXiv 2008.10545).

train.csv                  name,class,group
test_kaggletest.csv        name,class,...   the test photos with their classes
train/..., test/...        photos

A class is one product (SKU), a group a kind of product. Both splits have the same classes: the
published task is classification, so `default` looks for test photos among the training photos;
`within` is the test photos among themselves.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrine.datasets._benchmark import CLOSED, Benchmark, Photo, malformed
from vitrine.errors import BadInput
from vitrine.files import read_utf8
from vitrine.items import Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = {}

_LISTS: Mapping[Split, tuple[str, ...]] = {"train": ("train.csv",), "test": ("test_kaggletest.csv", "test.csv")}
_PRODUCTS = Benchmark(
    name="Products-10K",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 141_931, "test": 55_376, "classes": 9_691},
    source="lists of the challenge of ICPR 2020",
    licence="not stated in the download: ask the authors",
    protocols=CLOSED,
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the unpacked download.

    Raises:
        BadInput: a list or folder is missing, or a list has no name or no class.
    """
    rows = [
        (split, row)
        for split, names in _LISTS.items()
        for row in _rows(_PRODUCTS.existing(*(path / name for name in names)))
    ]
    for split in _LISTS:
        _PRODUCTS.existing(path / split)
    groups = {row["class"]: row["group"] for _, row in rows if row.get("group")}
    return _PRODUCTS.source_of(path, [_photo(split, row, groups) for split, row in rows], options)


def _photo(split: Split, row: Mapping[str, str], groups: Mapping[str, str]) -> Photo:
    """The test list names no groups, so a product's group comes from the training list."""
    label = row["class"]
    category = (f"group {groups[label]}", label) if label in groups else (label,)
    return Photo(f"{split}/{row['name']}", label, split, category, product_id=label)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(read_utf8(path).splitlines())
    lacking = {"name", "class"} - set(reader.fieldnames or ())
    if lacking:
        raise BadInput(
            f"{path} has no column {', '.join(sorted(lacking))}, only {', '.join(reader.fieldnames or ())}; "
            "for the test photos take test_kaggletest.csv, which has their classes"
        )
    for row in reader:
        if not row["name"] or not row["class"]:
            raise malformed(path, reader.line_num, row, "it needs a name and a class")
        yield {key: value for key, value in row.items() if isinstance(key, str) and isinstance(value, str)}
