"""Import: any dataset format -> the canonical form of `vitrine.dataset`, whole or not at all.

The formats are plug-ins (`vitrine/datasets/`); they only say what is there. Reading, checking, hashing
and storing photos happens in `vitrine.storing`, once for all of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine import plugins, rowreport
from vitrine.conclusion import Conclusion
from vitrine.dataset import IMAGES, INFO, Dataset, load_dataset, write_records
from vitrine.errors import BadInput, Conflict
from vitrine.files import read_json, replacing_folder
from vitrine.items import Item
from vitrine.names import check_name
from vitrine.ports import Source
from vitrine.progress import Track, quiet
from vitrine.rowreport import RowSummary
from vitrine.storing import Stored, store_items, store_labels


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
        rows: how many rows of the source ended how; None for sources that are no tables.
        notes: what the format had to say, such as found against published counts.
    """

    name: str
    digest: str
    items: int
    images: int
    splits: Mapping[str, int]
    labels: int
    protocols: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...]
    duplicates_in_split: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float
    rows: RowSummary | None = None


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
    source = _read(importer, path, options, track)
    about = {"format": fmt, "path": str(path), "options": dict(options)}
    with replacing_folder(target) as folder:
        stored, conclusion = _store(folder, source, target, track)
        if not stored.items:
            raise BadInput(f"{path} has no readable photo ({_examples(stored.broken)}); nothing was imported")
        _write(folder, source, name, about, stored, conclusion)
        written = load_dataset(folder)  # read back, so that what is reported is what lies there
        if not replace:
            _check_same(target, written)
    refused_report(target).unlink(missing_ok=True)
    return _report(written, stored.dropped, source.notes, conclusion, time.monotonic() - began)


def refused_report(target: Path) -> Path:
    """Where the report on the rows lies if nothing was imported: beside the dataset's folder."""
    return target.with_name(f"{target.name}-{rowreport.FILE}")


def duplicates_in_split(items: Iterable[Item]) -> dict[str, int]:
    """Per split, how many photos are byte-identical to one of another item of that split."""
    seen = Counter((item.split, image) for item in items for image in set(item.images))
    repeats: Counter[str] = Counter()
    for (split, _), times in seen.items():
        repeats[split] += times - 1
    return {split: extra for split, extra in sorted(repeats.items()) if extra}


def _read(importer: Any, path: Path, options: Mapping[str, Any], track: Track) -> Source:
    read = getattr(importer, "read_tracked", None)
    source: Source = read(path, options, track) if read else importer.read(path, options)
    return source


def _store(folder: Path, source: Source, target: Path, track: Track) -> tuple[Stored, Conclusion | None]:
    """All photos into an empty folder, then the importer's last word on the items that have any."""
    (folder / IMAGES).mkdir()
    stored = store_items(folder, source, track)
    if source.conclude is None:
        return stored, None
    conclusion = source.conclude(list(stored.items.values()), stored.failures)
    if conclusion.refusal:
        report = refused_report(target)
        rowreport.write_report(report, conclusion.ledger.remarks)
        raise BadInput(f"{conclusion.refusal}; nothing was imported, {report} says what is wrong with each row")
    rowreport.write_report(folder / rowreport.FILE, conclusion.ledger.remarks)
    stored.items = {item.item_id: item for item in conclusion.items}
    return stored, conclusion


def _write(
    folder: Path,
    source: Source,
    name: str,
    about: Mapping[str, Any],
    stored: Stored,
    conclusion: Conclusion | None,
) -> None:
    """The tables of a dataset beside its photos."""
    items = list(stored.items.values())
    labels = store_labels(folder, source, items, stored.broken)
    write_records(
        folder,
        name=name,
        items=items,
        labels=labels,
        protocols=conclusion.protocols if conclusion else source.protocols,
        licence=source.licence,
        source=about,
        broken=stored.broken,
    )


def _report(
    dataset: Dataset, dropped: tuple[str, ...], notes: tuple[str, ...], conclusion: Conclusion | None, seconds: float
) -> ImportReport:
    return ImportReport(
        name=dataset.name,
        digest=dataset.digest,
        items=len(dataset.items),
        images=len({image for item in dataset.items for image in item.images}),
        splits=dataset.counts(),
        labels=len(dataset.labels),
        protocols=tuple(protocol.name for protocol in dataset.protocols),
        broken=dataset.broken,
        dropped=dropped,
        duplicates_in_split=duplicates_in_split(dataset.items),
        notes=(*notes, *conclusion.ledger.notes) if conclusion else notes,
        seconds=round(seconds, 2),
        rows=conclusion.ledger.summary() if conclusion else None,
    )


def _check_options(fmt: str, known: Mapping[str, str], given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known and f"{key.partition('.')[0]}.*" not in known:
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


def _examples(broken: Sequence[tuple[str, str]]) -> str:
    if not broken:
        return "no item was found"
    return f"{len(broken)} broken, the first: {broken[0][0]}: {broken[0][1]}"
