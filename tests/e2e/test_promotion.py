"""Promotion through the public commands, on a real registry, dataset, engine and Qdrant."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.factories import tiny_bundle
from tests.runner import Ran, run_vitrine
from training.cross import cross_lineage
from vitrine.bundle import read_bundle
from vitrine.dataset import load_dataset
from vitrine.home import find_home
from vitrine.registry import open_registry

Vitrine = Callable[..., Ran]
CLASSES, PHOTOS = 12, 10


def class_photo(label: int, number: int) -> bytes:
    """Photos of one class share a pattern of colours under heavy noise of their own."""
    pattern = np.random.default_rng(label).integers(60, 196, (4, 4, 3))
    noise = np.random.default_rng(1000 * label + number + 1).normal(0, 25, (4, 4, 3))
    image = Image.fromarray(np.clip(pattern + noise, 0, 255).astype(np.uint8)).resize((48, 48))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with dataset `shop` and three versions: good, better, and poor."""
    root = tmp_path_factory.mktemp("project")
    for label in range(CLASSES):
        folder = root / "photos" / f"class-{label:02d}"
        folder.mkdir(parents=True)
        for number in range(PHOTOS):
            (folder / f"{number}.jpg").write_bytes(class_photo(label, number))
    tiny_bundle(root / "good", dataset="shop", dim=10, seed=1)
    tiny_bundle(root / "better", dataset="shop", dim=96, seed=2)
    tiny_bundle(root / "poor", dataset="shop", dim=2, seed=3)
    run = _runner(root)
    assert run("data", "import", "image-folder", "photos", "--name", "shop").code == 0
    for bundle in ("good", "better", "poor"):
        assert run("models", "register", bundle, "--name", "shop-search").code == 0
    for number in (1, 2, 3):
        done = run("evaluate", f"shop-search@{number}", "--dataset", "shop")
        assert done.code == 0, done.err
    return root


def _runner(root: Path) -> Vitrine:
    return lambda *arguments: run_vitrine(root, *arguments)


@pytest.fixture
def vitrine(shop: Path) -> Vitrine:
    return _runner(shop)


def events(shop: Path) -> list[str]:
    registry = open_registry(find_home({"VITRINE_HOME": str(shop / ".vitrine")}))
    return [type(event).__name__ for event in registry.history("shop-search")]


def promote(vitrine: Vitrine, number: int) -> Ran:
    return vitrine("promote", f"shop-search@{number}", "--catalogue", "shop", "--json")


def test_a_dry_run_prints_every_verdict_and_changes_nothing(vitrine: Vitrine, shop: Path) -> None:
    before = events(shop)

    ran = vitrine("promote", "shop-search@1", "--catalogue", "shop", "--dry-run", "--json")

    plan = json.loads(ran.out)
    assert ran.code == 0
    assert plan["items"] == CLASSES * PHOTOS
    assert {verdict["gate"] for verdict in plan["verdicts"]} >= {"parity", "embedding health", "qdrant evaluation"}
    assert events(shop) == before
    assert not (shop / ".vitrine/collections").exists()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"VITRINE_BACKEND": "torch", "VITRINE_THREADS": "1"}, "on torch fp32 with 1 thread "),
        ({"VITRINE_BACKEND": "auto", "VITRINE_PRECISION": "fp32"}, "fp32 with 2 threads "),
        ({}, "on onnxruntime fp32 with 2 threads "),
    ],
)
def test_budgets_are_timed_on_the_engine_and_the_threads_that_a_server_gets(
    shop: Path, tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("gates: {max_latency_ms: 1.0e+6, min_photos_per_s: 1.0e-6}")
    command = ["promote", "shop-search@1", "--dry-run", "--json", "--catalogue", "shop", "--threads", "1"]

    ran = run_vitrine(shop, *command, "--params", str(params), environ=environ)

    assert ran.code == 0, ran.err
    reasons = {one["gate"]: one["reason"] for one in json.loads(ran.out)["verdicts"]}
    assert told in reasons["latency budget"]
    assert told.strip() in reasons["throughput budget"]


def test_promotion_and_rollback_move_production_and_keep_its_collection(vitrine: Vitrine, shop: Path) -> None:
    assert promote(vitrine, 1).code == 0
    assert promote(vitrine, 2).code == 0
    collections = {path.name for path in (shop / ".vitrine/collections").iterdir()}

    ran = vitrine("rollback", "shop-search", "--json")

    assert ran.code == 0
    assert json.loads(ran.out)["version"] == 1
    assert json.loads(ran.out)["collection"] == "shop--shop-search--1"
    assert collections == {"shop--shop-search--1", "shop--shop-search--2"}


def test_a_rollback_from_a_version_can_be_repeated(vitrine: Vitrine, shop: Path) -> None:
    promote(vitrine, 1)
    promote(vitrine, 2)
    command = ("rollback", "shop-search", "--from", "2", "--json")

    ran, before, again = vitrine(*command), events(shop), vitrine(*command)

    assert (ran.code, again.code) == (0, 0)
    assert json.loads(ran.out)["version"] == json.loads(again.out)["version"] == 1
    assert events(shop) == before


def test_a_rollback_from_a_version_that_is_not_live_is_refused(vitrine: Vitrine, shop: Path) -> None:
    promote(vitrine, 1)
    before = events(shop)

    ran = vitrine("rollback", "shop-search", "--from", "3")

    assert ran.code == 5
    assert (
        "shop-search@3 is not live, shop-search@1 is; nothing was done: vitrine models history shop-search" in ran.err
    )
    assert events(shop) == before


def test_a_poor_version_is_refused_with_gate_numbers_and_interval(vitrine: Vitrine, shop: Path) -> None:
    promote(vitrine, 1)
    before = events(shop)

    ran = vitrine("promote", "shop-search@3", "--catalogue", "shop")

    assert ran.code == 3
    assert "quality against incumbent" in ran.err
    assert "95 % interval [" in ran.err
    assert events(shop) == before
    assert not (shop / ".vitrine/collections/shop--shop-search--3").exists()


def test_promoting_what_is_live_already_changes_nothing(vitrine: Vitrine, shop: Path) -> None:
    promote(vitrine, 1)
    before = events(shop)

    assert promote(vitrine, 1).code == 0
    assert events(shop) == before


def test_a_version_without_a_qdrant_evaluation_is_refused(vitrine: Vitrine, shop: Path) -> None:
    tiny_bundle(shop / "unmeasured", dataset="shop", dim=96, seed=9)
    registered = json.loads(vitrine("models", "register", "unmeasured", "--name", "shop-search", "--json").out)
    ref = f"shop-search@{registered['version']}"
    assert vitrine("evaluate", ref, "--dataset", "shop", "--via", "exact").code == 0

    ran = vitrine("promote", ref, "--catalogue", "shop")

    assert ran.code == 3
    assert "never evaluated through Qdrant" in ran.err


def test_a_rollback_to_a_retired_version_is_refused(vitrine: Vitrine, shop: Path) -> None:
    for bundle, name in (("good", "old-search"), ("better", "old-search")):
        vitrine("models", "register", bundle, "--name", name)
    for number in (1, 2):
        vitrine("evaluate", f"old-search@{number}", "--dataset", "shop")
        assert vitrine("promote", f"old-search@{number}", "--catalogue", "shop").code == 0
    assert vitrine("models", "retire", "old-search@1", "--why", "its licence ran out").code == 0

    ran = vitrine("rollback", "old-search")

    assert ran.code == 3
    assert "old-search@1 was live before, but it is retired" in ran.err


def test_a_rollback_with_nothing_before_is_refused(vitrine: Vitrine) -> None:
    ran = vitrine("rollback", "no-such-model")

    assert ran.code == 4
    assert "there is no model 'no-such-model'; known models: " in ran.err


def test_a_version_that_names_no_catalogue_asks_for_one(vitrine: Vitrine, tmp_path: Path) -> None:
    ran = vitrine("promote", "shop-search@1", "--catalogue", "nowhere")

    assert ran.code == 4
    assert "shop" in ran.err


def test_a_cross_is_promoted_for_the_catalogue_that_it_was_registered_for(shop: Path, vitrine: Vitrine) -> None:
    """The pipeline's own registration: content tuned on `mugs`, as a version for `shop`; the command names no catalogue."""
    tiny_bundle(shop / "bundles/top--mini--mugs", dim=48, seed=4)
    home = find_home({"VITRINE_HOME": str(shop / ".vitrine")})
    bundle = read_bundle(shop / "bundles/top--mini--mugs")
    tuned = {"strategy": "top", "dataset": "mugs", "dataset_digest": "m" * 64}
    registry = open_registry(home)
    event = registry.register("mugs-search", bundle, lineage={**bundle.lineage, **tuned})
    record = {"model": "mugs-search", "version": event.version, "lineage": tuned}
    facts = cross_lineage(record, load_dataset(shop / "data/shop"))
    cross = registry.register("crossed-search", bundle, lineage={**bundle.lineage, **facts})
    ref = f"crossed-search@{cross.version}"
    assert vitrine("evaluate", ref, "--dataset", "shop").code == 0

    unknown = vitrine("promote", ref)

    assert unknown.code == 3
    assert (
        "unknown: dataset mugs, which the version was trained on, is not here. Import it under that name" in unknown.err
    )
    for number in range(4):
        photo = shop / f"other/mug/{number}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(class_photo(90 + number, 0))
    assert vitrine("data", "import", "image-folder", "other", "--name", "mugs").code == 0
    assert vitrine("evaluate", ref, "--dataset", "shop").code == 0

    ran = vitrine("promote", ref, "--json")

    assert ran.code == 0, ran.err
    reasons = {one["gate"]: one["reason"] for one in json.loads(ran.out)["verdicts"]}
    assert reasons["leakage"].startswith("shop: 0 of ")
    live = registry.state().model("crossed-search").production
    assert live is not None
    assert (live.version, live.catalogue, live.collection) == (1, "shop", "shop--crossed-search--1")
    assert cross.digest == event.digest
    assert (shop / ".vitrine/collections/shop--crossed-search--1/collection.json").is_file()
