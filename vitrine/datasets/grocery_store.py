"""Format `grocery-store`: the Grocery Store dataset of M. Klasson and others, photos taken in shops.

dataset/classes.csv               81 fine classes, their coarse classes, pictures and descriptions
dataset/{train,val,test}.txt      path, fine class id, coarse class id
dataset/{train,val,test}/...      photos
dataset/iconic-images-and-descriptions/...

A photo has no title of its own: its class in words stands for one ("Granny Smith, Apple"), so that the protocol `text`
asks once a class, by its name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vitrine.errors import BadInput
from vitrine.files import read_utf8
from vitrine.items import EvalProtocol, LabelInfo, Split
from vitrine.ports import RawItem, Source

OPTIONS: Mapping[str, str] = {}

_LISTS: tuple[Split, ...] = ("train", "val", "test")
_PROTOCOLS = (
    EvalProtocol("default", ("test",), ("train",)),
    EvalProtocol("within", ("test",), ("test",)),
    EvalProtocol("text", ("test",), ("train",), ask_by="title"),
)


@dataclass(frozen=True)
class _Class:
    fine: str
    coarse: str
    picture: str
    description: str

    @property
    def title(self) -> str:
        """The class in words, with the kind of thing where its name does not say it."""
        fine, coarse = (name.replace("-", " ") for name in (self.fine, self.coarse))
        return fine if coarse in fine else f"{fine}, {coarse}"


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at the dataset; `path` is its folder or the `dataset/` folder in it.

    Raises:
        BadInput: one of its files is missing or malformed; the message names it.
    """
    del options  # it has none
    root = path / "dataset" if (path / "dataset").is_dir() else path
    classes = _read_classes(_existing(root, "classes.csv"))
    rows = [(split, *row) for split in _LISTS for row in _read_list(_existing(root, f"{split}.txt"), classes)]
    return Source(
        items=_items(root, rows, classes),
        count=len(rows),
        protocols=_PROTOCOLS,
        licence="MIT",
        labels=tuple(_label(root, entry) for entry in classes.values()),
        label_images={entry.fine: root / entry.picture for entry in classes.values()},
    )


def _items(root: Path, rows: list[tuple[Split, str, int]], classes: Mapping[int, _Class]) -> Iterator[RawItem]:
    for split, photo, fine_id in rows:
        entry = classes[fine_id]
        top = _top_folder(photo)
        category = (top, entry.coarse, entry.fine)
        yield RawItem(photo, (root / photo,), entry.fine, split, category=category, title=entry.title)


def _label(root: Path, entry: _Class) -> LabelInfo:
    top = _top_folder(entry.picture)
    text = root / entry.description
    description = text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else ""
    return LabelInfo(entry.fine, (top, entry.coarse, entry.fine), description)


def _top_folder(path: str) -> str:
    """`Fruit` of `train/Fruit/Apple/photo.jpg`."""
    parts = PurePosixPath(path).parts
    if len(parts) < 3:
        raise BadInput(f"{path!r} is no path of the Grocery Store dataset; expected SPLIT/GROUP/.../photo.jpg")
    return parts[1]


def _existing(root: Path, name: str) -> Path:
    if not (root / name).is_file():
        raise BadInput(f"{root} is no Grocery Store dataset: {name} is missing; give the folder that holds classes.csv")
    return root / name


def _read_classes(path: Path) -> dict[int, _Class]:
    rows = list(csv.reader(read_utf8(path).splitlines()))[1:]
    try:
        return {int(row[1]): _Class(row[0], row[2], row[4].lstrip("/"), row[5].lstrip("/")) for row in rows if row}
    except (IndexError, ValueError) as error:
        raise BadInput(
            f"{path} is malformed ({error}): it needs name, id, coarse name, coarse id, two paths"
        ) from error


def _read_list(path: Path, classes: Mapping[int, _Class]) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = [part.strip() for part in line.split(",")]
        photo = PurePosixPath(fields[0])
        inside = len(photo.parts) >= 3 and not photo.is_absolute() and ".." not in photo.parts
        if len(fields) != 3 or not fields[1].isdecimal() or int(fields[1]) not in classes or not inside:
            raise BadInput(f"{path} line {number} is malformed: {line!r}; it needs path, fine id, coarse id")
        yield fields[0], int(fields[1])
