"""`vitrine zoo`: the table printed, one entry, a checkpoint converted."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.runner import run_vitrine
from vitrine import plugins
from vitrine.files import sha256_file
from vitrine.ports import BackboneSpec
from vitrine.zoo_page import page
from vitrine.zoo_table import ZOO


def test_the_page_of_the_documents_is_what_the_table_says():
    assert (Path(__file__).parents[2] / "docs/zoo.md").read_text() == page(), "run: make docs"


def test_ls_prints_every_network_for_people_and_machines(tmp_path):
    shown, found = run_vitrine(tmp_path, "zoo", "ls"), json.loads(run_vitrine(tmp_path, "zoo", "ls", "--json").out)
    assert [model["name"] for model in found["models"]] == [model.name for model in ZOO]
    assert all(model.name in shown.out for model in ZOO)
    assert "CC-BY-NC-4.0 (not allowed unasked)" in shown.out


def test_show_says_how_to_use_a_network_and_to_allow_its_licence(tmp_path):
    free, bound = (
        run_vitrine(tmp_path, "zoo", "show", "siglip-base"),
        run_vitrine(tmp_path, "zoo", "show", "mae-vit-base"),
    )
    assert "Next, in params.yaml: backbones: fetched: siglip-base: {zoo: siglip-base}" in free.out
    assert "licences" not in free.out
    assert "Its licence must be allowed first: licences: {CC-BY-NC-4.0: WHY}" in bound.out


def test_show_counts_again(tmp_path):
    found = json.loads(run_vitrine(tmp_path, "zoo", "show", "resnet50", "--measure", "--json").out)
    assert found["measured"]["parameters"] == found["parameters"] == 23_508_032


def test_an_unknown_network_is_bad_input_with_near_names(tmp_path):
    ran = run_vitrine(tmp_path, "zoo", "show", "siglip")
    assert ran.code == 2
    assert "the zoo has no 'siglip'; did you mean siglip" in ran.err


def test_convert_prints_both_digests_and_the_line_for_params(tmp_path):
    spec = BackboneSpec("timm", "resnet50", "random", 224)
    torch.save(plugins.load("families", "timm").load(spec).module.state_dict(), tmp_path / "dino.pth")
    ran = run_vitrine(tmp_path, "zoo", "convert", "dino-resnet50", "dino.pth", "w.safetensors")
    assert ran.code == 0, ran.err
    assert sha256_file(tmp_path / "w.safetensors") in ran.out
    assert sha256_file(tmp_path / "dino.pth") in ran.out
    assert "{zoo: dino-resnet50, weights: file:w.safetensors}" in ran.out
