from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitrine.collection import Collection, open_collection, write_collection
from vitrine.encoder import normalise
from vitrine.errors import BadInput, NotFound, Tampered


def write(folder: Path, ids: list[str], vectors: np.ndarray | None = None, **as_of: object) -> Collection:
    if vectors is None:
        vectors = normalise(np.random.default_rng(0).normal(size=(len(ids), 4)))
    return write_collection(
        folder / "c",
        name="c--shop--1",
        catalogue="c",
        catalogue_digest="d",
        model="shop",
        version=1,
        digest="e" * 64,
        vectors=vectors,
        item_ids=ids,
        payloads=[{"id": item_id, "price": 1.5} for item_id in ids],
        **as_of,  # type: ignore[arg-type]
    )


def test_rows_are_sorted_by_item_id_and_stay_together(tmp_path: Path) -> None:
    vectors = normalise(np.random.default_rng(1).normal(size=(3, 4)))
    collection = write(tmp_path, ["b", "ä", "a"], vectors)

    assert collection.item_ids == ["a", "b", "ä"]
    assert np.array_equal(collection.vectors, vectors[[2, 0, 1]])
    assert [payload["id"] for payload in collection.payloads] == collection.item_ids
    assert collection.row_of == {"a": 0, "b": 1, "ä": 2}


def test_a_collection_opens_as_it_was_written(tmp_path: Path) -> None:
    collection = write(tmp_path, ["a", "b"])

    assert open_collection(tmp_path / "c").info == collection.info
    collection.verify()


def test_an_empty_catalogue_is_a_collection_without_rows(tmp_path: Path) -> None:
    collection = write(tmp_path, [])

    assert (collection.info.count, collection.vectors.shape, collection.item_ids) == (0, (0, 4), [])


@pytest.mark.parametrize("name", ["vectors.npy", "rows.parquet"])
def test_a_changed_file_is_found(tmp_path: Path, name: str) -> None:
    collection = write(tmp_path, ["a", "b"])
    data = bytearray((collection.folder / name).read_bytes())
    data[-1] ^= 1
    (collection.folder / name).write_bytes(data)

    with pytest.raises(Tampered, match=f"{name} of collection c--shop--1 .*vitrine promote shop@1"):
        collection.verify()


def test_an_id_that_comes_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'a' comes twice"):
        write(tmp_path, ["a", "b", "a"])


def test_a_vector_that_is_not_finite_is_named_by_its_item(tmp_path: Path) -> None:
    vectors = np.ones((2, 4), np.float32)
    vectors[1, 2] = np.nan

    with pytest.raises(BadInput, match="item 'b' is not finite"):
        write(tmp_path, ["a", "b"], vectors)


def test_lengths_must_agree(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1 vectors, 2 ids, 2 payloads"):
        write(tmp_path, ["a", "b"], np.ones((1, 4), np.float32))


def test_a_folder_without_a_collection_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="vitrine promote"):
        open_collection(tmp_path)


def test_a_collection_of_another_release_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text('{"colour": "red"}')
    with pytest.raises(BadInput, match="no collection of this release"):
        open_collection(tmp_path)


def test_who_has_a_collection_open_reads_on_when_there_are_newer_files(tmp_path: Path) -> None:
    old = write(tmp_path, ["a", "b"], seq=1, history="h")
    new = write(tmp_path, ["a", "c"], seq=2, history="h")

    assert (old.item_ids, new.item_ids) == (["a", "b"], ["a", "c"])
    assert open_collection(tmp_path / "c").item_ids == ["a", "c"]


def test_who_was_slow_does_not_take_changes_back(tmp_path: Path) -> None:
    write(tmp_path, ["a", "c"], seq=2, history="h")

    assert write(tmp_path, ["a", "b"], seq=1, history="h").item_ids == ["a", "c"]


def test_damaged_newer_files_are_replaced_by_sound_older_ones(tmp_path: Path) -> None:
    newer = write(tmp_path, ["a", "c"], seq=2, history="h")
    (newer.folder / "vectors.npy").write_bytes(b"")

    assert write(tmp_path, ["a", "b"], seq=1, history="h").item_ids == ["a", "b"]


def test_another_history_of_the_catalogue_starts_over(tmp_path: Path) -> None:
    write(tmp_path, ["a", "c"], seq=20, history="h")

    assert write(tmp_path, ["a", "b"], seq=1, history="other").item_ids == ["a", "b"]


def test_killed_before_the_pointer_moved_the_old_files_count(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"], seq=1, history="h")
    script = (
        "from pathlib import Path; from tests.vitrine.test_collection import write; import sys;"
        "write(Path(sys.argv[1]), ['a', 'c'], seq=2, history='h')"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "VITRINE_CRASH_AT": "collection.segment", "PYTHONPATH": str(Path.cwd())},
        check=False,
    )

    assert killed.returncode == -signal.SIGKILL
    assert open_collection(tmp_path / "c").item_ids == ["a", "b"]
    assert write(tmp_path, ["a", "c"], seq=2, history="h").item_ids == ["a", "c"]


def test_a_collection_of_the_layout_without_segments_still_opens(tmp_path: Path) -> None:
    new = write(tmp_path, ["a", "b"])
    for name in ("vectors.npy", "rows.parquet"):
        (new.folder / name).rename(new.root / name)
    told = json.loads((new.root / "collection.json").read_text())
    for later in ("seq", "history", "segment"):
        del told[later]
    (new.root / "collection.json").write_text(json.dumps(told))
    old = open_collection(new.root)
    old.load()

    assert (old.item_ids, old.info.seq) == (["a", "b"], 0)
