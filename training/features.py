"""Stage `features`: every photo of a dataset through a frozen backbone, once.

work/features/B--DATASET/features.npy   float32 (images, D), as the network gives them
work/features/B--DATASET/images.json    row -> image name
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import settings as params
from training.backbone import BACKBONES, load_backbone
from training.costs import measure
from training.stage import run_stage, set_determinism
from vitrine.dataset import Dataset, load_dataset
from vitrine.export import ImageGraph
from vitrine.files import read_json, replacing_folder, write_json
from vitrine.images import decode
from vitrine.items import Item
from vitrine.ports import Backbone
from vitrine.progress import Track, bar, quiet

FEATURES = Path("work/features")
BATCH = 32


@dataclass(frozen=True)
class Features:
    """Cached features: `values` float32 (images, D), one row an image name."""

    values: NDArray[np.float32]
    row_of: dict[str, int]

    def of_images(self, items: Sequence[Item]) -> tuple[NDArray[np.float32], list[str]]:
        """Every photo of the items: features (photos, D) and the label of each."""
        pairs = [(self.row_of[image], item.label) for item in items for image in item.images]
        return self.values[[row for row, _ in pairs]], [label for _, label in pairs]


def compute_features(backbone: Backbone, dataset: Dataset, target: Path, track: Track = quiet) -> int:
    """Write the features of every photo; how many there were."""
    names = sorted({image for item in dataset.items for image in item.images})
    with replacing_folder(target) as folder:
        values = np.lib.format.open_memmap(
            folder / "features.npy", mode="w+", dtype=np.float32, shape=(len(names), backbone.dim)
        )
        starts = range(0, len(names), BATCH)
        for start, rows in zip(
            track(starts, "computing features", len(starts)), _batches(backbone, dataset, names), strict=True
        ):
            values[start : start + BATCH] = rows
        values.flush()
        write_json(folder / "images.json", names)
    return len(names)


def load_features(folder: Path) -> Features:
    """Read cached features, memory-mapped."""
    values: NDArray[np.float32] = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    names = read_json(folder / "images.json", "feature rows")
    return Features(values, {name: row for row, name in enumerate(names)})


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
