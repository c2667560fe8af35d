"""Stage `features`: every photo and every title of a dataset through a frozen backbone, once.

work/features/B--DATASET/features.npy   float32 (images, D), as the network gives them
work/features/B--DATASET/images.json    row -> image name
work/features/B--DATASET/texts.npy      float32 (titles, D), where the backbone reads text
work/features/B--DATASET/texts.json     row -> title; each distinct one once, sorted
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import settings as params
from training.backbone import BACKBONES, load_backbone
from training.costs import measure
from training.stage import run_stage, set_determinism
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import NotFound, Unsupported
from vitrine.export import ImageGraph
from vitrine.files import read_json, replacing_folder, write_json
from vitrine.images import decode
from vitrine.items import Item
from vitrine.ports import Backbone, TextTower
from vitrine.progress import Track, bar, quiet
from vitrine.tokenize import load_tokenizer

FEATURES = Path("work/features")
BATCH = 32


@dataclass(frozen=True)
class Features:
    """Cached features of a frozen backbone.

    Attributes:
        values: float32 (images, D), not unit length; `row_of` maps an image name to its row.
        texts: float32 (titles, D) in the same space, None where the backbone reads no text; `text_row_of`
            maps a title to its row.
    """

    values: NDArray[np.float32]
    row_of: Mapping[str, int]
    texts: NDArray[np.float32] | None = None
    text_row_of: Mapping[str, int] = field(default_factory=dict)

    def of_images(self, items: Sequence[Item]) -> tuple[NDArray[np.float32], list[str]]:
        """Every photo of the items: features (photos, D) and the label of each."""
        pairs = [(self.row_of[image], item.label) for item in items for image in item.images]
        return self.values[[row for row, _ in pairs]], [label for _, label in pairs]

    def of_titles(self, titles: Sequence[str]) -> NDArray[np.float32]:
        """One row a title, (len(titles), D).

        Raises:
            Unsupported: the backbone reads no text.
            NotFound: a title that the dataset does not have.
        """
        if self.texts is None:
            raise Unsupported("these features are of photos alone: their backbone reads no text")
        unknown = next((title for title in titles if title not in self.text_row_of), None)
        if unknown is not None:
            raise NotFound(f"there are no features of the title {unknown!r}; run the stage `features` again")
        return self.texts[[self.text_row_of[title] for title in titles]]


def compute_features(backbone: Backbone, dataset: Dataset, target: Path, track: Track = quiet) -> int:
    """Write the features of every photo, and of every title where the backbone reads text; how many photos there were."""
    names = sorted({image for item in dataset.items for image in item.images})
    with replacing_folder(target) as folder:
        _write(folder / "features.npy", len(names), backbone.dim, _batches(backbone, dataset, names), "photos", track)
        write_json(folder / "images.json", names)
        if backbone.text is not None:
            titles = sorted({item.title for item in dataset.items if item.title.strip()})
            _write(
                folder / "texts.npy", len(titles), backbone.dim, _text_batches(backbone.text, titles), "titles", track
            )
            write_json(folder / "texts.json", titles)
    return len(names)


def load_features(folder: Path) -> Features:
    """Read cached features, memory-mapped."""
    values, row_of = _read(folder / "features.npy", folder / "images.json")
    if not (folder / "texts.npy").is_file():
        return Features(values, row_of)
    return Features(values, row_of, *_read(folder / "texts.npy", folder / "texts.json"))


def _read(array: Path, rows: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    values: NDArray[np.float32] = np.load(array, mmap_mode="r", allow_pickle=False)
    return values, {name: row for row, name in enumerate(read_json(rows, "feature rows"))}


def _write(path: Path, rows: int, dim: int, batches: Iterator[NDArray[np.float32]], what: str, track: Track) -> None:
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    starts = range(0, rows, BATCH)
    for start, batch in zip(track(starts, f"computing features of {what}", len(starts)), batches, strict=True):
        values[start : start + BATCH] = batch
    values.flush()


def _text_batches(tower: TextTower, titles: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    tokenizer, module = load_tokenizer(tower.tokenizer), tower.module.eval()
    with torch.no_grad():
        for start in range(0, len(titles), BATCH):
            yield module(torch.from_numpy(tokenizer.encode(titles[start : start + BATCH]))).numpy()


def _batches(backbone: Backbone, dataset: Dataset, names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    graph = ImageGraph(backbone).eval()
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        for start in range(0, len(names), BATCH):
            photos = [dataset.photo(name) for name in names[start : start + BATCH]]
            pixels = np.stack(list(pool.map(lambda photo: decode(photo, backbone.image), photos)))
            yield graph.features(torch.from_numpy(pixels)).numpy()


def _stage(key: str, track: Track) -> None:
    chosen = params.load_settings()
    wanted = params.pick(chosen.features, key, "features")
    set_determinism(chosen.seed, chosen.threads)
    with measure("features", key) as cost:
        backbone, _, _ = load_backbone(BACKBONES / wanted.backbone)
        cost.images = compute_features(backbone, load_dataset(Path("data") / wanted.dataset), FEATURES / key, track)
    print(f"{cost.images} photos, {backbone.dim} numbers each")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.features --features BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--features", required=True)
    _stage(parser.parse_args(arguments).features, bar)


if __name__ == "__main__":
    run_stage(main)
