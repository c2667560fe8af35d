"""A collection: one catalogue embedded by exactly one version, as of one number of the catalogue's changes.

    collection.json          catalogue, model, version, manifest digest, dim, count, digests, the segment that counts now
    SEGMENT/vectors.npy      float32 (N, D), unit rows, memory-mappable, rows sorted by item id
    SEGMENT/rows.parquet     item_id, image_no (-1 = pooled over the item's images), payload (JSON)

A segment never changes; `collection.json` is replaced in one step when there is a newer one. What changed in the
catalogue since the segment's number are deltas (`vitrine.deltas`); an index is built from both and can be rebuilt.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitrine.errors import BadInput, Conflict, NotFound, Tampered
from vitrine.failpoints import point, reach
from vitrine.files import locked, read_json, replacing_folder, sha256_bytes, sha256_file, write_json
from vitrine.ports import Vectors

POOLED = -1
POINTER, LOCK, VECTORS, ROWS = "collection.json", ".lock", "vectors.npy", "rows.parquet"

SEGMENT_WRITTEN = point("collection.segment", "the new segment is whole, the collection still names the old one")


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection says of itself; written last, so a folder without it is unfinished.

    Attributes:
        catalogue_digest: of the dataset that the catalogue had last taken over.
        digest: of the version's manifest.
        seq: the files have every change of the catalogue up to this number.
        history: of which sequence of numbers, `Catalogue.history`.
        segment: the folder of the two files.
        precision: of the engine that embedded; "" where an earlier release did, which did not tell.
    """

    name: str
    catalogue: str
    catalogue_digest: str
    model: str
    version: int
    digest: str
    dim: int
    count: int
    vectors_sha256: str
    rows_sha256: str
    seq: int = 0
    history: str = ""
    segment: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Collection:
    """A collection on this disk, as it was when it was opened.

    Attributes:
        root: the collection's own folder.
    """

    root: Path
    info: CollectionInfo

    @property
    def folder(self) -> Path:
        """Where `vectors.npy` and `rows.parquet` lie."""
        return self.root / self.info.segment

    @cached_property
    def vectors(self) -> Vectors:
        """float32 (N, D), memory-mapped."""
        mapped: Vectors = np.load(self.folder / VECTORS, mmap_mode="r")
        return mapped

    @cached_property
    def item_ids(self) -> list[str]:
        """N item ids, sorted: the row order of `vectors`."""
        ids: list[str] = self._rows.column("item_id").to_pylist()
        return ids

    @cached_property
    def payloads(self) -> list[dict[str, Any]]:
        """N payloads in row order."""
        return [json.loads(text) for text in self._rows.column("payload").to_pylist()]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row number."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def _rows(self) -> pa.Table:
        return pq.read_table(self.folder / ROWS)

    def load(self) -> None:
        """Open everything now and verify it, so that a newer segment or a clean-up later changes nothing here.

        Raises:
            Tampered: a file is missing or damaged.
        """
        try:
            _ = self.vectors, self.item_ids, self.payloads, self.row_of
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            self.verify()
            raise Tampered(f"collection {self.info.name} cannot be read: {error}; {self._remedy()}") from error
        self.verify()

    def insist_on(self, digest: str) -> None:
        """Vectors of one version are never searched with another's.

        Raises:
            Conflict: other content than that of this digest embedded it.
        """
        if self.info.digest != digest:
            raise Conflict(
                f"collection {self.info.name} was embedded by other content than {self.info.model}@{self.info.version}; "
                f"{self._remedy()}"
            )

    def verify(self) -> None:
        """Read both files again.

        Raises:
            Tampered: one of them is missing or different from its recorded digest.
        """
        for name, recorded in (
            (VECTORS, self.info.vectors_sha256),
            (ROWS, self.info.rows_sha256),
        ):
            path = self.folder / name
            if not path.is_file() or sha256_file(path) != recorded:
                raise Tampered(f"{name} of collection {self.info.name} is missing or was changed; {self._remedy()}")

    def _remedy(self) -> str:
        return f"embed the catalogue again: vitrine promote {self.info.model}@{self.info.version}"


def write_collection(
    folder: Path,
    *,
    name: str,
    catalogue: str,
    catalogue_digest: str,
    model: str,
    version: int,
    digest: str,
    vectors: Vectors,
    item_ids: Sequence[str],
    payloads: Sequence[Mapping[str, Any]],
    seq: int = 0,
    history: str = "",
    precision: str = "",
) -> Collection:
    """Write a collection whole: N unit vectors (N, D) with one id and one payload each, as of `seq` of `history`.

    Where a sound one of the same version, history and precision is there as of a later number, that one is returned:
    nobody who was slow takes changes back.

    Raises:
        BadInput: lengths differ, an id comes twice, or a vector is not finite.
    """
    order = _sound_order(vectors, item_ids, payloads)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK):
        there = _sound(folder)
        same = there and (there.digest, there.history, there.precision) == (digest, history, precision)
        if there and same and there.seq > seq:
            return open_collection(folder)
        with replacing_folder(folder / ".segment") as draft:
            np.save(draft / VECTORS, np.ascontiguousarray(vectors[order], dtype=np.float32))
            pq.write_table(_rows(order, item_ids, payloads), draft / ROWS)
            sums = _sums(draft)
        segment = f"{seq:012d}-{sha256_bytes(''.join(sums).encode())[:12]}"
        _settle(folder / ".segment", folder / segment, sums)
        reach(SEGMENT_WRITTEN)
        told = (name, catalogue, catalogue_digest, model, version, digest, int(vectors.shape[1]), len(order))
        write_json(folder / POINTER, asdict(CollectionInfo(*told, *sums, seq, history, segment, precision)))
    return open_collection(folder)


def _sound_order(vectors: Vectors, item_ids: Sequence[str], payloads: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows in the order of their ids, after a look at what nobody may write."""
    if not len(vectors) == len(item_ids) == len(payloads):
        raise BadInput(f"{len(vectors)} vectors, {len(item_ids)} ids, {len(payloads)} payloads: they must agree")
    twice = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
    if twice:
        raise BadInput(f"item id {twice[0]!r} comes twice in the collection; item ids must be unique")
    if not np.isfinite(vectors).all():
        bad = item_ids[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise BadInput(f"the vector of item {bad!r} is not finite; the version's graph gives NaN or infinity for it")
    return sorted(range(len(item_ids)), key=lambda row: item_ids[row])


def _rows(order: Sequence[int], item_ids: Sequence[str], payloads: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array([item_ids[row] for row in order], pa.string()),
            "image_no": pa.array([POOLED] * len(order), pa.int32()),
            "payload": pa.array([json.dumps(payloads[row], sort_keys=True) for row in order], pa.string()),
        }
    )


def _sound(folder: Path) -> CollectionInfo | None:
    """What the collection there says of itself, if its files are whole."""
    try:
        there = open_collection(folder)
        there.verify()
    except (NotFound, Tampered, BadInput):
        return None
    return there.info


def _settle(draft: Path, segment: Path, sums: tuple[str, str]) -> None:
    """Give a written segment its name; what has that name already is the same, or damaged."""
    if segment.exists() and _sums(segment) == sums:
        shutil.rmtree(draft)
        return
    shutil.rmtree(segment, ignore_errors=True)
    draft.rename(segment)


def _sums(segment: Path) -> tuple[str, str]:
    """sha256 of both files; "" for one that is missing."""
    vectors, rows = (sha256_file(file) if file.is_file() else "" for file in (segment / VECTORS, segment / ROWS))
    return vectors, rows


def open_collection(folder: Path) -> Collection:
    """Open a finished collection.

    Raises:
        NotFound: there is none at `folder`.
        Tampered: its pointer is damaged.
        BadInput: another release wrote it.
    """
    if not (folder / POINTER).is_file():
        raise NotFound(f"there is no collection at {folder}; a promotion makes it: vitrine promote NAME@N")
    try:
        told = read_json(folder / POINTER, "collection")
    except BadInput as error:
        raise Tampered(f"{error}; embed the catalogue again: vitrine promote NAME@N") from error
    try:
        return Collection(folder, CollectionInfo(**told))
    except TypeError as error:
        raise BadInput(f"{folder / POINTER} is no collection of this release: {error}") from error
