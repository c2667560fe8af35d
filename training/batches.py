"""Which photos meet in a batch: everything in random order, photos of equal key never together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch

from training.photos import Photos

Batch = tuple[torch.Tensor, torch.Tensor | None]
"""`uint8 (B, 3, S, S)` and the objective's targets (B, ...)."""


def seed_of(seed: int, epoch: int) -> int:
    """A seed for one epoch, so that an epoch can be repeated without those before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7])


def plan(
    count: int, batch: int, smallest: int, keys: torch.Tensor | None, generator: torch.Generator
) -> list[torch.Tensor]:
    """Rows of each batch of an epoch; how many batches there are does not depend on chance.

    Photos are dealt in rounds, the r-th photo of every key in round r, and a round is cut into whole batches;
    what is left of it waits for another epoch's order. Later rounds of less than a quarter batch are left out.
    `keys` is int64 (count,); None is one round of everything.
    """
    order = torch.randperm(count, generator=generator)
    batches: list[torch.Tensor] = []
    for rows in _rounds(order, keys):
        size = min(batch, len(rows))
        if len(rows) >= smallest and (not batches or size >= batch // 4):
            batches += [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
    return batches


class Batches:
    """One epoch's batches, as the trainer takes them."""

    def __init__(self, photos: Photos, targets: torch.Tensor | None, orders: list[torch.Tensor]) -> None:
        self._photos, self._targets, self._orders = photos, targets, orders

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Batch]:
        for rows, pixels in self._photos.batches(self._orders):
            yield pixels, None if self._targets is None else self._targets[rows]


def _rounds(order: torch.Tensor, keys: torch.Tensor | None) -> list[torch.Tensor]:
    if keys is None:
        return [order]
    shuffled = keys[order].numpy()
    grouped = np.argsort(shuffled, kind="stable")
    _, first, sizes = np.unique(shuffled[grouped], return_index=True, return_counts=True)
    turn = np.empty(len(order), np.int64)
    turn[grouped] = np.arange(len(order)) - np.repeat(first, sizes)
    return [order[torch.from_numpy(turn == r)] for r in range(int(sizes.max()))]
