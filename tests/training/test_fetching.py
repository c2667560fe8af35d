"""Networks with given weights: what the zoo fills in, which licences pass, what a folder keeps."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from training.backbone import load_backbone, main, save_backbone
from training.fetching import fetch_backbone, spec_of
from training.settings import FetchedBackbone, load_settings
from vitrine import plugins
from vitrine.errors import BadInput, Refused
from vitrine.ports import BackboneSpec
from vitrine.zoo import PERMISSIVE, check_licence

SMALL = FetchedBackbone(family="timm", architecture="test_resnet", weights="random", image_size=64)


def test_a_zoo_name_says_all_the_rest():
    spec = spec_of("mine", FetchedBackbone(zoo="dinov2-base"))
    assert spec == BackboneSpec("timm", "vit_base_patch14_dinov2", "hub:lvd142m", 224, "Apache-2.0")


def test_what_is_given_beside_a_zoo_name_counts():
    spec = spec_of("mine", FetchedBackbone(zoo="dinov2-base", weights="file:w.safetensors", image_size=518))
    assert (spec.weights, spec.image_size, spec.licence) == ("file:w.safetensors", 518, "Apache-2.0")


def test_the_zoos_architecture_cannot_be_changed():
    with pytest.raises(BadInput, match="the zoo's dinov2-base has its own architecture; leave architecture out"):
        spec_of("mine", FetchedBackbone(zoo="dinov2-base", architecture="resnet50"))


def test_without_a_zoo_name_family_and_architecture_are_needed():
    with pytest.raises(BadInput, match=r"backbones\.fetched\.mine needs a zoo name .*, or family and architecture"):
        spec_of("mine", FetchedBackbone(family="timm"))


def test_a_wrong_zoo_name_suggests_near_ones():
    with pytest.raises(BadInput, match=r"the zoo has no 'dinov2-bas'; did you mean dinov2-base"):
        spec_of("mine", FetchedBackbone(zoo="dinov2-bas"))


@pytest.mark.parametrize("licence", [*PERMISSIVE, "apache-2.0", "mit"])
def test_permissive_licences_pass(licence):
    check_licence("mine", licence, {})


def test_another_licence_is_refused_before_anything_is_fetched():
    with pytest.raises(Refused) as caught:
        fetch_backbone("mae", FetchedBackbone(zoo="mae-vit-base"), {})
    said = str(caught.value)
    assert "the weights of backbone mae have the licence 'CC-BY-NC-4.0', which is not allowed" in said
    assert "allowed are Apache-2.0, MIT" in said
    assert "add to params.yaml: licences: {CC-BY-NC-4.0: WHY}" in said


def test_a_licence_that_somebody_allowed_passes():
    check_licence("mae", "CC-BY-NC-4.0", {"CC-BY-NC-4.0": "a study, nothing is served"})


def test_weights_of_a_hub_must_state_their_licence():
    with pytest.raises(Refused, match=r"have the licence 'unknown'.*; state it \(licence: NAME\)"):
        fetch_backbone("mine", dataclasses.replace(SMALL, weights="hub"), {})


@pytest.mark.parametrize("licence", [None, "MIT"])
def test_ones_own_weights_need_nobodys_leave(licence):
    backbone, spec, origin = fetch_backbone("mine", dataclasses.replace(SMALL, licence=licence), {})
    assert (backbone.dim, spec.licence, origin) == (96, licence or "unknown", {"fetched": "random"})


def test_ones_own_weights_under_a_stated_licence_that_is_not_allowed_are_refused():
    with pytest.raises(Refused, match="have the licence 'Proprietary'"):
        fetch_backbone("mine", dataclasses.replace(SMALL, licence="Proprietary"), {})


def test_a_checkpoint_that_must_be_converted_says_how():
    with pytest.raises(
        BadInput, match=r"download https://.*/vit_b16\.pt, then: vitrine zoo convert maws-vit-base FILE"
    ):
        fetch_backbone("maws", FetchedBackbone(zoo="maws-vit-base"), {"CC-BY-NC-4.0": "a study"})


def test_a_backbone_folder_keeps_how_photos_are_prepared(tmp_path):
    spec = BackboneSpec("timm", "test_resnet", "random", 64)
    backbone = plugins.load("families", "timm").load(spec)
    image = dataclasses.replace(backbone.image, resize="squash", crop_fraction=1.0)
    other = dataclasses.replace(backbone, image=image, mean=(0.5, 0.25, 0.125), std=(0.5, 0.5, 0.25))
    save_backbone(tmp_path / "mine", other, spec, {})
    loaded, _, _ = load_backbone(tmp_path / "mine")
    assert (loaded.image, loaded.mean, loaded.std) == (image, (0.5, 0.25, 0.125), (0.5, 0.5, 0.25))
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.module(pixels), backbone.module(pixels))


def test_the_fetch_stage_reads_licences_from_params(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "{seed: 0, threads: 1, datasets: {}, features: {}, cells: {}, licences: {Mine: we made it}, backbones: {fetched: "
        "{small: {family: timm, architecture: test_resnet, weights: random, image_size: 64, licence: Mine}}}}"
    )
    assert load_settings().licences == {"Mine": "we made it"}
    main(["--fetch", "small"])
    assert json.loads(capsys.readouterr().out) == {"backbone": "small"}
    saved = json.loads((tmp_path / "work/backbones/small/backbone.json").read_text())
    assert saved["spec"]["licence"] == "Mine"


def test_the_fetch_stage_leaves_its_costs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "{seed: 0, threads: 1, datasets: {}, features: {}, cells: {}, backbones: {fetched: "
        "{small: {family: timm, architecture: test_resnet, weights: random, image_size: 64}}}}"
    )
    main(["--fetch", "small"])
    cost = json.loads((tmp_path / "work/costs/fetch--small.json").read_text())
    assert (cost["stage"], cost["cell"], cost["parameters_trained"]) == ("fetch", "small", 0)
    assert cost["seconds"] > 0
