"""Every module in `vitrine/families/` keeps the promises of `vitrine.ports.Family`."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from vitrine import plugins
from vitrine.errors import BadInput, NotFound, Unavailable
from vitrine.ports import BackboneSpec
from vitrine.tokenize import load_tokenizer

# A small architecture of each family: name, side in pixels, and a name that a wrong one suggests.
PUBLISHED = {"timm": "test_resnet", "open-clip": "RN50"}  # architectures with weights on the hub
SMALL = {"timm": ("test_resnet", 64, "test_resnet"), "open-clip": ("vitrine-mini", 64, "vitrine-mini")}


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
        module.load(spec(key, architecture=PUBLISHED[key], weights="hub"))


def test_an_unknown_kind_of_weights_is_explained(family):
    key, module, _ = family
    with pytest.raises(BadInput, match=r"use hub, hub:TAG, file:PATH\.safetensors or random"):
        module.load(spec(key, weights="https://example.org/w"))


# --- text towers --------------------------------------------------------------------------------


@pytest.fixture
def pair(family):
    key, module, backbone = family
    if backbone.text is None:
        pytest.skip(f"{key} has image towers alone")
    return key, module, backbone


def test_a_text_tower_gives_features_in_the_space_of_the_images(pair):
    _, _, backbone = pair
    tokenizer = load_tokenizer(backbone.text.tokenizer)
    assert tokenizer.context_length == backbone.text.context_length
    tokens = torch.from_numpy(tokenizer.encode(["a blue mug", "a red jug", "a blue mug"]))
    with torch.no_grad():
        features = backbone.text.module(tokens)
    assert features.shape == (3, backbone.dim)
    assert not torch.allclose(features[0], features[1])
    torch.testing.assert_close(features[0], features[2])


def test_a_text_tower_is_in_evaluation_mode(pair):
    assert not any(module.training for module in pair[2].text.module.modules())


def both(backbone):
    towers = {**backbone.module.state_dict(), **backbone.text.module.state_dict()}
    assert len(towers) == len(backbone.module.state_dict()) + len(backbone.text.module.state_dict())
    return {name: tensor.clone().contiguous() for name, tensor in towers.items()}


def test_one_weights_file_holds_both_towers(pair, tmp_path):
    key, module, backbone = pair
    changed = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in both(backbone).items()}
    save_file(changed, tmp_path / "w.safetensors")
    loaded = module.load(spec(key, weights=f"file:{tmp_path / 'w.safetensors'}"))
    assert all(torch.equal(tensor, changed[name]) for name, tensor in both(loaded).items())
    assert loaded.text.tokenizer == backbone.text.tokenizer


def test_a_weights_file_of_the_image_tower_alone_gives_no_text_tower(pair, tmp_path):
    key, module, backbone = pair
    save_file(dict(backbone.module.state_dict()), tmp_path / "w.safetensors")
    assert module.load(spec(key, weights=f"file:{tmp_path / 'w.safetensors'}")).text is None


def test_half_a_text_tower_is_refused(pair, tmp_path):
    key, module, backbone = pair
    cut = both(backbone)
    del cut[min(backbone.text.module.state_dict())]
    save_file(cut, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"1 tensors are missing"):
        module.load(spec(key, weights=f"file:{tmp_path / 'w.safetensors'}"))


def test_text_towers_of_both_kinds_answer_as_open_clip_does():
    import open_clip

    from vitrine.families.open_clip import TextModule

    for name in ("vitrine-mini", "ViT-S-32-alt"):
        for custom in (False, True):
            model = open_clip.create_model(name, force_custom_text=custom).eval()
            tokens = open_clip.get_tokenizer(name)(["a blue mug", "jug"])
            with torch.no_grad():
                torch.testing.assert_close(TextModule(model).eval()(tokens), model.encode_text(tokens))
            assert set(TextModule(model).state_dict()) <= set(model.state_dict())
