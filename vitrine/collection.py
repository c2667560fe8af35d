"""A collection: one catalogue embedded by exactly one version. Files are the source of truth.

    collection.json     catalogue, model, version, manifest digest, dim, count, segment digests
    vectors.npy         float32 (N, D), unit rows, memory-mappable, rows sorted by item id
    rows.parquet        item_id, image_no (-1 = pooled over the item's images), payload (JSON)

An index is built from these files and can be rebuilt from them at any time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import read_json, replacing_folder, sha256_file, write_json
from vitrine.ports import Vectors

POOLED = -1


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection says of itself; written last, so a folder without it is unfinished."""

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


@dataclass(frozen=True)
class Collection:
    """A collection on this disk."""

    folder: Path
    info: CollectionInfo

    @cached_property
    def vectors(self) -> Vectors:
        """float32 (N, D), memory-mapped."""
        mapped: Vectors = np.load(self.folder / "vectors.npy", mmap_mode="r")
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
        return pq.read_table(self.folder / "rows.parquet")

    def load(self) -> None:
        """Open everything now and verify it, so that another collection in the folder later changes nothing here.

        Raises:
            Tampered: a file is missing, damaged, or was replaced this very moment.
        """
        self.verify()
        _ = self.vectors, self.item_ids, self.payloads, self.row_of
        self.verify()

    def verify(self) -> None:
        """Read both files again.

        Raises:
            Tampered: one of them is missing or different from its recorded digest.
        """
        for name, recorded in (
            ("vectors.npy", self.info.vectors_sha256),
            ("rows.parquet", self.info.rows_sha256),
        ):
            path = self.folder / name
            if not path.is_file() or sha256_file(path) != recorded:
                raise Tampered(
                    f"{name} of collection {self.info.name} is missing or was changed; "
                    f"embed the catalogue again: vitrine promote {self.info.model}@{self.info.version}"
                )


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
) -> Collection:
    """Write a collection whole: N unit vectors (N, D) with one id and one payload each.

    Raises:
        BadInput: lengths differ or an id comes twice.
    """
    if not len(vectors) == len(item_ids) == len(payloads):
        raise BadInput(f"{len(vectors)} vectors, {len(item_ids)} ids, {len(payloads)} payloads: they must agree")
    twice = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
    if twice:
        raise BadInput(f"item id {twice[0]!r} comes twice in the collection; item ids must be unique")
    if not np.isfinite(vectors).all():
        bad = item_ids[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise BadInput(f"the vector of item {bad!r} is not finite; the version's graph gives NaN or infinity for it")
    order = sorted(range(len(item_ids)), key=lambda row: item_ids[row])
    with replacing_folder(folder) as draft:
        np.save(draft / "vectors.npy", np.ascontiguousarray(vectors[order], dtype=np.float32))
        rows = pa.table(
            {
                "item_id": pa.array([item_ids[row] for row in order], pa.string()),
                "image_no": pa.array([POOLED] * len(order), pa.int32()),
                "payload": pa.array([json.dumps(payloads[row], sort_keys=True) for row in order], pa.string()),
            }
        )
        pq.write_table(rows, draft / "rows.parquet")
        info = CollectionInfo(
            name,
            catalogue,
            catalogue_digest,
            model,
            version,
            digest,
            int(vectors.shape[1]),
            len(order),
            sha256_file(draft / "vectors.npy"),
            sha256_file(draft / "rows.parquet"),
        )
        write_json(draft / "collection.json", asdict(info))
    return open_collection(folder)


def open_collection(folder: Path) -> Collection:
    """Open a finished collection.

    Raises:
        NotFound: there is none at `folder`.
    """
    if not (folder / "collection.json").is_file():
        raise NotFound(f"there is no collection at {folder}; a promotion makes it: vitrine promote NAME@N")
    try:
        return Collection(folder, CollectionInfo(**read_json(folder / "collection.json", "collection")))
    except TypeError as error:
        raise BadInput(f"{folder / 'collection.json'} is no collection of this release: {error}") from error
