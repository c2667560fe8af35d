"""Format `rp2k`: retail products cut out of photos of shelves (Peng et al. 2021, arXiv 2006.12634).

all/train/CLASS/photo.jpg
all/test/CLASS/photo.jpg

A class is one product (SKU). Both splits have the same classes: `default` looks for test photos among
the training photos; `within` is the test photos among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrine.datasets._benchmark import CLOSED, Benchmark, Photo
from vitrine.items import Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = {}

_PHOTOS = {".jpg", ".jpeg", ".png"}
_SPLITS: tuple[Split, ...] = ("train", "test")
_RP2K = Benchmark(
    name="RP2K",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 344_854, "test": 39_457, "classes": 2_388},
    source="first release; the paper's text gives round numbers",
    licence="not stated in the download: ask the authors",
    protocols=CLOSED,
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the unpacked download; `path` is its folder or the `all/` folder in it.

    Raises:
        BadInput: a split folder is missing, or there is no photo.
    """
    root = path / "all" if (path / "all").is_dir() else path
    folders = {split: _RP2K.existing(root / split) for split in _SPLITS}
    return _RP2K.source_of(root, [photo for split, base in folders.items() for photo in _photos(split, base)], options)


def _photos(split: Split, base: Path) -> Iterator[Photo]:
    for folder in sorted(entry for entry in base.iterdir() if entry.is_dir()):
        for photo in sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in _PHOTOS):
            yield Photo(f"{split}/{folder.name}/{photo}", folder.name, split, (folder.name,), product_id=folder.name)
