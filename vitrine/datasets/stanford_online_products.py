"""Format `stanford-online-products`: photos of eBay listings (Song et al., CVPR 2016).

Ebay_train.txt, Ebay_test.txt      image_id class_id super_class_id path, with a header
bicycle_final/..., chair_final/... photos of 12 kinds of product

A class is one product; no product is in both lists. Test photos search among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vitrine.datasets._benchmark import PARTIAL, SELF, Benchmark, Photo, malformed, rows
from vitrine.items import Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = PARTIAL

_LISTS: Mapping[Split, str] = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_SOP = Benchmark(
    name="Stanford Online Products",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 59_551, "test": 60_502, "classes": 22_634},
    source="Song et al. 2016",
    licence="MIT (lists and code; the photos' owners keep their rights)",
    protocols=SELF,
    exact=True,
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the unpacked folder `Stanford_Online_Products`.

    Raises:
        BadInput: a list is missing or malformed, or the counts are not the published ones.
    """
    photos = [photo for split, name in _LISTS.items() for photo in _photos(_SOP.existing(path / name), split)]
    return _SOP.source_of(path, photos, options)


def _photos(path: Path, split: Split) -> Iterator[Photo]:
    for number, fields in rows(path, 4, skip=1):
        folder = PurePosixPath(fields[3]).parent.name
        if not fields[1].isdecimal() or not folder:
            raise malformed(path, number, " ".join(fields), "it needs image id, class id, super class id, FOLDER/photo")
        yield Photo(fields[3], fields[1], split, (folder.removesuffix("_final"), fields[1]), product_id=fields[1])
