"""The zoo: every network is built without weights, every tag exists, published checkpoints are converted."""

from __future__ import annotations

import dataclasses
import re

import open_clip
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from vitrine import plugins
from vitrine.errors import BadInput, NotFound, Unavailable
from vitrine.families._converters import KEY_MAPS
from vitrine.files import sha256_file
from vitrine.ports import BackboneSpec
from vitrine.zoo import PERMISSIVE, Preprocessing, ZooModel, check_licence, find
from vitrine.zoo_build import convert, fetch, measure, with_preprocessing
from vitrine.zoo_table import ZOO

STUDIED = {
    "ConvNeXt", "ResNet", "ViT", "DINO", "DINOv2", "MAWS", "MAE", "CLIP (OpenAI)", "CLIP (LAION)",
    "CLIP (DataComp)", "CLIP (Apple DFN)", "SigLIP", "Marqo-Ecommerce",
}  # fmt: skip
AFTER = {"SigLIP 2", "DINOv3", "PE-Core", "MobileCLIP2"}
SMALL = ZooModel(
    "small", "DINO", "self-supervised", "timm", "resnet18", "convert:dino-resnet", 64, 512, "MIT", 0, 0.0, "https://x/y"
)


def named(model):
    return model.name


@pytest.mark.parametrize("model", ZOO, ids=named)
def test_every_architecture_is_built_without_weights_and_has_the_figures_of_the_table(model):
    found = measure(model)
    assert (found.dim, found.parameters, found.text_parameters) == (model.dim, model.parameters, model.text_parameters)
    assert found.gmacs == pytest.approx(model.gmacs, rel=0.02)  # attention is counted a little otherwise by each torch


@pytest.mark.parametrize("model", [m for m in ZOO if (m.family, m.source) == ("timm", "hub")], ids=named)
def test_timm_knows_the_tag_and_gives_the_same_licence(model):
    config = timm.models.get_pretrained_cfg(
        f"{model.architecture}.{model.weights.removeprefix('hub:')}", allow_unregistered=False
    )
    assert config is not None
    assert config.license == model.licence.lower()


@pytest.mark.parametrize("model", [m for m in ZOO if (m.family, m.source) == ("open-clip", "hub")], ids=named)
def test_open_clip_knows_the_tag_and_its_activation_is_the_architectures(model):
    tag = model.weights.removeprefix("hub:")
    assert tag in open_clip.list_pretrained_tags_by_model(model.architecture)
    wanted = open_clip.get_pretrained_cfg(model.architecture, tag).get("quick_gelu", False)
    assert open_clip.get_model_config(model.architecture).get("quick_gelu", False) == wanted


def test_names_are_unique_and_usable_in_stages():
    names = [model.name for model in ZOO]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)


def test_every_group_of_the_study_is_there_and_those_after_it():
    assert {model.group for model in ZOO if model.in_study} == STUDIED
    assert {model.group for model in ZOO if not model.in_study} == AFTER


def test_marqos_sizes_are_the_published_ones():
    """203M and 652M parameters in all: the sizes of its model cards confirm the architectures."""
    totals = [round((m.parameters + m.text_parameters) / 1e6) for m in ZOO if m.group == "Marqo-Ecommerce"]
    assert totals == [203, 652]


def test_a_hub_file_has_a_safetensors_name_and_its_own_preprocessing():
    for model in (m for m in ZOO if m.source != "hub"):
        assert model.preprocessing is not None
        assert model.weights.endswith(".safetensors") or model.weights.removeprefix("convert:") in KEY_MAPS


def test_siglip_preprocessing_is_that_of_open_clips_siglip():
    config = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    wanted = find("marqo-ecommerce-base").preprocessing
    assert (wanted.mean, wanted.std, wanted.interpolation, wanted.resize) == (
        config["mean"], config["std"], config["interpolation"], config["resize_mode"],
    )  # fmt: skip


def test_non_commercial_weights_are_not_permissive():
    refused = {model.group for model in ZOO if model.licence not in PERMISSIVE}
    assert refused == {"MAWS", "MAE", "CLIP (Apple DFN)", "DINOv3", "MobileCLIP2"}
    for model in ZOO:
        check_licence(model.name, model.licence, {model.licence: "a test"})


def published(model=SMALL, size=64):
    """A state dict of the right names and shapes, with numbers of its own."""
    torch.manual_seed(7)
    module = plugins.load("families", "timm").load(BackboneSpec("timm", model.architecture, "random", size)).module
    changed = {
        name: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(changed)
    return module, changed


WRAPPED = {
    "bare": lambda state: state,
    "with a classifier": lambda state: {**state, "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)},
    "full checkpoint": lambda state: {
        "student": {f"module.backbone.{k}": v * 0 for k, v in state.items()},
        "teacher": {f"backbone.{k}": v for k, v in state.items()} | {"head.mlp.0.weight": torch.zeros(4, 4)},
        "epoch": 100,
    },
    "of several processes": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("form", WRAPPED, ids=str)
def test_a_converted_checkpoint_gives_the_same_output(tmp_path, form):
    module, state = published()
    torch.save(WRAPPED[form](state), tmp_path / "dino.pth")
    done = convert(SMALL, tmp_path / "dino.pth", tmp_path / "w.safetensors")
    assert (done.tensors, done.sha256) == (len(state), sha256_file(tmp_path / "w.safetensors"))
    spec = BackboneSpec("timm", "resnet18", f"file:{tmp_path / 'w.safetensors'}", 64)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fetch(SMALL, spec).module(pixels), module(pixels))


def test_a_torchvision_network_gives_its_own_output_after_conversion(tmp_path):
    """The oracle is torchvision's implementation, whose names DINO's ResNet-50 has."""
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18().eval()
    torch.save({"teacher": {f"backbone.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "dino.pth")
    convert(SMALL, tmp_path / "dino.pth", tmp_path / "w.safetensors")
    theirs.fc = torch.nn.Identity()
    ours = fetch(SMALL, BackboneSpec("timm", "resnet18", f"file:{tmp_path / 'w.safetensors'}", 64)).module
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), theirs(pixels))


def test_maws_with_its_text_encoder_gives_the_image_tower_alone(tmp_path):
    small = dataclasses.replace(SMALL, architecture="vit_tiny_patch16_224", weights="convert:maws-vit")
    _, state = published(small)
    whole = {f"vision_encoder.{name}": tensor for name, tensor in state.items()}
    whole |= {"text_encoder.token.weight": torch.zeros(9, 3), "vision_projection": torch.zeros(2, 2)}
    torch.save(whole, tmp_path / "maws.pt")
    convert(small, tmp_path / "maws.pt", tmp_path / "w.safetensors")
    assert all(torch.equal(load_file(tmp_path / "w.safetensors")[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", [model.name for model in ZOO if model.source == "convert"])
def test_each_converted_network_has_the_names_of_its_key_map(name):
    """DINO's ResNet-50 is torchvision's, MAWS's ViT-B timm's: their public code says which names those are."""
    model = find(name)
    with torch.device("meta"):
        empty = plugins.load("families", "timm").build_empty(model.architecture, model.image_size)
    names = set(empty.state_dict())
    if name == "dino-resnet50":
        assert {"conv1.weight", "bn1.running_mean", "layer4.2.conv3.weight", "layer1.0.downsample.0.weight"} <= names
        theirs = {key for key in torchvision.models.resnet50().state_dict() if not key.startswith("fc.")}
        assert names == theirs
    else:
        assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.11.attn.qkv.bias", "norm.weight"} <= names
        assert empty.state_dict()["pos_embed"].shape == (1, 197, 768)


def test_the_same_checkpoint_gives_the_same_digest(tmp_path):
    torch.save(published()[1], tmp_path / "dino.pth")
    first = convert(SMALL, tmp_path / "dino.pth", tmp_path / "a.safetensors")
    assert convert(SMALL, tmp_path / "dino.pth", tmp_path / "b.safetensors").sha256 == first.sha256


def test_a_checkpoint_that_runs_code_is_not_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BadInput, match="cannot be read as tensors alone and is not opened otherwise"):
        convert(SMALL, tmp_path / "evil.pth", tmp_path / "w.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]


def test_a_checkpoint_of_another_network_is_refused_and_nothing_is_written(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "dino.pth")
    with pytest.raises(BadInput, match=r"do not fit this architecture: \d+ tensors are missing"):
        convert(SMALL, tmp_path / "dino.pth", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("model", "out", "said"),
    [
        (find("resnet50"), "w.safetensors", "resnet50 needs no conversion: its weights are hub:a1_in1k"),
        (SMALL, "w.bin", "must end in .safetensors"),
    ],
)
def test_what_cannot_be_converted_says_why(tmp_path, model, out, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        convert(model, tmp_path / "x.pth", tmp_path / out)


def test_a_checkpoint_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no checkpoint at"):
        convert(SMALL, tmp_path / "none.pth", tmp_path / "w.safetensors")


def test_a_list_of_tensors_is_no_checkpoint(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(BadInput, match="holds a list, not named tensors"):
        convert(SMALL, tmp_path / "list.pth", tmp_path / "w.safetensors")


def test_preprocessing_of_the_table_replaces_the_architectures(tmp_path):
    wanted = Preprocessing(0.5, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bilinear", resize="squash")
    save_file(published()[1], tmp_path / "w.safetensors")
    spec = BackboneSpec("timm", "resnet18", f"file:{tmp_path / 'w.safetensors'}", 64)
    backbone = fetch(dataclasses.replace(SMALL, preprocessing=wanted), spec)
    image = backbone.image
    assert (image.crop_fraction, image.interpolation, image.resize) == (0.5, "bilinear", "squash")
    assert (image.height, backbone.mean, backbone.std) == (64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert with_preprocessing(backbone, None) is backbone


def test_a_file_of_the_hub_is_fetched_with_its_tokenizer_beside_it(tmp_path, monkeypatch):
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    save_file(published()[1], tmp_path / "model.safetensors")
    spec = BackboneSpec("timm", "resnet18", "hub-file:Owner/name/model.safetensors", 64)
    assert fetch(SMALL, spec).dim == 512
    wanted = ("tokenizer.json", "tokenizer_config.json", "model.safetensors")
    assert asked == [("Owner/name", file) for file in wanted]


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    def offline(*_):
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(Unavailable, match="the weights of Owner/name could not be fetched from the hub"):
        fetch(SMALL, BackboneSpec("timm", "resnet18", "hub-file:Owner/name/model.safetensors", 64))
