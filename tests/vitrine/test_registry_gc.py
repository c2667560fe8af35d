from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests import team
from tests.factories import photo, tiny_bundle
from vitrine.artifacts import ArtifactStore
from vitrine.artifacts_remote import RemoteArtifacts
from vitrine.catalogue import Catalogue
from vitrine.catalogue_tables import open_tables
from vitrine.engines import ENGINE, EngineKey, EngineRecord
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.events import EngineBuilt, Promoted
from vitrine.files import sha256_file, write_json
from vitrine.home import Home, find_home
from vitrine.items import Item
from vitrine.registry import Registry, open_registry
from vitrine.registry_gc import carry_out_gc, plan_gc
from vitrine.storing import photo_name


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home({"VITRINE_HOME": str(tmp_path / "home"), "VITRINE_DATASETS": str(tmp_path / "data")})


@pytest.fixture
def registry(home: Home, tmp_path: Path) -> Registry:
    """Two versions that share their labels; the second one was measured and has an engine."""
    registry = open_registry(home)
    for seed in (0, 1):
        registry.register("shop", tiny_bundle(tmp_path / str(seed), labels=["mug"], seed=seed))
    (tmp_path / "table.parquet").write_bytes(b"any table")
    team.measure(registry, 2, tmp_path / "table.parquet")
    engine = registry.artifacts.put_bytes(b"an engine")
    built = {"backend": "onnxruntime", "precision": "int8", "target": "cpu", "artifact": engine}
    registry.append(EngineBuilt(model="shop", version=2, **built, **registry.stamp()))
    return registry


def age(store: ArtifactStore, days: float = 9) -> None:
    """Make everything in the store old."""
    for path in store.root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - days * 86400,) * 2)


def names(plan: list[Any]) -> list[tuple[str, str]]:
    return [(removal.kind, removal.file.name) for removal in plan]


def clean(registry: Registry, home: Home, **how: Any) -> list[tuple[str, str]]:
    return names(carry_out_gc(registry, plan_gc(registry, home, **how)))


def test_what_an_event_names_stays(registry: Registry, home: Home) -> None:
    age(registry.artifacts)

    assert clean(registry, home) == []
    assert registry.verify() == []


def test_what_nothing_names_goes(registry: Registry, home: Home) -> None:
    sha = registry.artifacts.put_bytes(b"nobody's")
    age(registry.artifacts)

    assert clean(registry, home) == [("unnamed", sha)]
    assert not registry.artifacts.has(sha)
    assert plan_gc(registry, home) == []


def test_what_was_stored_just_now_stays_because_its_event_may_be_on_the_way(registry: Registry, home: Home) -> None:
    sha = registry.artifacts.put_bytes(b"to be named in a moment")
    assert plan_gc(registry, home) == []
    age(registry.artifacts)
    registry.artifacts.put_bytes(b"to be named in a moment")

    assert plan_gc(registry, home) == []
    assert registry.artifacts.has(sha)


def test_what_is_stored_again_after_the_plan_stays(registry: Registry, home: Home) -> None:
    sha = registry.artifacts.put_bytes(b"nobody's")
    age(registry.artifacts)
    plan = plan_gc(registry, home)
    registry.artifacts.put_bytes(b"nobody's")

    assert carry_out_gc(registry, plan) == []
    assert registry.artifacts.read(sha) == b"nobody's"


def test_photos_of_a_catalogue_stay(registry: Registry, home: Home) -> None:
    catalogue = Catalogue("shop", open_tables(home.registry_url), registry.artifacts, home.datasets / "shop")
    name = photo_name(photo(3))
    catalogue.upsert([Item(item_id="a", images=(name,), label="mug", split="gallery")], {name: photo(3)})
    age(registry.artifacts)

    assert clean(registry, home) == []
    assert catalogue.photo(name) == photo(3)


def test_leftovers_of_interrupted_writes_go_once_they_are_old(registry: Registry, home: Home) -> None:
    left = registry.artifacts.root / "incoming" / "0123"
    left.write_bytes(b"half")
    assert plan_gc(registry, home) == []
    age(registry.artifacts)

    assert clean(registry, home) == [("leftover", "0123")]
    assert not left.exists()


def test_of_a_retired_version_only_what_nobody_else_needs_goes_and_only_if_asked(
    registry: Registry, home: Home
) -> None:
    own = registry.open("shop@1").manifest.graphs["image"].file.sha256
    registry.retire("shop@1", why="weak")
    assert plan_gc(registry, home) == []

    assert clean(registry, home, retired=True) == [("retired", own)]
    assert registry.verify() == []
    assert registry.open("shop@2").labels() == ["mug"]
    with pytest.raises(
        NotFound, match="shop@1 is retired and its files were cleaned up; to have it again, register the"
    ):
        registry.open("shop@1")


def test_a_retired_version_is_whole_again_once_it_is_registered_again(
    registry: Registry, home: Home, tmp_path: Path
) -> None:
    registry.retire("shop@1", why="weak")
    clean(registry, home, retired=True)
    registry.register("shop", tiny_bundle(tmp_path / "again", labels=["mug"], seed=0))

    assert registry.open("shop@1").labels() == ["mug"]


def test_damage_to_a_retired_version_is_still_found(registry: Registry) -> None:
    place = registry.artifacts.path(registry.open("shop@1").manifest.graphs["image"].file.sha256)
    registry.retire("shop@1", why="weak")
    place.chmod(0o644)
    place.write_bytes(b"other")

    assert registry.verify()[0].startswith("shop@1: image.onnx: artifact ")


def test_where_a_manifest_is_damaged_nothing_goes(registry: Registry, home: Home) -> None:
    registry.artifacts.put_bytes(b"nobody's")
    age(registry.artifacts)
    place = registry.artifacts.path(registry.resolve("shop@1").digest)
    place.chmod(0o644)
    place.write_bytes(b"{}")

    with pytest.raises(Tampered, match="nothing was removed: which files shop@1 needs is not known"):
        plan_gc(registry, home)


def test_a_negative_age_is_bad_input(registry: Registry, home: Home) -> None:
    with pytest.raises(BadInput, match="-1 hours are no age"):
        plan_gc(registry, home, recent_s=-3600)


def test_copies_of_shared_files_go_but_for_what_is_live(tmp_path: Path) -> None:
    registry = open_registry(Home(tmp_path, f"sqlite:///{tmp_path}/r.db", tmp_path, artifacts_url="memory://gc-test"))
    assert isinstance(registry.artifacts, RemoteArtifacts)
    for seed in (0, 1):
        registry.register("shop", tiny_bundle(tmp_path / str(seed), seed=seed))
    registry.append(Promoted(model="shop", version=2, catalogue="c", collection="x", **registry.stamp()))
    home = Home(tmp_path, f"sqlite:///{tmp_path}/r.db", tmp_path)
    own = registry.open("shop@1").manifest

    gone = clean(registry, home)
    assert gone == sorted(("copy", sha) for sha in (own.digest, own.graphs["image"].file.sha256))
    assert registry.open("shop@1").manifest == own
    for sha in list(registry.artifacts.all()):
        registry.artifacts.remove(sha)


def built(home: Home, digest: str, days: float = 9) -> Path:
    """The files of an engine of that content, made some days ago."""
    key = EngineKey(digest, "onnxruntime", "int8", "cpu")
    folder = home.engines / key.folder
    folder.mkdir(parents=True)
    (folder / "image.onnx").write_bytes(b"a graph")
    files = {"image.onnx": sha256_file(folder / "image.onnx")}
    write_json(folder / ENGINE, EngineRecord(key, files, {}, {}).as_json())
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - days * 86400,) * 2)
    return folder


def test_engines_of_content_that_no_version_has_go(registry: Registry, home: Home) -> None:
    kept, young = built(home, registry.resolve("shop@1").digest), built(home, "b" * 64, days=0)
    gone = built(home, "a" * 64)

    (removal,) = carry_out_gc(registry, plan_gc(registry, home))

    assert (removal.kind, removal.file.name) == ("engine", f"engines/{gone.name}")
    assert removal.why == "built of aaaaaaaaaaaa, which is no version here"
    assert removal.file.size > len(b"a graph")
    assert sorted(home.engines.iterdir()) == sorted([kept, young])


def test_engines_of_retired_versions_go_when_asked(registry: Registry, home: Home) -> None:
    first, second = (built(home, registry.resolve(f"shop@{number}").digest, days=0) for number in (1, 2))
    registry.retire("shop@1", why="a test")

    assert clean(registry, home) == []
    assert ("engine", f"engines/{first.name}") in clean(registry, home, retired=True)
    assert list(home.engines.iterdir()) == [second]


def test_what_an_interrupted_build_left_goes_when_it_is_old(registry: Registry, home: Home) -> None:
    young, old = home.engines / ".young.1a2b", home.engines / ".old.3c4d"
    for folder, days in ((young, 0), (old, 9)):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - days * 86400,) * 2)

    assert clean(registry, home) == [("leftover", "engines/.old.3c4d")]
    assert list(home.engines.iterdir()) == [young]
