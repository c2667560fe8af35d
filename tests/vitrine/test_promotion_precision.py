"""Promotions at a precision that needs a built engine: one precision for queries, items and later changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from tests.living import listing
from tests.runner import run_vitrine
from vitrine.catalogue import open_catalogue
from vitrine.collection import Collection, open_collection
from vitrine.engine_agreement import load_agreeing
from vitrine.engine_build import BuildPlan, build_engine
from vitrine.engines import agree
from vitrine.errors import Conflict, Refused
from vitrine.events import EngineBuilt, IndexBuilt
from vitrine.gates import GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.index_sync import sync_catalogue
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.promotion_tools import Tools
from vitrine.registry import open_registry

MODEL, ITEMS, TEST = "shop-search", 24, 4
COLLECTION = f"shop--{MODEL}--1"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version, a dataset of ITEMS photos of which TEST are queries, and the version's int8 engine."""
    root = tmp_path_factory.mktemp("precision")
    for number in range(ITEMS):
        place = root / "photos" / ("test" if number < TEST else "train") / ("mug" if number % 2 else "jug")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.jpg").write_bytes(photo(number))
    home = home_at(root)
    import_dataset("image-folder", root / "photos", "shop", home.datasets / "shop", {})
    bundle = tiny_bundle(root / "bundle", seed=1)
    open_registry(home).register(MODEL, bundle, lineage={"dataset": "shop"})
    build_engine(open_registry(home), home, f"{MODEL}@1", BuildPlan("onnxruntime", "int8", "shop", rows=8, judged=8))
    return root


def home_at(root: Path) -> Home:
    return find_home({"VITRINE_HOME": str(root / "home"), "VITRINE_DATASETS": str(root / "data")})


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return home_at(tmp_path)


def promotion(home: Home, precision: str = "") -> Promotion:
    return Promotion(open_registry(home), home, GateSettings(), threads=1, precision=precision)


def promote(home: Home, precision: str = "") -> Collection:
    work = promotion(home, precision)
    now = work.registry.state().model(MODEL).production
    work.carry_out(Plan(MODEL, 1, now, "shop", COLLECTION, ITEMS, ITEMS, 0.0, Disk(1, 1, 0, 0, 10**9), ()))
    return open_collection(home.collections / COLLECTION)


def embedded(home: Home, precision: str, data: bytes) -> np.ndarray:
    bundle = open_registry(home).open(f"{MODEL}@1")
    encoder = load_agreeing(bundle, precision, precision=precision, threads=1, engines=home.engines)
    vector: np.ndarray = encoder.embed([data]).vectors[0]
    return vector


def test_a_promotion_at_int8_embeds_the_catalogue_at_int8_and_says_so(home: Home) -> None:
    collection = promote(home, "int8")

    assert collection.info.precision == "int8"
    name = collection.item_ids[0]
    (item,) = open_catalogue(home, "shop").find([name]).values()
    data = open_catalogue(home, "shop").photo(item.images[0])
    assert np.allclose(collection.vectors[0], embedded(home, "int8", data), atol=1e-5)
    assert not np.allclose(collection.vectors[0], embedded(home, "fp32", data), atol=1e-5)
    (built,) = (e for e in open_registry(home).history(MODEL) if isinstance(e, IndexBuilt))
    assert built.sentence() == f"embedded {ITEMS - TEST} items of shop with {MODEL}@1 at int8"
    shown = run_vitrine(home.root.parent, "models", "show", MODEL, environ={"VITRINE_HOME": str(home.root)})
    assert f"{COLLECTION}: {ITEMS - TEST} items at int8, {built.at}" in shown.out.replace("\n", "")


def test_an_engine_that_no_gate_has_seen_is_judged_before_it_serves(home: Home) -> None:
    shutil.rmtree(home.engines)

    with pytest.raises(Refused, match=r"\[parity\]"):
        promote(home, "int8")

    registry = open_registry(home)
    assert registry.state().model(MODEL).production is None
    assert [type(event) for event in registry.history(MODEL)[1:]] == [EngineBuilt, EngineBuilt]
    assert not home.collections.exists()


def test_promoting_what_is_live_builds_an_engine_that_this_machine_lacks(home: Home) -> None:
    promote(home, "int8")
    shutil.rmtree(home.engines)

    with pytest.raises(Refused):  # by gates for which this test measured nothing
        promote(home, "int8")

    assert list(home.engines.iterdir())


def test_a_collection_of_the_same_precision_is_kept_and_one_of_another_is_made_anew(home: Home) -> None:
    first = promote(home, "int8")
    assert promote(home, "int8").info == first.info

    second = promote(home, "fp32")

    assert (second.info.precision, second.info.count) == ("fp32", ITEMS - TEST)
    assert second.info.segment != first.info.segment
    assert not np.array_equal(first.vectors, second.vectors)
    assert [e.precision for e in open_registry(home).history(MODEL) if isinstance(e, IndexBuilt)] == ["int8", "fp32"]


def test_later_changes_are_embedded_at_the_precision_of_the_collection(home: Home) -> None:
    collection = promote(home, "int8")
    item, photos = listing("new", 77)
    open_catalogue(home, "shop").upsert([item], photos)

    sync_catalogue(Tools(open_registry(home), home, GateSettings(), threads=1), "shop")

    (delta,) = open_catalogue(home, "shop").deltas.read(COLLECTION, collection.info.seq)
    (data,) = photos.values()
    assert delta.vector is not None
    assert np.allclose(delta.vector, embedded(home, "int8", data), atol=1e-5)
    assert not np.allclose(delta.vector, embedded(home, "fp32", data), atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("fp32", "fp32", True),
        ("fp32", "bf16", True),
        ("fp16", "fp32", True),
        ("int8", "int8", True),
        ("int8", "fp32", False),
        ("fp16", "int8", False),
        ("int8", "", True),
        ("", "fp32", True),
    ],
)
def test_fine_precisions_agree_with_each_other_and_a_coarse_one_with_itself(
    one: str, other: str, expected: bool
) -> None:
    assert agree(one, other) is expected


def test_auto_measures_only_engines_that_agree_with_the_collection(home: Home) -> None:
    bundle = open_registry(home).open(f"{MODEL}@1")
    for precision, allowed in (("int8", {"int8"}), ("fp32", {"fp32", "fp16", "bf16"})):
        found = load_agreeing(bundle, precision, backend="auto", threads=1, engines=home.engines)
        assert found.engine.precision in allowed


def test_a_backend_without_an_agreeing_precision_is_refused_with_the_way_out(home: Home) -> None:
    pytest.importorskip("torch")
    bundle = open_registry(home).open(f"{MODEL}@1")

    with pytest.raises(Conflict) as refused:
        load_agreeing(bundle, "int8", backend="torch", threads=1, engines=home.engines)

    assert str(refused.value) == (
        "the collection was embedded at int8, which does not agree with fp32: torch does not run 'int8'; it runs: fp32, "
        "fp16, bf16; choose a backend that runs it, or embed again: vitrine promote NAME@N --backend torch"
    )
