"""A server loads its version on the engine that its settings name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services import wiring
from services.config import Settings
from services.snapshot import Snapshot
from tests.factories import photo
from tests.services.conftest import MODEL, promote
from vitrine import plugins
from vitrine.collection import POINTER
from vitrine.engines import ENGINE, EngineKey, EngineRecord
from vitrine.errors import NotFound
from vitrine.files import read_json, sha256_file, write_json
from vitrine.home import Home, find_home
from vitrine.progress import quiet
from vitrine.registry import open_registry


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = find_home({"VITRINE_HOME": str(tmp_path / "home")})
    promote(found, tmp_path, seed=0)
    return found


def build_int8(home: Home) -> None:
    bundle, module = open_registry(home).open(MODEL), plugins.load("backends", "onnxruntime")
    key = EngineKey(bundle.manifest.digest, "onnxruntime", "int8", module.target())
    folder = home.engines / key.folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    module.build(bundle, precision="int8", folder=folder, calibration={"image": pixels}, track=quiet)
    files = {path.name: sha256_file(path) for path in folder.iterdir()}
    write_json(folder / ENGINE, EngineRecord(key, files, {}, {}).as_json())


def embed_at(home: Home, precision: str) -> None:
    """Let the collection say at which precision it was embedded."""
    pointer = home.collections / f"shop--{MODEL}--1" / POINTER
    write_json(pointer, {**read_json(pointer, "collection"), "precision": precision})


def served(home: Home, **settings: str) -> Snapshot:
    registry = open_registry(home)
    target = wiring.choose(registry.state(), "")
    assert isinstance(target, wiring.Target)
    return wiring.load_live(registry, home, target, Settings(threads=1, max_batch=2, **settings))


def test_an_int8_engine_that_was_built_is_served(home: Home) -> None:
    build_int8(home)
    snapshot = served(home, precision="int8")

    assert (snapshot.encoder.engine.name, snapshot.encoder.engine.precision) == ("onnxruntime", "int8")
    (vector,) = snapshot.encoder.embed([photo(0)]).vectors
    assert snapshot.index is not None
    assert [hit.item_id for hit in snapshot.index.search(vector[None], 1)[0]] == ["item-0"]


def test_a_collection_is_served_at_the_precision_that_it_was_embedded_at(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    build_int8(home)
    embed_at(home, "int8")
    assert served(home).encoder.engine.precision == "int8"
    assert served(home, backend="auto").encoder.engine.precision == "int8"

    embed_at(home, "fp32")
    assert served(home, precision="int8").encoder.engine.precision == "fp32"
    assert caplog.messages[-1] == (
        "the collection was embedded at fp32, so the version runs at fp32 and not at int8; to change that, embed again: "
        "vitrine promote NAME@N --backend onnxruntime --precision int8"
    )


def test_a_pinned_version_runs_on_an_engine_that_was_built(home: Home) -> None:
    build_int8(home)
    bundle, settings = open_registry(home).open(MODEL), Settings(threads=1, max_batch=2, precision="int8")

    assert wiring.load_pinned(MODEL, 1, bundle, settings, home.engines).encoder.engine.precision == "int8"


def test_an_engine_that_was_not_built_keeps_the_version_from_going_live_and_says_how(home: Home) -> None:
    with pytest.raises(NotFound, match="vitrine engine build NAME@N --backend onnxruntime --precision int8"):
        served(home, precision="int8")


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_other_backends_are_served(home: Home, backend: str) -> None:
    pytest.importorskip("torch")
    snapshot = served(home, backend=backend)

    assert snapshot.encoder.engine.name in ({"torch"} if backend == "torch" else {"onnxruntime", "torch"})
    assert snapshot.encoder.embed([photo(0)]).vectors.shape == (1, 8)
