"""Format `image-folder`: photos in class folders, with or without split folders above them.

    ROOT/{train,val,test}/CLASS[/SUB...]/photo.jpg     splits as given
    ROOT/{train,validation}/CLASS[/SUB...]/photo.jpg   validation is the test set, val is cut from train
    ROOT/CLASS[/SUB...]/photo.jpg                      one split, cut into train, val and test by class

The item id is the path below ROOT, the label the class path joined by "/", the category its parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrine.datasets._options import share, whole
from vitrine.datasets._sampling import choose
from vitrine.errors import BadInput
from vitrine.items import EvalProtocol, LabelInfo, Split
from vitrine.ports import RawItem, Source

OPTIONS: Mapping[str, str] = {
    "holdout": "without split folders: share of each class's photos for the test split, 0 puts all there (0.3)",
    "val": "share of each class's training photos for the val split, where the folder has none (0.1)",
    "seed": "seed of these choices (0)",
    "licence": "licence of the photos, free text (unknown)",
}

_PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}
_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_WITHIN: tuple[Split, ...] = ("test",)


@dataclass
class _Found:
    """Photos by their path below ROOT, each with its class path; classes may be empty."""

    files: dict[str, Path] = field(default_factory=dict)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    empty: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def labels(self) -> dict[str, str]:
        """Photo -> label."""
        return {key: "/".join(parts) for key, parts in self.classes.items()}


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at a folder of photos.

    Raises:
        BadInput: no folder, no photo, photos outside class folders, or split folders that make no sense.
    """
    if not path.is_dir():
        raise BadInput(f"{path} is no folder; give the folder that holds the class or split folders")
    seed = whole(options, "seed", 0, 0, 2**31)
    val_share = share(options, "val", 0.1)
    folders = _split_folders(path)
    found = _Found()
    if folders:
        splits, protocols = _given_splits(found, path, folders, val_share, seed)
    else:
        _scan(path, path, found)
        splits, protocols = _flat_splits(found, share(options, "holdout", 0.3), val_share, seed)
    if not found.files:
        raise BadInput(f"{path} has no photo ({', '.join(sorted(_PHOTOS))}) in a class folder")
    paths = sorted({*found.classes.values(), *found.empty})
    return Source(
        items=_items(found, splits),
        count=len(found.files),
        protocols=protocols,
        licence=str(options.get("licence", "unknown")),
        labels=tuple(LabelInfo("/".join(parts), parts) for parts in paths),
    )


def _items(found: _Found, splits: Mapping[str, Split]) -> Iterator[RawItem]:
    for key in sorted(found.files):
        parts = found.classes[key]
        yield RawItem(key, (found.files[key],), "/".join(parts), splits[key], category=parts)


def _given_splits(
    found: _Found, root: Path, folders: Mapping[Split, Path], val_share: float, seed: int
) -> tuple[dict[str, Split], tuple[EvalProtocol, ...]]:
    """Splits as the folders say; what is missing is made without touching the test set."""
    splits: dict[str, Split] = {}
    for split, folder in folders.items():
        before = set(found.files)
        _scan(root, folder, found)
        splits.update(dict.fromkeys(set(found.files) - before, split))
    within = EvalProtocol("within", _WITHIN, _WITHIN)
    if len(folders) == 3:
        return splits, (EvalProtocol("default", ("test",), ("train",)), within)
    if "test" not in folders:
        splits = {key: "test" if split == "val" else split for key, split in splits.items()}
    _cut_val(found, splits, val_share, seed)
    return splits, (EvalProtocol("default", ("test",), ("train", "val")), within)


def _flat_splits(
    found: _Found, holdout: float, val_share: float, seed: int
) -> tuple[dict[str, Split], tuple[EvalProtocol, ...]]:
    """One original split: the test photos search among themselves."""
    protocols = (EvalProtocol("default", _WITHIN, _WITHIN),)
    if holdout == 0:
        return dict.fromkeys(found.files, "test"), protocols
    splits: dict[str, Split] = dict.fromkeys(found.files, "train")

    def quota(count: int) -> int:
        # A lone test photo would have no other to find, and training needs one of each class too.
        wanted = max(2, round(count * holdout))
        return wanted if wanted < count else 0

    splits.update(dict.fromkeys(choose(found.files, found.labels, quota, seed), "test"))
    _cut_val(found, splits, val_share, seed)
    return splits, protocols


def _cut_val(found: _Found, splits: dict[str, Split], val_share: float, seed: int) -> None:
    training = {key: found.files[key] for key, split in splits.items() if split == "train"}

    def quota(count: int) -> int:
        return min(round(count * val_share), count - 1)

    # Another seed than the test choice: the two are drawn independently.
    splits.update(dict.fromkeys(choose(training, found.labels, quota, seed + 1), "val"))


def _split_folders(root: Path) -> dict[Split, Path]:
    """Folders that are splits, train first; empty where ROOT holds classes."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    named = [entry for entry in folders if entry.name.lower() in _SPLITS]
    kinds = [_SPLITS[entry.name.lower()] for entry in named]
    if "train" not in kinds or len(kinds) == 1:
        if named and len(named) == len(folders):
            names = ", ".join(entry.name for entry in named)
            raise BadInput(
                f"{root} has only {names}; add train and test folders, or import one of its folders by itself"
            )
        return {}  # classes, one of which happens to be called `train` or `test`
    if len(set(kinds)) < len(kinds):
        raise BadInput(f"{root} has two folders for one split: {', '.join(entry.name for entry in named)}; keep one")
    others = [entry.name for entry in folders if entry not in named]
    if others:
        raise BadInput(f"{root} has split folders and also {', '.join(others)}; move these elsewhere")
    found = dict(zip(kinds, named, strict=True))
    order: tuple[Split, ...] = ("train", "val", "test")
    return {split: found[split] for split in order if split in found}


def _scan(root: Path, base: Path, found: _Found) -> None:
    """Add all photos below `base`; class paths start below it, keys below `root`."""
    visited: set[str] = set()
    for here, folders, names in os.walk(base, followlinks=True):
        folder = Path(here)
        real = os.path.realpath(here)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        photos = sorted(n for n in names if not n.startswith(".") and Path(n).suffix.lower() in _PHOTOS)
        parts = folder.relative_to(base).parts
        if photos and not parts:
            raise BadInput(f"{folder / photos[0]} lies outside a class folder; put each photo into its class's folder")
        if parts and not photos and not folders:
            found.empty.add(parts)
        for name in photos:
            key = _key((folder / name).relative_to(root).as_posix())
            found.files[key], found.classes[key] = folder / name, parts


def _key(relative: str) -> str:
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the file name {relative!r} is not UTF-8; rename the file") from error
    return relative
