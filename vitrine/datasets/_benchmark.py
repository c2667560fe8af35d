"""What the public benchmarks share: their layout's missing files, lists of photos, published counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vitrine.datasets._options import flag
from vitrine.errors import BadInput
from vitrine.files import read_utf8
from vitrine.items import EvalProtocol, LabelInfo, Split
from vitrine.ports import RawItem, Source

PARTIAL = {"partial": "true: import what is there although the counts are not the published ones (false)"}

SELF = (EvalProtocol("default", ("test",), ("test",)),)
"""Test photos search among themselves, the query left out: Song et al. 2016, section 6."""

CLOSED = (EvalProtocol("default", ("test",), ("train",)), EvalProtocol("within", ("test",), ("test",)))
"""For sets whose classes are the same in training and test: the shelf is what one has trained on."""


@dataclass(frozen=True)
class Photo:
    """One line of a benchmark's lists. `path` is below the folder of photos; `key` is the item's id."""

    path: str
    label: str
    split: Split
    category: tuple[str, ...]
    product_id: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark as it was published.

    Attributes:
        name: as its authors write it.
        layout: the files that an unpacked download has, one a line.
        counts: photos per split and, under `classes`, how many classes there are.
        source: where the counts stand.
        licence: what its authors allow, in a few words.
        exact: whether other counts are an error, unless they are accepted with `partial=true`.
    """

    name: str
    layout: str
    counts: Mapping[str, int]
    source: str
    licence: str
    protocols: tuple[EvalProtocol, ...]
    exact: bool = False

    def existing(self, *candidates: Path) -> Path:
        """The first candidate that is there, a file or a folder.

        Raises:
            BadInput: none is; the message names the first and shows the whole layout.
        """
        for path in candidates:
            if path.exists():
                return path
        wanted = " or ".join(str(path) for path in candidates)
        raise BadInput(f"{wanted} is missing; {self.name} as published has\n{self.layout}")

    def source_of(
        self, root: Path, photos: Sequence[Photo], options: Mapping[str, Any], labels: Iterable[LabelInfo] = ()
    ) -> Source:
        """Everything that an import needs, after the counts were compared.

        Raises:
            BadInput: no photo is listed, one lies outside the folder, or the counts of an `exact`
                benchmark differ and `partial` is not set.
        """
        _check_paths(self.name, photos)
        absent = missing(root, photos)
        return Source(
            items=_items(root, photos),
            count=len(photos),
            protocols=self.protocols,
            licence=self.licence,
            labels=tuple(labels),
            notes=self._notes(photos, absent, allowed=self.exact and flag(options, "partial")),
        )

    def _notes(self, photos: Sequence[Photo], absent: list[str], *, allowed: bool) -> tuple[str, ...]:
        gone = set(absent)
        found: Counter[str] = Counter(photo.split for photo in photos if photo.path not in gone)
        found["classes"] = len({photo.label for photo in photos if photo.path not in gone})
        same = all(found[what] == count for what, count in self.counts.items())
        shown = ", ".join(f"{what} {found[what]:,} of {count:,}" for what, count in self.counts.items())
        note = f"{self.name}, found of published ({self.source}): {shown}"
        lost = f"; {len(absent)} listed photos are missing, such as {absent[0]}" if absent else ""
        if self.exact and not same and not allowed:
            raise BadInput(
                f"{note}{lost}; the copy is not whole: download it again, or import what is there with -o partial=true",
                field="partial",
            )
        return (f"{note}{lost}" + ("" if same else "; numbers are not comparable with published ones"),)


def missing(root: Path, photos: Iterable[Photo]) -> list[str]:
    """Listed paths that are not there; each folder is read once, so that a million photos take seconds."""
    folders: dict[PurePosixPath, set[str]] = defaultdict(set)
    for photo in photos:
        path = PurePosixPath(photo.path)
        folders[path.parent].add(path.name)
    absent: list[str] = []
    for folder, wanted in sorted(folders.items()):
        here = root / folder
        present = {entry.name for entry in here.iterdir()} if here.is_dir() else set()
        absent += [str(folder / name) for name in sorted(wanted - present)]
    return absent


def rows(path: Path, columns: int, *, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Lines of a blank-separated list with their numbers, without the first `skip`.

    Raises:
        BadInput: a line has another number of columns, or the file is no UTF-8.
    """
    for number, line in enumerate(read_utf8(path).splitlines()[skip:], skip + 1):
        fields = line.split()
        if fields and len(fields) != columns:
            raise malformed(path, number, line, f"it needs {columns} columns separated by blanks")
        if fields:
            yield number, fields


def malformed(path: Path, number: int, line: object, wanted: str) -> BadInput:
    """The error of a line that cannot be read."""
    return BadInput(f"{path} line {number} is malformed: {line!r}; {wanted}")


def _check_paths(name: str, photos: Sequence[Photo]) -> None:
    if not photos:
        raise BadInput(f"{name}: the lists name no photo")
    for photo in photos:
        path = PurePosixPath(photo.path)
        if path.is_absolute() or ".." in path.parts:
            raise BadInput(f"{name}: the listed path {photo.path!r} leads out of the folder")


def _items(root: Path, photos: Iterable[Photo]) -> Iterator[RawItem]:
    for photo in photos:
        yield RawItem(
            photo.path,
            (root / photo.path,),
            photo.label,
            photo.split,
            category=photo.category,
            product_id=photo.product_id,
        )
