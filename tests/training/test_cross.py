"""A cross: a tuned version as a version for another dataset; a fact, never a training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.factories import tiny_bundle
from tests.small_params import small_params
from training.cross import register_cross
from training.register import model_name, register_cell
from training.settings import Cell, Cross, Settings, build
from vitrine.errors import BadInput
from vitrine.files import read_json
from vitrine.home import find_home
from vitrine.promotion_planning import own_catalogue
from vitrine.registry import open_registry
from vitrine.sync import sync


class Bags:
    """What a cross asks of its dataset."""

    name, digest = "bags", "b" * 64


KEY = "top--mini--mugs--on--bags"
CELL = Cell(strategy="top", backbone="mini", dataset="mugs")
CROSS = Cross(cell="top--mini--mugs", dataset="bags")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project in which the cell is registered as `mugs-search@1`."""
    monkeypatch.chdir(tmp_path)
    bundle = tiny_bundle(tmp_path / "bundles" / CROSS.cell)
    lineage = {**bundle.lineage, "strategy": "top", "dataset": "mugs", "dataset_digest": "m" * 64}
    (tmp_path / "bundles" / CROSS.cell / "lineage.json").write_text(json.dumps(lineage))
    home = find_home({"VITRINE_HOME": str(tmp_path / "home")})
    register_cell(CROSS.cell, CELL, home)
    return home


def crossed(home):
    return register_cross(KEY, CROSS, CELL, Bags(), home)


def test_a_cross_is_the_same_content_under_the_model_of_its_dataset(home):
    record = crossed(home)
    registry = open_registry(home)
    assert (record["model"], record["version"]) == ("bags-search", 1)
    assert registry.resolve("bags-search@1").digest == registry.resolve("mugs-search@1").digest


def test_a_cross_copies_no_file(home):
    before = sorted(path for path in home.artifacts.rglob("*") if path.is_file())
    crossed(home)
    assert sorted(path for path in home.artifacts.rglob("*") if path.is_file()) == before


def test_its_lineage_says_where_it_was_tuned_and_what_it_is_for(home):
    crossed(home)
    lineage = open_registry(home).resolve("bags-search@1").registered.lineage
    assert lineage["strategy"] == "cross"
    assert (lineage["tuned_strategy"], lineage["tuned_on"], lineage["tuned_as"]) == ("top", "mugs", "mugs-search@1")
    assert (lineage["dataset"], lineage["dataset_digest"]) == ("bags", "b" * 64)
    assert lineage["tuned_on_digest"] == "m" * 64


def test_it_is_promoted_for_the_catalogue_that_it_was_registered_for(home):
    crossed(home)
    assert own_catalogue(open_registry(home).resolve("bags-search@1"), None) == "bags"


def test_crossing_again_adds_nothing(home):
    first, seq = crossed(home), open_registry(home).state().seq
    assert crossed(home) == first
    assert open_registry(home).state().seq == seq


def test_a_lost_registry_gets_its_crosses_back(home, tmp_path):
    record = crossed(home)
    other = open_registry(find_home({"VITRINE_HOME": str(tmp_path / "other")}))
    assert sync(other, tmp_path).registered == ["bags-search@1", "mugs-search@1"]
    version = other.resolve("bags-search@1")
    assert version.digest == record["digest"]
    assert version.registered.lineage["tuned_as"] == "mugs-search@1"


@pytest.mark.parametrize(
    ("model", "crossed"),
    [(None, "bags-search"), ("mugs-text", "bags-text"), ("shop", "bags-shop")],
    ids=["without a name", "with its dataset in the name", "with a name of its own"],
)
def test_the_model_of_a_cross_follows_that_of_its_cell(model, crossed):
    cell = Cell(strategy="top", backbone="mini", dataset="mugs", model=model)
    assert model_name(cell, "bags") == crossed


def test_facts_of_a_cross_leave_those_of_the_tuning_alone(home):
    """Seed, backbone and recipe are the tuned version's, so that a cross stands beside it in every comparison."""
    tuned = read_json(Path("work/registered") / f"{CROSS.cell}.json", "registered version")["lineage"]
    changed = {"strategy", "dataset", "dataset_digest"}
    kept = {name: fact for name, fact in tuned.items() if name not in changed}
    assert kept.keys() >= {"seed", "backbone"}
    assert kept.items() <= crossed(home)["lineage"].items()
    assert kept.items() <= open_registry(home).resolve("bags-search@1").registered.lineage.items()


@pytest.mark.parametrize(
    ("strategy", "dataset", "sentence"),
    [
        (
            "pretrained",
            "bags",
            "pretrained--mini--mugs--on--bags would be the untuned network again; use the cell pretrained--mini--bags",
        ),
        ("top", "mugs", "top--mini--mugs--on--mugs stays on its own dataset; it is the cell top--mini--mugs"),
    ],
    ids=["of an untuned network", "to its own dataset"],
)
def test_a_cross_that_asks_nothing_new_is_refused(strategy, dataset, sentence):
    key = f"{strategy}--mini--mugs"
    raw = small_params(products=20)
    folder = raw["datasets"].pop("demo")
    raw["datasets"] = {"mugs": folder, "bags": folder}
    raw["backbones"]["trained"]["mini"]["dataset"] = "mugs"
    raw["features"] = {"mini--mugs": {"backbone": "mini", "dataset": "mugs"}}
    raw["cells"] = {key: {"strategy": strategy, "backbone": "mini", "dataset": "mugs"}}
    raw["crosses"] = {f"{key}--on--{dataset}": {"cell": key, "dataset": dataset}}
    with pytest.raises(BadInput, match=re.escape(sentence)):
        build(Settings, raw, "params.yaml")
