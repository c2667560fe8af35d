"""`vitrine pipeline`: entries of params.yaml, added without losing its comments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.runner import run_vitrine
from training.settings import load_settings

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
    assert json.loads(ran.out)["cells"] == ["pretrained--mini--shop", "top--mini--shop"]
    settings = load_settings(project / "params.yaml")
    assert settings.datasets["shop"].options == {"licence": "CC0-1.0"}
    assert "mini--shop" in settings.features
    assert "top--mini--shop" in settings.cells


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
    assert "known: demo, photos" in ran.err


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
