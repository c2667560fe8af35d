"""Format `food2k`: photos of dishes (Min et al., TPAMI 2023, arXiv 2103.16107).

Food2k_complete/0/photo.jpg ... Food2k_complete/1999/...
Food2k_label/train_finetune.txt, val_finetune.txt, test_finetune.txt    0/photo.jpg 0
Food2k_label/food2k_label2name_en.txt (may be missing)                  0--name of the dish

The lists may also lie in Food2k_complete/. All splits have the same 2,000 classes: `default` looks for
test photos among the training photos; `within` is the test photos among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrine.datasets._benchmark import CLOSED, Benchmark, Photo, malformed, rows
from vitrine.files import read_utf8
from vitrine.items import LabelInfo, Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = {}

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_FOOD = Benchmark(
    name="Food2K",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 620_192, "val": 104_513, "test": 311_859, "classes": 2_000},  # 1,036,564 photos
    source="Min et al. 2023",
    licence="not stated in the download: ask the authors",
    protocols=CLOSED,
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the unpacked download.

    Raises:
        BadInput: the photos or a list are missing, or a line is malformed.
    """
    root = _FOOD.existing(path / "Food2k_complete")
    photos = [photo for split in _SPLITS for photo in _photos(_listed(path, f"{split}_finetune.txt"), split)]
    return _FOOD.source_of(root, photos, options, _labels(path, sorted({photo.label for photo in photos})))


def _listed(path: Path, name: str) -> Path:
    return _FOOD.existing(path / "Food2k_label" / name, path / "Food2k_complete" / name)


def _photos(path: Path, split: Split) -> Iterator[Photo]:
    for number, (image, label) in rows(path, 2):
        if not label.isdecimal():
            raise malformed(path, number, f"{image} {label}", "it needs CLASS/photo.jpg and the number of the class")
        yield Photo(image, label, split, (label,))


def _labels(path: Path, used: list[str]) -> Iterator[LabelInfo]:
    """Classes are numbers; where the file of names is there, it describes them."""
    name = "food2k_label2name_en.txt"
    files = [file for folder in ("Food2k_label", "Food2k_complete") if (file := path / folder / name).is_file()]
    names: dict[int, str] = {}
    for line in read_utf8(files[0]).splitlines() if files else ():
        number, dashes, text = line.partition("--")
        if dashes and number.strip().isdecimal():
            names[int(number)] = text.strip()
    for label in used:
        yield LabelInfo(label, (label,), names.get(int(label), ""))
