from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import team
from tests.factories import tiny_bundle
from vitrine.errors import BadInput, Conflict, NotFound, Tampered, VitrineError
from vitrine.export_file import Header, read_export, write_export
from vitrine.files import sha256_file
from vitrine.home import find_home
from vitrine.registry import Registry, open_registry
from vitrine.transfer import export_version, import_version


def open_at(root: Path, actor: str = "ann") -> Registry:
    registry = open_registry(find_home({"VITRINE_HOME": str(root)}))
    registry.actor = actor
    return registry


@pytest.fixture
def source(tmp_path: Path) -> Registry:
    registry = open_at(tmp_path / "source")
    registry.register("shop", tiny_bundle(tmp_path / "first", seed=7))
    registry.register("shop", tiny_bundle(tmp_path / "bundle", labels=["mug", "jug"]), why="spring")
    (tmp_path / "table.parquet").write_bytes(b"any table")
    team.measure(registry, 2, tmp_path / "table.parquet")
    registry.set_alias("shop", "stable", 2, why="holds")
    return registry


@pytest.fixture
def target(tmp_path: Path) -> Registry:
    return open_at(tmp_path / "target", "bea")


@pytest.fixture
def exported(source: Registry, tmp_path: Path) -> Path:
    export_version(source, "shop@2", tmp_path / "shop.tar", history=True)
    return tmp_path / "shop.tar"


def test_an_imported_version_is_the_version_that_was_exported(
    source: Registry, target: Registry, exported: Path
) -> None:
    done = import_version(target, exported)

    there, here = source.open("shop@2"), target.open("shop@2")
    assert (here.manifest, here.parity, here.labels()) == (there.manifest, there.parity, ["mug", "jug"])
    assert (done.new, done.evaluations, done.event.actor) == (True, 1, "bea")
    assert here.lineage.items() >= there.lineage.items()
    assert target.verify() == []


def test_an_import_remembers_where_it_comes_from(source: Registry, target: Registry, exported: Path) -> None:
    event = import_version(target, exported).event

    origin = event.lineage["imported_from"]
    assert (origin["ref"], origin["registered"].endswith("by ann")) == ("shop@2", True)
    assert [sentence.split(" ann ")[1].split(" (")[0] for sentence in origin["history"]] == [
        "registered shop@2",
        "evaluated shop@2 on shop/default via exact",
        "moved shop@stable to version 2 -- holds",
    ]
    assert event.why == "imported from an export of shop@2: spring"
    (measured,) = target.resolve("shop@2").evaluations
    assert measured.why.startswith("imported: measured by ann at 2")
    assert measured.metrics == source.resolve("shop@2").evaluations[0].metrics


def test_without_its_history_a_version_travels_alone(source: Registry, target: Registry, tmp_path: Path) -> None:
    export_version(source, "shop@2", tmp_path / "bare.tar")
    done = import_version(target, tmp_path / "bare.tar")

    assert (done.evaluations, target.resolve("shop@2").evaluations) == (0, [])
    assert "history" not in done.event.lineage["imported_from"]


def test_importing_again_changes_nothing(target: Registry, exported: Path) -> None:
    first = import_version(target, exported)
    seq = target.state().seq
    again = import_version(target, exported)

    assert (again.event, again.new, target.state().seq) == (first.event, False, seq)


def test_the_same_version_is_the_same_file(source: Registry, exported: Path, tmp_path: Path) -> None:
    before = sha256_file(exported)
    export_version(source, "shop@2", exported, history=True)

    assert sha256_file(exported) == before


def test_a_number_that_is_another_version_here_is_a_conflict(target: Registry, exported: Path, tmp_path: Path) -> None:
    target.register("shop", tiny_bundle(tmp_path / "own", seed=5), version=2)

    with pytest.raises(Conflict, match=r"shop@2 is another version here .* give it a number with --version, or a name"):
        import_version(target, exported)
    assert import_version(target, exported, version=9).event.version == 9
    assert import_version(target, exported, name="other").event.version == 1


def test_content_that_is_here_under_another_number_keeps_it(source: Registry, target: Registry, exported: Path) -> None:
    target.register("shop", source.open("shop@2"), version=5)

    assert import_version(target, exported).event.version == 5


def test_a_foreign_file_is_not_overwritten(source: Registry, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")

    with pytest.raises(BadInput, match=r"notes\.txt exists and is no export of a version"):
        export_version(source, "shop@2", tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "dear diary"


def test_what_is_no_export_or_not_there_says_so(target: Registry, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")

    with pytest.raises(BadInput, match="is no export of a version; make one with: vitrine models export REF FILE"):
        import_version(target, tmp_path / "notes.txt")
    with pytest.raises(NotFound, match="there is no file"):
        import_version(target, tmp_path / "none")


def test_a_tampered_version_is_not_exported(source: Registry, tmp_path: Path) -> None:
    place = source.artifacts.path(source.open("shop@2").manifest.graphs["image"].file.sha256)
    place.chmod(0o644)
    place.write_bytes(place.read_bytes() + b"?")

    with pytest.raises(Tampered, match="is not loaded"):
        export_version(source, "shop@2", tmp_path / "shop.tar")
    assert not (tmp_path / "shop.tar").exists()


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 0.99])
def test_a_half_copied_file_registers_nothing(target: Registry, exported: Path, share: float) -> None:
    data = exported.read_bytes().rstrip(b"\0")
    exported.write_bytes(data[: max(30, int(len(data) * share))])

    with pytest.raises(
        Tampered, match=r"shop\.tar is not whole or was altered: .*; nothing was imported, copy it again"
    ):
        import_version(target, exported)
    assert target.state().models == {}
    assert list(target.artifacts.all()) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(exported: Path, tmp_path: Path, place: int, bit: int) -> None:
    whole = exported.read_bytes()
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    altered = tmp_path / "altered.tar"
    altered.write_bytes(data)
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "b").mkdir(exist_ok=True)

    try:
        header, places = read_export(altered, tmp_path / "a")
    except (Tampered, BadInput):
        return
    sound, _ = read_export(exported, tmp_path / "b")
    assert header == sound
    assert {sha: sha256_file(path) for sha, path in places.items()} == {sha: sha for sha in sound.files}


def rewritten(path: Path, change: Any) -> Path:
    """The export with its members changed by `change`, a list of (TarInfo, bytes)."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    out = path.with_name("changed.tar")
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in change(members):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out


def extra(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member, b"" if kind != tarfile.REGTYPE else b"evil"


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "files/../../evil"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("where", [1, -1, None])
def test_a_file_cannot_write_outside(
    target: Registry, exported: Path, name: str, kind: bytes, where: int | None, tmp_path: Path
) -> None:
    def smuggle(members: list[Any]) -> list[Any]:
        at = len(members) if where is None else where
        return [*members[:at], extra(name, kind), *members[at:]]

    with pytest.raises(Tampered, match="is not whole or was altered"):
        import_version(target, rewritten(exported, smuggle))
    assert target.state().models == {}
    assert not (tmp_path / "evil").exists()


def test_a_header_that_was_edited_is_refused(target: Registry, exported: Path) -> None:
    def edit(members: list[Any]) -> list[Any]:
        (head, data), *rest = members
        return [(head, data.replace(b"spring", b"autumn")), *rest]

    with pytest.raises(Tampered, match="its seal is not that of its first part"):
        import_version(target, rewritten(exported, edit))


def test_an_export_of_a_newer_release_says_so(target: Registry, exported: Path) -> None:
    def edit(members: list[Any]) -> list[Any]:
        (head, data), *rest = members
        return [(head, data.replace(b'"format": 1', b'"format": 2')), *rest]

    with pytest.raises(BadInput, match="has format 2, this release reads 1"):
        import_version(target, rewritten(exported, edit))


def test_a_sealed_file_without_a_version_is_refused(target: Registry, tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text("{}")
    sha = sha256_file(tmp_path / "manifest")
    about = {"at": "", "actor": "", "why": "", "lineage": {}, "parity": None}
    write_export(tmp_path / "e.tar", Header("shop", 1, sha, about, {sha: 2}), {sha: tmp_path / "manifest"})

    with pytest.raises(VitrineError, match="holds no version that can be read"):
        import_version(target, tmp_path / "e.tar")
