from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from vitrine.errors import BadInput, NotFound
from vitrine.files import read_json, replacing_folder, sha256_bytes, sha256_file, write_atomic, write_json


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mug" * 100_000)

    assert sha256_file(tmp_path / "f") == sha256_bytes(b"mug" * 100_000)


def test_the_same_json_value_is_the_same_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "ä": 2})
    write_json(tmp_path / "b", {"ä": 2, "x": 1})

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a", "value") == {"x": 1, "ä": 2}


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "f", "\ud800")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with replacing_folder(tmp_path / "folder") as draft:
            (draft / text).write_text(text)

    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["folder", "folder/new"]


def test_a_folder_stays_as_it_was_if_the_work_fails(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "folder") as draft:
        (draft / "old").write_text("old")
    with pytest.raises(IsADirectoryError), replacing_folder(tmp_path / "folder") as draft:
        draft.write_text("a folder is no file")

    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["folder", "old"]


def test_a_draft_of_a_killed_process_goes_when_the_folder_is_replaced_again(tmp_path: Path) -> None:
    killed = tmp_path / ".folder.0123abcd"
    killed.mkdir()
    foreign = tmp_path / ".folder.of-somebody"
    foreign.mkdir()
    time.sleep(2.1)
    with replacing_folder(tmp_path / "folder") as draft:
        (draft / "new").write_text("new")

    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder.of-somebody", "folder"]


def test_a_draft_that_another_process_is_writing_stays(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "folder") as slow:
        time.sleep(2.1)
        with replacing_folder(tmp_path / "folder") as quick:
            (quick / "quick").write_text("quick")
        (slow / "slow").write_text("slow")

    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["folder", "folder/slow"]


def test_at_no_moment_of_a_replacement_is_the_folder_missing(tmp_path: Path) -> None:
    folder, stop, missing = tmp_path / "folder", threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            missing.append(not folder.exists())

    with replacing_folder(folder):
        pass
    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(200):
        with replacing_folder(folder) as draft:
            (draft / "file").write_text("x")
    stop.set()
    watcher.join()

    assert missing
    assert not any(missing)


def test_a_missing_file_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no lineage at"):
        read_json(tmp_path / "none.json", "lineage")


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe\x00"])
def test_a_broken_json_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(BadInput, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json", "value")
