"""Every module in `vitrine/families/` keeps the promises of `vitrine.ports.Family`."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from vitrine import plugins
from vitrine.errors import BadInput, NotFound, Unavailable
from vitrine.ports import BackboneSpec

SMALL = {"timm": ("test_resnet", 64, "test_resnet"), "open-clip": ("RN50", 64, "RN50")}


def spec(key, **changed):
    architecture, size, _ = SMALL[key]
    fields = {"family": key, "architecture": architecture, "weights": "random", "image_size": size}
    return BackboneSpec(**{**fields, **changed})


@pytest.fixture(scope="module", params=plugins.names("families"))
def family(request):
    assert request.param in SMALL, f"name a small architecture of {request.param} here"
    module = plugins.load("families", request.param)
    return request.param, module, module.load(spec(request.param))


def test_a_backbone_says_its_dim_and_its_image_size(family):
    _, _, backbone = family
    with torch.no_grad():
        out = backbone.module(torch.zeros(2, 3, backbone.image.height, backbone.image.width))
    assert out.shape == (2, backbone.dim)
    assert (backbone.image.height, backbone.image.width) == (64, 64)
    assert len(backbone.mean) == len(backbone.std) == 3


def test_a_backbone_is_in_evaluation_mode(family):
    assert not any(module.training for module in family[2].module.modules())


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(family):
    key, module, backbone = family
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = module.load(spec(key))
    assert torch.equal(before, torch.get_rng_state())
    first = backbone.module.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.module.state_dict().items())


def test_saved_weights_come_back(family, tmp_path):
    key, module, backbone = family
    changed = {
        name: tensor + 1 if tensor.is_floating_point() else tensor
        for name, tensor in backbone.module.state_dict().items()
    }
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, tmp_path / "w.safetensors")
    loaded = module.load(spec(key, weights=f"file:{tmp_path / 'w.safetensors'}")).module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in changed.items())


def test_weights_that_do_not_fit_are_refused_by_name(family, tmp_path):
    key, module, _ = family
    save_file({"foreign.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"do not fit this architecture: .* tensors are missing"):
        module.load(spec(key, weights=f"file:{tmp_path / 'w.safetensors'}"))


def test_an_unknown_architecture_suggests_near_names(family):
    key, module, _ = family
    with pytest.raises(BadInput, match=f"did you mean .*{SMALL[key][2]}"):
        module.load(spec(key, architecture=SMALL[key][0] + "x"))


def test_pickled_weights_are_refused_unread(family, tmp_path):
    key, module, _ = family
    (tmp_path / "w.bin").write_bytes(b"\x80")
    with pytest.raises(BadInput, match="pickled weights can run code"):
        module.load(spec(key, weights=f"file:{tmp_path / 'w.bin'}"))


def test_a_missing_weights_file_is_not_found(family, tmp_path):
    key, module, _ = family
    with pytest.raises(NotFound, match="no weights file at"):
        module.load(spec(key, weights=f"file:{tmp_path / 'none.safetensors'}"))


def test_an_unknown_tag_lists_the_known_ones(family):
    key, module, _ = family
    with pytest.raises(BadInput, match=r"has no weights 'nonsense' for .*, only: "):
        module.load(spec(key, weights="hub:nonsense"))


def test_an_unreachable_hub_is_one_sentence(family, monkeypatch, tmp_path):
    key, module, _ = family
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def offline(*_, **__):
        raise ConnectionError("offline")

    name = "timm.create_model" if key == "timm" else "open_clip.create_model"
    monkeypatch.setattr(name, offline)
    with pytest.raises(Unavailable, match="could not be fetched from the hub"):
        module.load(spec(key, weights="hub"))


def test_an_unknown_kind_of_weights_is_explained(family):
    key, module, _ = family
    with pytest.raises(BadInput, match=r"use hub, hub:TAG, file:PATH\.safetensors or random"):
        module.load(spec(key, weights="https://example.org/w"))
