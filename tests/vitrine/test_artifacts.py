from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.artifacts import ArtifactStore
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import sha256_bytes


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def spoil(store: ArtifactStore, sha: str) -> None:
    path = store.root / sha[:2] / sha
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@settings(max_examples=25)
@given(data=st.binary(max_size=2000))
def test_bytes_come_back_under_their_digest(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))

    sha = store.put_bytes(data)

    assert (sha, store.read(sha), list(store.all())) == (sha256_bytes(data), data, [sha])


def test_bytes_and_a_file_of_the_same_content_are_one_artifact(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mug")

    assert store.put_file(tmp_path / "f") == store.put_bytes(b"mug")
    assert list(store.all()) == [sha256_bytes(b"mug")]


def test_an_artifact_is_read_only_and_nothing_lies_beside_it(store: ArtifactStore) -> None:
    path = store.path(store.put_bytes(b"mug"))

    assert path.stat().st_mode & 0o777 == 0o444
    assert [p for p in store.root.rglob("*") if p.is_file()] == [path]


def test_a_changed_artifact_is_never_handed_out(store: ArtifactStore) -> None:
    sha = store.put_bytes(b"mug")
    spoil(store, sha)

    for hand_out in (store.path, store.read):
        with pytest.raises(Tampered, match=f"artifact {sha[:12]}… .* is not loaded; restore it"):
            hand_out(sha)


def test_a_missing_artifact_says_what_to_do(store: ArtifactStore) -> None:
    sha = sha256_bytes(b"never stored")

    assert not store.has(sha)
    for hand_out in (store.path, store.read):
        with pytest.raises(NotFound, match=f"artifact {sha[:12]}… is missing .* vitrine models sync"):
            hand_out(sha)


def test_storing_the_content_again_repairs_it(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mug")
    sha = store.put_bytes(b"mug")
    for put in (lambda: store.put_bytes(b"mug"), lambda: store.put_file(tmp_path / "f")):
        spoil(store, sha)
        put()
        assert store.read(sha) == b"mug"


def test_verify_names_the_damaged_and_only_those(store: ArtifactStore) -> None:
    shas = [store.put_bytes(bytes([number])) for number in range(5)]
    assert store.verify() == []
    spoil(store, shas[2])

    (problem,) = store.verify()
    assert shas[2][:12] in problem


@pytest.mark.parametrize("sha", ["", "abc", "../../../../etc/passwd", "A" * 64, "a" * 65])
def test_what_is_no_digest_is_no_path(store: ArtifactStore, sha: str) -> None:
    with pytest.raises(BadInput, match="64 lower-case hexadecimal digits"):
        store.path(sha)


def test_a_file_that_does_not_exist_is_not_stored(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        store.put_file(tmp_path / "none")
