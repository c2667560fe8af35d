"""Seeded, stratified choice that depends on nothing but relative paths, bytes and the seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from vitrine.files import sha256_file


def stable_order(key: str, seed: int) -> str:
    """A sort key that looks random, the same on every machine and in every folder."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def choose(photos: Mapping[str, Path], label_of: Mapping[str, str], quota: Callable[[int], int], seed: int) -> set[str]:
    """Choose photos class by class; photos with the same bytes are chosen together or not at all.

    Args:
        photos: key (relative path) -> file.
        label_of: key -> class.
        quota: from the number of photos of a class to how many of them are wanted. A group of
            copies that would exceed it is passed over, so a class may get fewer.
        seed: another seed, another choice.
    """
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for group in _copies(photos):
        groups[label_of[group[0]]].append(group)
    chosen: set[str] = set()
    for label in sorted(groups):
        left = quota(sum(len(group) for group in groups[label]))
        for group in sorted(groups[label], key=lambda group: stable_order(group[0], seed)):
            if len(group) <= left:
                chosen.update(group)
                left -= len(group)
    return chosen


def _copies(photos: Mapping[str, Path]) -> list[list[str]]:
    """Groups of keys whose files have the same bytes; only files of equal size are read."""
    sizes = {key: path.stat().st_size for key, path in photos.items()}
    shared = Counter(sizes.values())
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for key in sorted(photos):
        same_size = shared[sizes[key]] > 1
        groups[sizes[key], sha256_file(photos[key]) if same_size else ""].append(key)
    return list(groups.values())
