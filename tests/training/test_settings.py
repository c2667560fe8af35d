"""params.yaml: every key is known, every name exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.small_params import small_params
from training.settings import load_settings
from vitrine.errors import BadInput, NotFound

ROOT = Path(__file__).parents[2]


@pytest.fixture
def changed(tmp_path):
    """Load small parameters after a change to their plain values."""

    def load(change):
        raw = small_params(products=20)
        change(raw)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
        return load_settings(tmp_path / "params.yaml")

    return load


PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("profile", [path for path in PROFILES if path.stem != "own"], ids=lambda path: path.stem)
def test_a_profile_is_valid(profile):
    settings = load_settings(profile)
    assert settings.cells


def test_the_profile_for_a_catalogue_of_ones_own_is_valid_once_it_is_added(tmp_path):
    raw = yaml.safe_load((ROOT / "profiles/own.yaml").read_text())
    raw["datasets"] = {"shop": {"format": "table", "path": "shop.csv"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))

    assert list(load_settings(tmp_path / "params.yaml").backbones.trained) == ["own"]


def test_the_parameters_of_a_fresh_checkout_are_the_demo_profile():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles/demo.yaml").read_bytes()


def test_a_misspelt_key_is_found(changed):
    with pytest.raises(BadInput, match=r"top has an unknown key 'droput'; did you mean 'dropout'\?"):
        changed(lambda raw: raw["top"].update(droput=0.5))


def test_a_value_of_another_type_is_refused(changed):
    with pytest.raises(BadInput, match="top: epochs is 'many', it must be int"):
        changed(lambda raw: raw["top"].update(epochs="many"))


def test_a_missing_key_is_named(changed):
    with pytest.raises(BadInput, match="lacks path"):
        changed(lambda raw: raw["datasets"]["demo"].pop("path"))


def test_a_cell_of_an_absent_backbone_is_refused(changed):
    cell = {"strategy": "top", "backbone": "big", "dataset": "demo"}
    with pytest.raises(BadInput, match="no 'big--demo' under features; there: mini--demo"):
        changed(lambda raw: raw["cells"].update({"top--big--demo": cell}))


def test_a_cell_under_another_name_is_refused(changed):
    with pytest.raises(BadInput, match="the key 'mine' under cells must be 'top--mini--demo'"):
        changed(lambda raw: raw["cells"].update(mine=raw["cells"].pop("top--mini--demo")))


def test_whole_numbers_are_fractions_where_fractions_are_asked_for(changed):
    assert changed(lambda raw: raw["top"].update(dropout=0)).top.dropout == 0.0


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(NotFound, match="run the pipeline from the project's folder"):
        load_settings(tmp_path / "params.yaml")


def test_text_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(BadInput, match="is not valid YAML"):
        load_settings(tmp_path / "params.yaml")
