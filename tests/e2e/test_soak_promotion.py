"""A small share of `make soak-promotion`: three switches under load, every answer checked from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.exact_answers import Answer, Truth
from tests.factories import photo, tiny_bundle
from vitrine.collection import write_collection
from vitrine.encoder import load_encoder
from vitrine.events import Promoted
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.registry import open_registry

ROOT = Path(__file__).resolve().parents[2]
MODEL, PHOTOS = "shop-search", 40


def installed(root: Path) -> Home:
    """Two versions and a dataset of PHOTOS photos; version 1 is in production."""
    folder = root / "photos/mug"
    folder.mkdir(parents=True)
    for number in range(PHOTOS):
        (folder / f"{number:02d}.jpg").write_bytes(photo(number))
    home = find_home({"VITRINE_HOME": str(root / "home"), "VITRINE_DATASETS": str(root / "data")})
    registry = open_registry(home)
    for seed in (1, 2):
        registry.register(MODEL, tiny_bundle(root / f"bundle-{seed}", dim=16, seed=seed))
    import_dataset("image-folder", root / "photos", "shop", home.datasets / "shop", {"holdout": 0})
    where = {"catalogue": "shop", "collection": f"shop--{MODEL}--1"}
    registry.append(Promoted(model=MODEL, version=1, **where, **registry.stamp()))
    return home


@pytest.mark.e2e
@pytest.mark.slow
def test_three_switches_under_load_fail_no_search_and_mix_no_versions(tmp_path: Path) -> None:
    home = installed(tmp_path)
    command = [sys.executable, "-m", "benchmarks.soak_promotion", "--home", str(home.root)]
    small = ["--switches", "3", "--every", "3", "--quiet", "2", "--step", "1", "--queries", "20", "--max-ratio", "0"]

    ran = subprocess.run(
        [*command, "--datasets", str(home.datasets), *small],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "| promotions and rollbacks | 3 |" in ran.stdout
    assert "| failed searches | 0 |" in ran.stdout
    assert "| answers other than the exact result (ties within 1e-5) | 0 |" in ran.stdout


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    home = find_home({"VITRINE_HOME": str(tmp_path / "home")})
    bundle = tiny_bundle(tmp_path / "bundle", dim=16, seed=1)
    registry = open_registry(home)
    registry.register(MODEL, bundle)
    vectors = load_encoder(bundle, threads=1).embed([photo(number) for number in range(8)]).vectors
    names = {"name": "c", "catalogue": "shop", "catalogue_digest": "", "model": MODEL, "version": 1, "digest": "d"}
    ids = [f"i{number}" for number in range(8)]
    write_collection(home.collections / "c", **names, vectors=vectors, item_ids=ids, payloads=[{}] * 8)  # type: ignore[arg-type]
    return Truth(registry, home.collections, f"{MODEL}@1", "c", [photo(2)], k=3)


def answer(truth: Truth, rows: list[int], shift: float = 0.0, collection: str = "c") -> Answer:
    scores = tuple(float(truth.scores[0, row]) + shift for row in rows)
    return Answer(0, 0, 0, "OK", 1, collection, tuple(f"i{row}" for row in rows), scores)


def test_the_exact_result_is_right_and_each_way_to_be_wrong_is_named(truth: Truth) -> None:
    best = [int(row) for row in np.argsort(-truth.scores[0])]
    assert truth.fault(answer(truth, best[:3])) == ""
    assert "better items are left out" in truth.fault(answer(truth, best[1:4]))
    assert "not by falling score" in truth.fault(answer(truth, [best[1], best[0], best[2]]))
    assert "scores differ" in truth.fault(answer(truth, best[:3], shift=1e-4))
    assert "names collection" in truth.fault(answer(truth, best[:3], collection="other"))
    assert "3 were asked for" in truth.fault(answer(truth, best[:2]))
    assert "3 were asked for" in truth.fault(answer(truth, [best[0], best[0], best[1]]))
