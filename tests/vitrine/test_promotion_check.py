"""What a promotion checks before its switch; each check against a fault put in by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitrine.collection import Collection, write_collection
from vitrine.collection_content import Content
from vitrine.errors import Refused, Unavailable
from vitrine.gates import GateSettings
from vitrine.indexes import exact
from vitrine.items import Item
from vitrine.ports import Vectors
from vitrine.promotion_check import check_health, check_recall
from vitrine.promotion_plan import Disk, Plan, estimate_disk


def unit(rows: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def written(folder: Path, vectors: Vectors) -> Collection:
    ids = [f"i{number:03d}" for number in range(len(vectors))]
    names = {"name": "c", "catalogue": "shop", "catalogue_digest": "", "model": "m", "version": 1, "digest": "d"}
    return write_collection(folder / "c", **names, vectors=vectors, item_ids=ids, payloads=[{} for _ in ids])  # type: ignore[arg-type]


def item(number: int, images: tuple[str, ...]) -> Item:
    return Item(item_id=f"i{number:03d}", images=images, label="mug", split="test")


def test_an_exact_index_finds_all_of_the_nearest(tmp_path: Path) -> None:
    vectors = unit(200)
    collection = written(tmp_path, vectors)
    assert check_recall(Content(collection.item_ids, vectors), exact.open(collection, {}), 0.98) == 1


def test_an_index_over_other_vectors_is_refused_with_its_recall(tmp_path: Path) -> None:
    """The index searches the same ids, but half of the vectors are others than the collection says."""
    collection = written(tmp_path, unit(200))
    moved = np.concatenate([unit(100, seed=7), unit(200)[100:]])

    with pytest.raises(
        Refused, match=r"the index finds 0\.\d+ of the exact 10 nearest items, at least 0.98 are needed"
    ):
        check_recall(Content(collection.item_ids, moved), exact.open(collection, {}), 0.98)


def test_items_that_tie_at_the_last_place_count_as_found(tmp_path: Path) -> None:
    vectors = np.repeat(unit(5), 20, axis=0)  # 20 equal vectors each: any 10 of them are right
    collection = written(tmp_path, vectors)
    assert check_recall(Content(collection.item_ids, vectors), exact.open(collection, {}), 1.0) == 1


def test_a_collapsed_catalogue_is_refused() -> None:
    items = [item(number, (f"{number:064x}.jpg",)) for number in range(100)]
    with pytest.raises(
        Refused, match=r"m@1 is not promoted, its embedded catalogue is not sound: .*the space collapsed"
    ):
        check_health("m@1", np.repeat(unit(1), 100, axis=0), items, GateSettings())


def test_listings_that_share_their_photo_are_no_collapse() -> None:
    items = [item(number, (f"{number % 50:064x}.jpg",)) for number in range(100)]
    check_health("m@1", np.concatenate([unit(50), unit(50)]), items, GateSettings())


def a_plan(disk: Disk) -> Plan:
    return Plan("m", 2, None, "shop", "shop--m--2", 10, 10, 1.0, disk, ())


def test_a_disk_that_is_too_full_is_told_before_anything_is_made() -> None:
    with pytest.raises(Unavailable, match=r"need about 6\.0 MB while they are made, 5\.0 MB are free; free some space"):
        a_plan(Disk(3_000_000, 2_000_000, 1_000_000, 9_000_000, 5_000_000)).insist()


def test_the_live_collection_takes_no_new_space() -> None:
    disk = Disk(3, 2, 1, 10**12, 6)
    a_plan(disk).insist()
    assert disk.needed == 6


def test_the_estimate_counts_vectors_twice_and_an_index_of_its_own(tmp_path: Path) -> None:
    items = [item(number, (f"{number:064x}.jpg",)) for number in range(1000)]
    files, graph = (estimate_disk(items, 512, kind, tmp_path, None) for kind in ("exact", "qdrant"))

    assert files.index == 0
    assert graph.index > 1000 * 512 * 4
    assert files.collection + files.building > 2 * 1000 * 512 * 4
    assert replace(files, index=graph.index, free=graph.free) == graph
