"""profiles/study.yaml: the whole grid of the study, written by a program and readable by the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.fetching import spec_of
from training.settings import load_settings
from training.study import profile
from vitrine import plugins
from vitrine.zoo_table import ZOO

FILE = Path(__file__).parents[2] / "profiles/study.yaml"
DATASETS = {"cars196", "sop", "in-shop", "products-10k", "rp2k", "food2k"}


@pytest.fixture(scope="module")
def settings():
    return load_settings(FILE)


def test_the_file_is_what_the_program_writes():
    assert FILE.read_text() == profile(), "run: make docs"


def test_every_network_of_the_study_meets_every_strategy_on_every_dataset(settings):
    names = {model.name for model in ZOO if model.in_study}
    found = {(cell.strategy, cell.backbone, cell.dataset) for cell in settings.cells.values()}
    assert found == {(s, n, d) for s in ("pretrained", "top", "full") for n in names for d in DATASETS}


def test_every_fully_tuned_version_is_searched_with_on_all_other_datasets(settings):
    for key, cell in settings.cells.items():
        met = {cross.dataset for cross in settings.crosses.values() if cross.cell == key}
        assert met == (DATASETS - {cell.dataset} if cell.strategy == "full" else set())


def test_its_datasets_have_formats_that_exist(settings):
    assert set(settings.datasets) == DATASETS
    assert {entry.format for entry in settings.datasets.values()} <= set(plugins.names("datasets"))


def test_its_backbones_are_networks_whose_weights_can_be_fetched(settings):
    specs = [spec_of(name, chosen) for name, chosen in settings.backbones.fetched.items()]
    assert all(spec.weights.startswith(("hub:", "hub-file:", "file:weights/")) for spec in specs)


def test_no_restricted_licence_is_allowed_beforehand(settings):
    assert settings.licences == {}
