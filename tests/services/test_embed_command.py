"""`vitrine embed`: files, folders and texts over one stream, resumable, failures by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.factories import photo
from tests.services.conftest import MODEL, Running, promote, running
from tests.services.test_load import until
from vitrine.cli.embed import app
from vitrine.client import VitrineClient
from vitrine.embed_files import Photos, embed_to, photos_in
from vitrine.errors import BadInput, Conflict, NotFound
from vitrine.home import Home
from vitrine.images import MAX_BYTES

COUNT = 70


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in a folder and below it; what is none is passed over."""
    for number in range(COUNT):
        path = tmp_path / "photos" / ("below" if number % 2 else "") / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    return tmp_path / "photos"


def run(*words: str | Path) -> str:
    answer = CliRunner().invoke(app, [str(word) for word in words])
    if answer.exception is not None:
        raise answer.exception
    return answer.stdout


def expected(client: VitrineClient, files: list[Path]) -> np.ndarray:
    """The slow way: a call for each photo."""
    return np.concatenate([client.embed([path.read_bytes()]).vectors for path in files])


def test_photos_without_a_file_to_write_are_one_json_object(
    server: Running, client: VitrineClient, folder: Path
) -> None:
    files = sorted(folder.glob("*.jpg"))[:3]
    told = json.loads(run(*files, "--server", server.address, "--json"))

    np.testing.assert_allclose(told["embeddings"], expected(client, files), atol=1e-6)
    assert (told["version"]["model"], told["files"]) == (MODEL, [str(path) for path in files])


def test_a_folder_is_written_in_order_with_the_names_beside_it(
    server: Running, client: VitrineClient, folder: Path, tmp_path: Path
) -> None:
    said = run(folder, "--server", server.address, "--npy", tmp_path / "out.npy")

    files = photos_in([folder])
    assert (tmp_path / "out.txt").read_text().splitlines() == [str(path) for path in files]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(client, files), atol=1e-6)
    assert f"{COUNT} photos embedded by tiny-search@1, 8 numbers each" in said
    assert not list(tmp_path.glob(".out*"))


def test_photos_that_cannot_be_embedded_are_named_at_the_end_and_the_others_written(
    server: Running, client: VitrineClient, folder: Path, tmp_path: Path
) -> None:
    (folder / "004.jpg").write_bytes(b"no photo")
    with (folder / "006.jpg").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(BadInput, match=f"2 of {COUNT} photos could not be embedded; their rows are zero"):
        run(folder, "--server", server.address, "--npy", tmp_path / "out.npy", "--json")

    files, rows = photos_in([folder]), np.load(tmp_path / "out.npy")
    bad = [files.index(folder / name) for name in ("004.jpg", "006.jpg")]
    assert not rows[bad].any()
    good = [place for place in range(COUNT) if place not in bad]
    np.testing.assert_allclose(rows[good], expected(client, [files[place] for place in good]), atol=1e-6)


def test_failures_are_in_the_json_by_file(server: Running, folder: Path, tmp_path: Path) -> None:
    (folder / "004.jpg").write_bytes(b"")
    answer = CliRunner().invoke(
        app, [str(folder), "--server", server.address, "--npy", str(tmp_path / "out.npy"), "--json"]
    )

    failed = json.loads(answer.stdout)["failed"]
    assert list(failed) == [str(folder / "004.jpg")]
    assert "the image is empty (0 bytes)" in failed[str(folder / "004.jpg")]


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed_after(rows: int) -> Callable[..., Iterator[Any]]:
    def track(things: Any, what: object, total: int | None = None) -> Iterator[Any]:
        for number, thing in enumerate(things, 1):
            yield thing
            if number == rows:
                raise Killed

    return track


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_command_goes_on_where_it_was(
    server: Running, client: VitrineClient, folder: Path, tmp_path: Path, torn: bool
) -> None:
    files, out = photos_in([folder]), tmp_path / "out.npy"
    with pytest.raises(Killed):
        embed_to(client, files, out, killed_after(33))
    assert not out.exists()
    if torn:  # a kill between the rows and their count
        with (tmp_path / ".out.npy.part/rows.f32").open("ab") as stream:
            stream.write(b"half a row")

    done = embed_to(client, files, out)

    assert (done.resumed, done.count) == (64, COUNT)
    np.testing.assert_allclose(np.load(out), expected(client, files), atol=1e-6)


def test_other_photos_begin_anew(client: VitrineClient, folder: Path, tmp_path: Path) -> None:
    files, out = photos_in([folder]), tmp_path / "out.npy"
    with pytest.raises(Killed):
        embed_to(client, files, out, killed_after(33))
    files[0].write_bytes(photo(500))

    assert embed_to(client, files, out).resumed == 0
    np.testing.assert_allclose(np.load(out), expected(client, files), atol=1e-6)


def test_another_version_begins_anew(home: Home, folder: Path, tmp_path: Path) -> None:
    promote(home, tmp_path, seed=1)
    files, out = photos_in([folder]), tmp_path / "out.npy"
    with running(home) as server, VitrineClient(server.address) as client:
        with pytest.raises(Killed):
            embed_to(client, files, out, killed_after(33))
        promote(home, tmp_path, seed=2)
        until(lambda: server.live.snapshot.version == 2)  # type: ignore[union-attr]
        done = embed_to(client, files, out)

        assert (done.resumed, done.version) == (0, f"{MODEL}@2")
        np.testing.assert_allclose(np.load(out), expected(client, files), atol=1e-6)


def test_a_switch_in_the_middle_is_a_conflict_and_the_next_run_is_whole(
    home: Home, folder: Path, tmp_path: Path
) -> None:
    promote(home, tmp_path, seed=1)
    files, out = photos_in([folder]) * 10, tmp_path / "out.npy"

    def switching(things: Any, what: object, total: int | None = None) -> Iterator[Any]:
        for number, thing in enumerate(things):
            if number == 5:
                promote(home, tmp_path, seed=2)
                until(lambda: server.live.snapshot.version == 2)  # type: ignore[union-attr]
            yield thing

    with running(home) as server, VitrineClient(server.address) as client:
        with pytest.raises(Conflict, match="another version went live after"):
            embed_to(client, files, out, switching)
        assert not out.exists()
        assert embed_to(client, files, out).version == f"{MODEL}@2"


def test_a_file_that_goes_away_meanwhile_fails_alone(tmp_path: Path) -> None:
    photos = Photos([tmp_path / "gone.jpg"])

    assert (list(photos), photos.unread) == ([b""], {0: "the file cannot be read: No such file or directory"})


def test_what_is_no_input_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"there is no photo at nowhere\.jpg"):
        run("nowhere.jpg")
    with pytest.raises(BadInput, match=r"empty holds no photo \(\.jpg"):
        run(tmp_path / "empty")
    with pytest.raises(BadInput, match="give either photos or --text"):
        run()
    with pytest.raises(BadInput, match=r"--npy out\.bin must end in \.npy"):
        run(tmp_path, "--npy", "out.bin")
