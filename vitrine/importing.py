"""Import: any dataset format -> the canonical form of `vitrine.dataset`, whole or not at all.

The formats are plug-ins (`vitrine/datasets/`); they only say what is there. Reading, checking, hashing
and storing photos happens here, once for all of them.
"""

from __future__ import annotations

import io
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vitrine import plugins
from vitrine.dataset import IMAGES, INFO, Dataset, load_dataset, write_records
from vitrine.errors import BadInput, Conflict
from vitrine.files import read_json, replacing_folder, sha256_bytes, write_atomic
from vitrine.images import ImageSpec, decode
from vitrine.items import Item, LabelInfo
from vitrine.names import check_name
from vitrine.ports import RawItem, Source
from vitrine.progress import Track, quiet

_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tiff"}
_ANY_SIZE = ImageSpec(64, 64)
_CHUNK = 64  # items in memory at a time

Broken = tuple[str, str]


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        items: how many items were kept; `splits` has them per split.
        images: how many different photos were stored.
        labels: how many classes, those without a photo included.
        broken: (photo, reason) of each photo that was left out.
        dropped: ids of items of which no photo could be read.
        duplicates_in_split: per split, how many photos repeat the bytes of another item's photo.
        notes: what the format had to say, such as found against published counts.
    """

    name: str
    digest: str
    items: int
    images: int
    splits: Mapping[str, int]
    labels: int
    protocols: tuple[str, ...]
    broken: tuple[Broken, ...]
    dropped: tuple[str, ...]
    duplicates_in_split: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float


def import_dataset(
    fmt: str,
    path: Path,
    name: str,
    target: Path,
    options: Mapping[str, Any],
    *,
    track: Track = quiet,
    replace: bool = True,
) -> ImportReport:
    """Read `path` as format `fmt` and write the dataset folder `target`.

    Args:
        fmt: a module of `vitrine/datasets/`, such as `image-folder`.
        path: what to read; recorded as it was given.
        name: of the dataset, written into it.
        target: the folder to write.
        options: of that format; its `OPTIONS` says which there are.
        track: reports progress.
        replace: whether a dataset with other content at `target` may be replaced.

    Raises:
        BadInput: unknown format or option, wrong layout, no readable photo at all, or `target` is
            a folder that is no dataset.
        Conflict: `target` holds other content and `replace` is false.
    """
    began = time.monotonic()
    check_name(name, "dataset name")
    _check_target(target)
    importer = plugins.load("datasets", fmt)
    _check_options(fmt, importer.OPTIONS, options)
    source: Source = importer.read(path, options)
    about = {"format": fmt, "path": str(path), "options": dict(options)}
    with replacing_folder(target) as folder:
        dropped = _write(folder, source, name, about, track)
        written = load_dataset(folder)  # read back, so that what is reported is what lies there
        if not written.items:
            raise BadInput(f"{path} has no readable photo ({_examples(written.broken)}); nothing was imported")
        if not replace:
            _check_same(target, written)
    return _report(written, dropped, source.notes, time.monotonic() - began)


def duplicates_in_split(items: Iterable[Item]) -> dict[str, int]:
    """Per split, how many photos are byte-identical to one of another item of that split."""
    seen = Counter((item.split, image) for item in items for image in set(item.images))
    repeats: Counter[str] = Counter()
    for (split, _), times in seen.items():
        repeats[split] += times - 1
    return {split: extra for split, extra in sorted(repeats.items()) if extra}


def _write(folder: Path, source: Source, name: str, about: Mapping[str, Any], track: Track) -> list[str]:
    """Everything of a dataset into an empty folder; the ids of items without a readable photo."""
    (folder / IMAGES).mkdir()
    items, broken, dropped = _store_items(folder, source, track)
    labels = _store_labels(folder, source, items, broken)
    write_records(
        folder,
        name=name,
        items=items,
        labels=labels,
        protocols=source.protocols,
        licence=source.licence,
        source=about,
        broken=broken,
    )
    return dropped


def _report(dataset: Dataset, dropped: list[str], notes: tuple[str, ...], seconds: float) -> ImportReport:
    return ImportReport(
        name=dataset.name,
        digest=dataset.digest,
        items=len(dataset.items),
        images=len({image for item in dataset.items for image in item.images}),
        splits=dataset.counts(),
        labels=len(dataset.labels),
        protocols=tuple(protocol.name for protocol in dataset.protocols),
        broken=dataset.broken,
        dropped=tuple(dropped),
        duplicates_in_split=duplicates_in_split(dataset.items),
        notes=notes,
        seconds=round(seconds, 2),
    )


def _store_items(folder: Path, source: Source, track: Track) -> tuple[list[Item], list[Broken], list[str]]:
    items: dict[str, Item] = {}
    broken: list[Broken] = []
    dropped: list[str] = []
    for raw, images, failures in track(_stored(folder, source.items), "reading photos", source.count):
        if raw.item_id in items:
            raise BadInput(f"item id {raw.item_id!r} comes twice; item ids must be unique, rename one of them")
        broken += failures
        if images:
            items[raw.item_id] = _item(raw, images)
        else:
            dropped.append(raw.item_id)
    return list(items.values()), broken, dropped


def _stored(folder: Path, raws: Iterator[RawItem]) -> Iterator[tuple[RawItem, tuple[str, ...], list[Broken]]]:
    """Store the photos of each item in two threads; decoding releases the interpreter lock."""
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(itertools.islice(raws, _CHUNK)):
            stored = pool.map(lambda raw: _store_photos(folder, raw), chunk)
            for raw, (images, failures) in zip(chunk, stored, strict=True):
                yield raw, images, failures


def _store_photos(folder: Path, raw: RawItem) -> tuple[tuple[str, ...], list[Broken]]:
    images: list[str] = []
    failures: list[Broken] = []
    for number, photo in enumerate(raw.images):
        source = str(photo) if isinstance(photo, Path) else f"{raw.item_id} photo {number + 1}"
        try:
            images.append(_store_photo(folder, photo))
        except (BadInput, OSError) as error:
            failures.append((source, _reason(error)))
    return tuple(dict.fromkeys(images)), failures


def _store_photo(folder: Path, photo: Path | bytes) -> str:
    data = photo.read_bytes() if isinstance(photo, Path) else photo
    decode(data, _ANY_SIZE)  # what the one decoder cannot read, nothing downstream can
    with Image.open(io.BytesIO(data)) as image:
        kind = image.format or "bin"
    name = f"{sha256_bytes(data)}.{_EXTENSIONS.get(kind, kind.lower())}"
    if not (folder / IMAGES / name).exists():
        write_atomic(folder / IMAGES / name, data)
    return name


def _store_labels(folder: Path, source: Source, items: list[Item], broken: list[Broken]) -> list[LabelInfo]:
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


def _check_options(fmt: str, known: Mapping[str, str], given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known:
            allowed = "; ".join(f"{name}: {text}" for name, text in known.items()) or "it has none"
            raise BadInput(f"format {fmt} has no option {key!r}; its options: {allowed}", field=key)


def _check_target(target: Path) -> None:
    if target.exists() and not (target / INFO).is_file() and (target.is_file() or any(target.iterdir())):
        raise BadInput(f"{target} exists and is no dataset; it is left alone, choose another name or move it away")


def _check_same(target: Path, new: Dataset) -> None:
    if not (target / INFO).is_file():
        return
    # The recorded digest, not a verified one: importing the same content again repairs a damaged dataset.
    present = str(read_json(target / INFO, "dataset").get("digest"))
    if present != new.digest:
        raise Conflict(
            f"dataset {new.name} exists with other content ({present[:12]}…, this would be {new.digest[:12]}…); "
            "choose another --name, or replace it with --force"
        )


def _reason(error: Exception) -> str:
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error)


def _examples(broken: Sequence[Broken]) -> str:
    if not broken:
        return "no item was found"
    return f"{len(broken)} broken, the first: {broken[0][0]}: {broken[0][1]}"
