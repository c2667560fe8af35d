from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vitrine.artifacts import ArtifactStore
from vitrine.artifacts_remote import RemoteArtifacts, masked, open_artifacts
from vitrine.errors import BadInput, NotFound, Tampered, Unavailable
from vitrine.files import sha256_bytes
from vitrine.home import Home, find_home


class Shaky(MemoryFileSystem):  # type: ignore[misc]
    """Storage whose next upload is cut or whose network is gone."""

    protocol = "shaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cut = False
    gone = False

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self.answer()
        with self.open(rpath, "wb") as there:
            data = Path(lpath).read_bytes()
            there.write(data[: len(data) // 2] if Shaky.cut else data)

    def info(self, path: str, **options: Any) -> Any:
        self.answer()
        return super().info(path, **options)

    def answer(self) -> None:
        if Shaky.gone:
            raise ConnectionResetError(104, "connection reset by peer")


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteArtifacts]:
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    Shaky.store.clear()
    Shaky.cut = Shaky.gone = False
    yield RemoteArtifacts("shaky://ann:secret@team/artifacts", tmp_path / "copies")
    Shaky.store.clear()


def place(sha: str) -> str:
    (found,) = [key for key in Shaky.store if key.endswith(f"/{sha[:2]}/{sha}")]
    return found


def test_what_one_machine_stores_another_reads(remote: RemoteArtifacts, tmp_path: Path) -> None:
    sha = remote.put_bytes(b"a mug")
    other = RemoteArtifacts("shaky://ann:secret@team/artifacts", tmp_path / "other")

    assert (other.has(sha), other.read(sha), other.path(sha).read_bytes()) == (True, b"a mug", b"a mug")
    assert [(one.name, one.size) for one in other.listing()] == [(sha, 5)]
    assert list(other.leftovers()) == []


def test_a_copy_is_read_without_the_network(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    Shaky.gone = True

    assert remote.read(sha) == b"a mug"


def test_a_damaged_copy_is_fetched_again(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    copy = remote.path(sha)
    copy.chmod(0o644)
    copy.write_bytes(b"a jug")

    assert remote.read(sha) == b"a mug"


def test_what_was_altered_there_is_never_handed_out(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    Shaky.store[place(sha)].seek(0)
    Shaky.store[place(sha)].write(b"a jug")
    shutil.rmtree(remote.root)

    for hand_out in (remote.path, remote.read):
        with pytest.raises(
            Tampered, match="is not loaded; restore it from a backup, or remove it there and put it back"
        ):
            hand_out(sha)
    assert list(remote.copies.all()) == []
    assert "is not loaded" in remote.problem(sha)


def test_an_alteration_there_is_a_problem_even_where_a_copy_is_sound(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    Shaky.store[place(sha)].seek(0)
    Shaky.store[place(sha)].write(b"a jug")

    assert remote.verify() == [remote.problem(sha)]


def test_a_cut_upload_is_not_stored(remote: RemoteArtifacts) -> None:
    Shaky.cut = True
    with pytest.raises(Unavailable, match="nothing was stored: 2 of 5 bytes arrived at shaky://team/artifacts"):
        remote.put_bytes(b"a mug")

    assert not remote.has(sha256_bytes(b"a mug"))
    assert list(remote.leftovers()) == []


def test_a_network_that_is_gone_is_said_without_the_password(remote: RemoteArtifacts) -> None:
    Shaky.gone = True

    with pytest.raises(
        Unavailable, match="connection reset by peer; check the address in VITRINE_ARTIFACTS_URL"
    ) as caught:
        remote.put_bytes(b"a mug")
    assert "secret" not in str(caught.value)


def test_storing_again_uploads_only_what_is_missing_or_cut(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    first = Shaky.store[place(sha)]
    remote.put_bytes(b"a mug")
    assert Shaky.store[place(sha)] is first
    first.truncate(2)
    remote.put_bytes(b"a mug")

    assert remote.problem(sha) == ""


def test_what_is_put_again_counts_as_new(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    Shaky.store[place(sha)].modified = datetime.now(UTC) - timedelta(days=9)
    remote.put_bytes(b"a mug")

    (stored,) = remote.listing()
    assert time.time() - stored.modified < 60


def test_what_is_held_counts_as_new_and_what_is_not_there_is_not_held(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    Shaky.store[place(sha)].modified = datetime.now(UTC) - timedelta(days=9)

    assert remote.hold(sha)
    (stored,) = remote.listing()
    assert time.time() - stored.modified < 60
    assert not remote.hold("0" * 64)


def test_a_missing_file_says_where_it_was_looked_for(remote: RemoteArtifacts) -> None:
    sha = sha256_bytes(b"never stored")

    with pytest.raises(NotFound, match=f"artifact {sha[:12]}… is missing in shaky://team/artifacts"):
        remote.path(sha)
    assert "is missing in" in remote.problem(sha)


def test_what_is_removed_is_gone_there_and_here(remote: RemoteArtifacts) -> None:
    sha = remote.put_bytes(b"a mug")
    remote.remove(sha)
    remote.remove(sha)

    assert (remote.has(sha), list(remote.copies.all()), Shaky.store) == (False, [], {})


def test_fsspecs_own_memory_storage_serves_as_well(tmp_path: Path) -> None:
    store = RemoteArtifacts("memory://vitrine-test", tmp_path)
    sha = store.put_bytes(b"a mug")

    assert (list(store.all()), store.verify()) == ([sha], [])
    store.remove(sha)
    assert list(store.all()) == []


@pytest.mark.parametrize("url", ["{tmp}/shared", "file://{tmp}/shared"])
def test_a_folder_by_url_is_a_local_store(tmp_path: Path, url: str) -> None:
    store = open_artifacts(Home(tmp_path, "", tmp_path, artifacts_url=url.format(tmp=tmp_path)))
    sha = store.put_bytes(b"a mug")

    assert type(store) is ArtifactStore
    assert store.path(sha) == tmp_path / "shared" / sha[:2] / sha


def test_a_kind_of_address_that_nobody_knows_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"'pigeon://x' in VITRINE_ARTIFACTS_URL is no address of files: .* examples: file"
    ):
        RemoteArtifacts("pigeon://ann:secret@x", tmp_path)


def test_a_kind_of_address_that_needs_a_package_names_it(tmp_path: Path) -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(Unavailable, match=r"s3://bucket needs another package: .*s3fs"):
            RemoteArtifacts("s3://bucket", tmp_path)
    else:
        pytest.skip("s3fs is installed")


def test_the_environment_names_the_place() -> None:
    home = find_home({"VITRINE_ARTIFACTS_URL": "s3://bucket/x", "VITRINE_REGISTRY_URL": ""})

    assert (home.artifacts_url, home.registry_url) == ("s3://bucket/x", "sqlite:///.vitrine/registry.db")


def test_a_shared_registry_with_files_on_one_machine_says_what_is_missing(tmp_path: Path) -> None:
    store = open_artifacts(Home(tmp_path, "postgresql://team/registry", tmp_path))

    with pytest.raises(
        NotFound, match="The registry is shared, but files are kept on this machine alone: set VITRINE_ART"
    ):
        store.path("a" * 64)


def test_secrets_of_an_address_are_not_shown() -> None:
    assert masked("s3://key:secret@bucket/x?token=y#z") == "s3://bucket/x"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"nothing was stored: .* cannot be written: Not a directory"):
        ArtifactStore(tmp_path / "file").put_bytes(b"a mug")
