"""Photos of a source -> files of a dataset: decoded once to see that they are whole, named by their hash."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from vitrine.conclusion import Located, Photo
from vitrine.dataset import IMAGES
from vitrine.errors import BadInput
from vitrine.files import sha256_bytes, write_atomic
from vitrine.images import ImageSpec, decode
from vitrine.items import Item, LabelInfo
from vitrine.ports import RawItem, Source
from vitrine.progress import Track

_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tiff"}
_ANY_SIZE = ImageSpec(64, 64)
_CHUNK = 64  # items in memory at a time

Broken = tuple[str, str]
"""(photo as its owner calls it, reason)."""


@dataclass
class Stored:
    """What became of the photos of a source.

    Attributes:
        items: by id, those with at least one photo.
        failures: by item id, the photos that could not be stored; empty for an item that had none at all.
        broken: the same for people, in the order of the source, pictures of classes included.
    """

    items: dict[str, Item] = field(default_factory=dict)
    failures: dict[str, list[tuple[Photo, str]]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the items without a readable photo."""
        return tuple(item_id for item_id in self.failures if item_id not in self.items)


def store_items(folder: Path, source: Source, track: Track) -> Stored:
    """Write every readable photo of a source into `folder/images`.

    Raises:
        BadInput: two items have one id.
    """
    stored = Stored()
    for raw, images, failures in track(_stored(folder, source.items), "reading photos", source.count):
        if raw.item_id in stored.items or raw.item_id in stored.failures:
            raise BadInput(f"item id {raw.item_id!r} comes twice; item ids must be unique, rename one of them")
        if failures or not images:
            stored.failures[raw.item_id] = failures
            stored.broken += [(_address(raw, photo), reason) for photo, reason in failures]
        if images:
            stored.items[raw.item_id] = _item(raw, images)
    return stored


def _stored(
    folder: Path, raws: Iterator[RawItem]
) -> Iterator[tuple[RawItem, tuple[str, ...], list[tuple[Photo, str]]]]:
    """Store the photos of each item in two threads; decoding releases the interpreter lock."""
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(itertools.islice(raws, _CHUNK)):
            stored = pool.map(lambda raw: _store_photos(folder, raw), chunk)
            for raw, (images, failures) in zip(chunk, stored, strict=True):
                yield raw, images, failures


def _store_photos(folder: Path, raw: RawItem) -> tuple[tuple[str, ...], list[tuple[Photo, str]]]:
    images: list[str] = []
    failures: list[tuple[Photo, str]] = []
    for photo in raw.images:
        file = photo.path if isinstance(photo, Located) else photo
        if file is None:
            failures.append((photo, photo.trouble if isinstance(photo, Located) else ""))
            continue
        try:
            images.append(_store_photo(folder, file))
        except (BadInput, OSError, ValueError) as error:  # ValueError: no path at all, such as one with a null byte
            failures.append((photo, _reason(error)))
    return tuple(dict.fromkeys(images)), failures


def _address(raw: RawItem, photo: Photo) -> str:
    """What a photo is called where its failure is told."""
    if isinstance(photo, Located):
        return photo.address
    return str(photo) if isinstance(photo, Path) else f"{raw.item_id} photo {raw.images.index(photo) + 1}"


def _store_photo(folder: Path, photo: Path | bytes) -> str:
    data = photo.read_bytes() if isinstance(photo, Path) else photo
    decode(data, _ANY_SIZE)  # what the one decoder cannot read, nothing downstream can
    name = photo_name(data)
    if not (folder / IMAGES / name).exists():
        write_atomic(folder / IMAGES / name, data)
    return name


def photo_name(data: bytes) -> str:
    """What a photo is called where it is kept: the sha256 of its bytes, and an extension by its format.

    Raises:
        BadInput: the bytes begin like no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = image.format or "bin"
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(
            f"the image ({len(data)} bytes) cannot be read: {error}; send a JPEG, PNG or WebP file"
        ) from error
    return f"{sha256_bytes(data)}.{_EXTENSIONS.get(kind, kind.lower())}"


def store_labels(folder: Path, source: Source, items: list[Item], broken: list[Broken]) -> list[LabelInfo]:
    """The importer's classes with their pictures, and those that only items mention."""
    labels = {info.label: info for info in source.labels}
    for item in items:
        labels.setdefault(item.label, LabelInfo(item.label, item.category))
    for label, picture in source.label_images.items():
        try:
            image = _store_photo(folder, picture)
        except (BadInput, OSError) as error:
            broken.append((str(picture), _reason(error)))
            continue
        info = labels[label]
        labels[label] = LabelInfo(info.label, info.category, info.description, image)
    return sorted(labels.values(), key=lambda info: info.label)


def _item(raw: RawItem, images: tuple[str, ...]) -> Item:
    fields = {name: getattr(raw, name) for name in RawItem.__dataclass_fields__}
    return Item(**{**fields, "images": images})


def _reason(error: Exception) -> str:
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error)
