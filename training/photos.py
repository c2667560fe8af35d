"""Training photos as pixels: decoded once into memory where they fit, else again for every batch, one batch ahead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from vitrine.dataset import Dataset
from vitrine.images import ImageSpec, decode
from vitrine.progress import Track, quiet

BUDGET = 2**30
"""Bytes of decoded photos that are kept in memory."""


def roomy(image: ImageSpec) -> ImageSpec:
    """Decode a quarter larger than the network sees, whole photos, so that a random crop keeps detail."""
    return replace(
        image, height=round(image.height * 1.25), width=round(image.width * 1.25), resize="squash", crop_fraction=1.0
    )


class Photos:
    """The photos `names` of a dataset at one size; a row is a place in `names`.

    Attributes:
        pixels: all of them, `uint8 (N, 3, H, W)`, where that takes no more than the budget; else None.
    """

    def __init__(
        self, dataset: Dataset, names: Sequence[str], image: ImageSpec, track: Track = quiet, budget: int = BUDGET
    ) -> None:
        self._dataset, self._names, self._image = dataset, tuple(names), image
        self._workers = min(8, os.cpu_count() or 1)
        self.pixels: torch.Tensor | None = None
        if len(self._names) * image.height * image.width * 3 <= budget:
            self.pixels = self._decode(range(len(self._names)), track)

    def __len__(self) -> int:
        return len(self._names)

    def batches(self, orders: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(rows int64 (B,), `uint8 (B, 3, H, W)`) for each tensor of rows; the next batch is decoded meanwhile."""
        if self.pixels is not None:
            yield from ((rows, self.pixels[rows]) for rows in orders)
            return
        with ThreadPoolExecutor(1) as ahead:
            waiting = None
            for rows in orders:
                following = rows, ahead.submit(self._decode, rows.tolist())
                if waiting:
                    yield waiting[0], waiting[1].result()
                waiting = following
            if waiting:
                yield waiting[0], waiting[1].result()

    def _decode(self, rows: Sequence[int], track: Track = quiet) -> torch.Tensor:
        shape = (len(rows), self._image.height, self._image.width, 3)
        pixels = np.empty(shape, np.uint8)
        with ThreadPoolExecutor(self._workers) as pool:
            photos = pool.map(lambda row: decode(self._dataset.photo(self._names[row]), self._image), rows)
            for place, photo in enumerate(track(photos, "decoding", len(rows))):
                pixels[place] = photo
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
