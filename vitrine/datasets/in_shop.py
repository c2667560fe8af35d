"""Format `in-shop`: DeepFashion In-shop Clothes Retrieval (Liu et al., CVPR 2016).

Eval/list_eval_partition.txt       number of photos; header; image_name item_id evaluation_status
img/WOMEN/Dresses/id_00000002/...  photos, here or in Img/

A class is one garment. Its status is `train`, `query` or `gallery`: queries search the gallery, which
shares its garments with them and none with training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vitrine.datasets._benchmark import Benchmark, Photo, malformed, rows
from vitrine.items import EvalProtocol, Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = {}

_SPLITS: Mapping[str, Split] = {"train": "train", "query": "test", "gallery": "gallery"}
_IN_SHOP = Benchmark(
    name="In-shop Clothes Retrieval",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 25_882, "test": 14_218, "gallery": 12_612, "classes": 7_982},
    source="Liu et al. 2016; test means query",
    licence="research only (DeepFashion agreement, non-commercial)",
    protocols=(EvalProtocol("default", ("test",), ("gallery",)),),
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the unpacked benchmark: its list and its photos.

    Raises:
        BadInput: the list or the photos are missing, or a line is malformed.
    """
    listing = _IN_SHOP.existing(path / "Eval/list_eval_partition.txt")
    root = _IN_SHOP.existing(path / "img", path / "Img/img").parent
    return _IN_SHOP.source_of(root, list(_photos(listing)), options)


def _photos(path: Path) -> Iterator[Photo]:
    for number, (image, garment, status) in rows(path, 3, skip=2):
        parts = PurePosixPath(image).parts  # img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        if status not in _SPLITS or len(parts) != 5 or parts[0] != "img":
            wanted = "it needs img/WHO/KIND/id/photo, the item id and one of train, query, gallery"
            raise malformed(path, number, f"{image} {garment} {status}", wanted)
        yield Photo(image, garment, _SPLITS[status], (parts[1], parts[2], garment), product_id=garment)
