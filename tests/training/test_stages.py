"""The stages one after another on a small generated catalogue, in a folder of their own."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from tests.small_params import small_params
from training import backbone, evaluate, features, prepare, register, tune
from vitrine.bundle import read_bundle
from vitrine.errors import BadInput, Tampered
from vitrine.files import read_json
from vitrine.home import find_home
from vitrine.registry import open_registry

CELLS = ["pretrained--mini--demo", "top--mini--demo"]


def write_params(folder):
    raw = small_params(products=20, photos=3)
    raw["backbones"]["trained"]["mini"].update(epochs=1, image_size=32, batch_size=16)
    raw["top"].update(width=16, epochs=4, batch_size=16)
    raw["export"]["photos"] = 16
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))


def run_training():
    prepare.main(["--dataset", "demo"])
    backbone.main(["--train", "mini"])
    features.main(["--features", "mini--demo"])
    for cell in CELLS:
        tune.main(["--cell", cell])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder in which every stage has run once."""
    folder = tmp_path_factory.mktemp("project")
    write_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VITRINE_HOME", raising=False)
        patch.delenv("VITRINE_REGISTRY_URL", raising=False)
        run_training()
        for cell in CELLS:
            register.main(["--cell", cell])
            evaluate.main(["--cell", cell])
        yield folder


def test_features_are_those_that_the_exported_graph_normalises(project):
    from vitrine.dataset import load_dataset
    from vitrine.encoder import load_encoder, normalise

    cached = features.load_features(project / "work/features/mini--demo")
    bundle = read_bundle(project / "bundles/pretrained--mini--demo")
    dataset = load_dataset(project / "data/demo")
    names = sorted(cached.row_of)[:8]
    vectors = load_encoder(bundle).embed([dataset.photo(name) for name in names]).vectors
    np.testing.assert_allclose(normalise(cached.values[[cached.row_of[name] for name in names]]), vectors, atol=1e-4)


def test_both_cells_are_versions_of_one_model_with_their_lineage(project):
    model = open_registry(find_home()).state().model("demo-search")
    assert sorted(model.versions) == [1, 2]
    lineage = model.versions[2].registered.lineage
    assert (lineage["strategy"], lineage["backbone"], lineage["dataset"]) == ("top", "mini", "demo")
    assert lineage["tuning"]["best_epoch"] >= 1


def test_evaluations_are_files_and_events_without_durations(project):
    folder = project / "work/evaluations/top--mini--demo"
    assert {path.stem for path in folder.glob("*.json")} >= {"exact", "qdrant"}
    value = read_json(folder / "exact.json", "evaluation")
    assert 0 <= value["metrics"]["mmp@5"] <= 1
    assert "timing" not in value["details"]
    assert open_registry(find_home()).resolve("demo-search@2").evaluation("demo", value["protocol"], "exact")


def test_costs_stand_apart(project):
    cost = read_json(project / "work/costs/tune--top--mini--demo.json", "cost")
    assert cost["seconds"] > 0
    assert cost["parameters_trained"] > 0
    assert read_json(project / "work/costs/evaluate--top--mini--demo.json", "cost")["images_per_s"] > 0


def test_registering_and_evaluating_again_adds_nothing(project):
    before = open_registry(find_home()).state().seq
    register.main(["--cell", CELLS[1]])
    evaluate.main(["--cell", CELLS[1]])
    assert open_registry(find_home()).state().seq == before


def test_a_lost_registry_gets_its_numbers_back(project, monkeypatch, tmp_path):
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "new"))
    register.main(["--cell", CELLS[1]])  # the second cell first: without its old number it would become version 1
    assert read_json(project / f"work/registered/{CELLS[1]}.json", "registered version")["version"] == 2


def test_another_folder_gives_the_same_versions(project, tmp_path, monkeypatch):
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    run_training()
    for cell in CELLS:
        here, there = (read_bundle(folder / "bundles" / cell) for folder in (tmp_path, project))
        assert here.manifest.digest == there.manifest.digest
        assert here.lineage == there.lineage


def test_a_bundle_changed_after_registration_is_not_evaluated(project, tmp_path, monkeypatch):
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.rmtree("bundles/top--mini--demo")
    shutil.copytree("bundles/pretrained--mini--demo", "bundles/top--mini--demo")
    with pytest.raises(Tampered, match="is not the version that was registered; run: dvc repro"):
        evaluate.main(["--cell", "top--mini--demo"])


def test_an_unknown_cell_lists_the_known_ones(project):
    with pytest.raises(
        BadInput, match="no 'top--huge--demo' under cells; there: pretrained--mini--demo, top--mini--demo"
    ):
        tune.main(["--cell", "top--huge--demo"])
