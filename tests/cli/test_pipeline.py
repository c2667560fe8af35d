"""`vitrine pipeline`: entries of params.yaml, added without losing its comments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.runner import run_vitrine
from training.settings import load_settings
from vitrine.pipeline_entries import answers_titles

ROOT = Path(__file__).parents[2]
ADD = ("pipeline", "add", "shop", "--format", "image-folder", "--path", "photos")


@pytest.fixture
def project(tmp_path):
    for name in ("params.yaml", "profiles", "training/tuning"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "photos").mkdir()
    return tmp_path


def test_add_writes_a_dataset_its_features_and_its_cells(project):
    ran = run_vitrine(project, *ADD, "--backbone", "mini", "-o", "licence=CC0-1.0", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["cells"] == ["pretrained--mini--shop", "top--mini--shop", "full--mini--shop"]
    assert json.loads(ran.out)["crosses"] == []
    settings = load_settings(project / "params.yaml")
    assert settings.datasets["shop"].options == {"licence": "CC0-1.0"}
    assert "mini--shop" in settings.features
    assert "top--mini--shop" in settings.cells


def test_a_backbone_that_reads_titles_gets_a_model_of_its_own_where_the_tuning_keeps_them(project):
    run_vitrine(project, *ADD)
    cells = load_settings(project / "params.yaml").cells
    models = {key: cells[key].model for key in cells if key.endswith("--shop")}
    assert models == {
        "pretrained--mini--shop": None,
        "top--mini--shop": None,
        "full--mini--shop": None,
        "pretrained--pair--shop": "shop-text",
        "top--pair--shop": "shop-text",  # one head for both towers
        "full--pair--shop": None,  # by labels: the text tower is left out
    }


@pytest.mark.parametrize(
    ("backbone", "strategy", "changed", "answers"),
    [
        ({"family": "timm", "architecture": "resnet18"}, "pretrained", {}, False),
        ({"family": "open-clip", "architecture": "ViT-B-32"}, "pretrained", {}, True),
        ({"zoo": "clip-laion-base"}, "pretrained", {}, True),
        ({"zoo": "resnet50"}, "pretrained", {}, False),
        ({"zoo": "clip-laion-base"}, "top", {"head": "image"}, False),
        ({"zoo": "clip-laion-base"}, "full", {"objective": "contrastive"}, True),
        ({"zoo": "clip-laion-base"}, "full", {"objective": "supervised"}, False),
    ],
)
def test_whether_a_cell_answers_titles_follows_from_its_backbone_and_its_tuning(backbone, strategy, changed, answers):
    params = {"top": {}, "full": {}, strategy: changed}
    assert answers_titles(params, backbone, strategy) is answers


def test_crosses_go_both_ways_between_tuned_cells_of_the_same_backbones(project):
    ran = run_vitrine(project, *ADD, "--backbone", "mini", "--strategy", "full", "--cross-with", "fashion", "--json")
    assert ran.code == 0, ran.err
    expected = ["top--mini--fashion--on--shop", "full--mini--fashion--on--shop", "full--mini--shop--on--fashion"]
    assert json.loads(ran.out)["crosses"] == expected
    crosses = load_settings(project / "params.yaml").crosses
    assert [key for key in crosses if "shop" in key] == expected
    assert (crosses[expected[2]].cell, crosses[expected[2]].dataset) == ("full--mini--shop", "fashion")


def test_crosses_are_added_to_parameters_that_have_none(project):
    shutil.copy(ROOT / "profiles/photos.yaml", project / "params.yaml")
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text[: text.index("crosses:")] + text[text.index("pretrained: {}") :])
    ran = run_vitrine(project, *ADD, "--backbone", "mini", "--cross-with", "clothing-small")
    assert ran.code == 0, ran.err
    assert "with 3 cells and 4 crosses" in " ".join(ran.out.split())
    assert len(load_settings(project / "params.yaml").crosses) == 4


def test_add_keeps_every_comment_and_every_other_line(project):
    before = (project / "params.yaml").read_text().splitlines()
    run_vitrine(project, *ADD, "--strategy", "top")
    after = (project / "params.yaml").read_text().splitlines()
    words = {" ".join(line.split()) for line in after}
    assert all(" ".join(line.split()) in words for line in before)


def test_add_says_what_comes_next(project):
    assert "next: dvc repro" in run_vitrine(project, *ADD).out


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        (("--backbone", "huge"), 2, "'huge' is no backbone of params.yaml; there are: mini"),
        (("--strategy", "magic"), 2, "'magic' is no tuning strategy"),
        (("--format", "odd"), 2, "'odd' is no dataset format; there are: "),
        (("--path", "nowhere"), 4, "there is nothing at nowhere"),
        (("-o", "licence"), 2, "must be key=value"),
        (
            ("--cross-with", "toys"),
            2,
            "'toys' is no dataset of params.yaml to cross with; there are: homeware, fashion",
        ),
        (("--cross-with", "shop"), 2, "'shop' is no dataset of params.yaml to cross with"),
        (
            ("--cross-with", "fashion", "--strategy", "pretrained"),
            2,
            "a cross evaluates a tuned version, and pretrained tunes nothing; add --strategy top or --strategy full",
        ),
    ],
)
def test_a_wrong_entry_is_explained_and_nothing_is_written(project, changed, code, message):
    before = (project / "params.yaml").read_text()
    ran = run_vitrine(project, *ADD, *changed)
    assert (ran.code, message in ran.err) == (code, True), ran.err
    assert (project / "params.yaml").read_text() == before


def test_a_dataset_that_is_there_is_not_replaced(project):
    run_vitrine(project, *ADD)
    ran = run_vitrine(project, *ADD)
    assert ran.code == 2
    assert "has a dataset 'shop' already" in ran.err


def test_profile_puts_a_profile_in_place(project):
    assert run_vitrine(project, "pipeline", "profile", "photos").code == 0
    assert (project / "params.yaml").read_bytes() == (ROOT / "profiles/photos.yaml").read_bytes()


def test_an_unknown_profile_lists_the_known_ones(project):
    ran = run_vitrine(project, "pipeline", "profile", "none")
    assert ran.code == 4
    known = ", ".join(sorted(file.stem for file in (ROOT / "profiles").glob("*.yaml")))
    assert f"there is no profile 'none' in profiles/; known: {known}" in ran.err


def test_ls_lists_the_cells(project):
    ran = run_vitrine(project, "pipeline", "ls", "--json")
    assert set(json.loads(ran.out)["cells"]) == set(load_settings(project / "params.yaml").cells)


def test_costs_adds_up_what_the_stages_took(project):
    (project / "work/costs").mkdir(parents=True)
    for stage, seconds in (("tune", 1800.0), ("evaluate", 1800.0)):
        facts = {"stage": stage, "cell": "a--b--c", "seconds": seconds, "images_per_s": 5.0, "device": "cpu"}
        (project / f"work/costs/{stage}--a--b--c.json").write_text(json.dumps(facts))
    found = json.loads(run_vitrine(project, "pipeline", "costs", "--json").out)
    assert [row["stage"] for row in found["stages"]] == ["evaluate", "tune"]
    assert found["total"] == {"seconds": 3600.0, "price": pytest.approx(0.20)}
    assert "total" in run_vitrine(project, "pipeline", "costs").out


def test_costs_of_nothing_says_what_comes_next(project):
    assert "Next: dvc repro" in run_vitrine(project, "pipeline", "costs").out
