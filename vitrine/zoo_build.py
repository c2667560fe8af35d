"""Networks of the zoo: built without weights, measured, fetched, converted from published checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.files import sha256_file
from vitrine.ports import Backbone, BackboneSpec
from vitrine.zoo import Preprocessing, ZooModel

if TYPE_CHECKING:
    import torch

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")  # the second names the token that pads


@dataclass(frozen=True)
class Measured:
    """What building a network shows; the same figures as in `ZooModel`."""

    dim: int
    parameters: int
    text_parameters: int
    gmacs: float


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote: digests of the published checkpoint and of the safetensors file."""

    tensors: int
    source_sha256: str
    sha256: str


def measure(model: ZooModel) -> Measured:
    """Build the network without weights or memory and count.

    Multiply-adds are those of matrix products, convolutions and attention, as torch counts them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image, text_parameters = _on_meta(model)
    image.eval().requires_grad_(requires_grad=False)  # the counter cannot follow parameters on the meta device
    pixels = torch.empty(1, 3, model.image_size, model.image_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = image(pixels)
    features = out[0] if isinstance(out, tuple) else out
    return Measured(
        dim=int(features.shape[1]),
        parameters=sum(weight.numel() for weight in image.parameters()),
        text_parameters=text_parameters,
        gmacs=round(counter.get_total_flops() / 2e9, 2),  # a multiply-add is two operations
    )


def fetch(model: ZooModel, spec: BackboneSpec) -> Backbone:
    """The network with its weights; `spec` may have another image size or a file of its own.

    Raises:
        BadInput: the weights must be converted first, or do not fit.
        NotFound: the file does not exist.
        Unavailable: the hub cannot be reached.
    """
    kind, _, rest = spec.weights.partition(":")
    if kind == "convert":
        raise BadInput(
            f"{model.name} is published under other names: download {model.address}, then: "
            f"vitrine zoo convert {model.name} FILE OUT.safetensors, and set weights: file:OUT.safetensors",
            field="weights",
        )
    if kind == "hub-file":
        spec = replace(spec, weights=f"file:{_download(rest)}")
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    return with_preprocessing(backbone, model.preprocessing)


def with_preprocessing(backbone: Backbone, wanted: Preprocessing | None) -> Backbone:
    """The same network, its photos prepared as it was trained."""
    if wanted is None:
        return backbone
    image = replace(
        backbone.image,
        crop_fraction=wanted.crop_fraction,
        interpolation=wanted.interpolation,
        resize=wanted.resize,
    )
    return replace(backbone, image=image, mean=wanted.mean, std=wanted.std)


def convert(model: ZooModel, checkpoint: Path, target: Path) -> Converted:
    """Write a published checkpoint as safetensors under the library's names, after it fitted exactly.

    Raises:
        BadInput: the model needs no conversion, the checkpoint cannot be read or does not fit, or
            the target is no .safetensors file.
        NotFound: there is no such checkpoint.
    """
    from safetensors.torch import save_file

    from vitrine.families._converters import KEY_MAPS, read_checkpoint, rename
    from vitrine.families._weights import fit_weights

    if model.source != "convert":
        raise BadInput(f"{model.name} needs no conversion: its weights are {model.weights}", field="name")
    if target.suffix != ".safetensors":
        raise BadInput(f"{target} must end in .safetensors", field="out")
    spec = BackboneSpec(model.family, model.architecture, "random", model.image_size, model.licence)
    module: torch.nn.Module = plugins.load("families", model.family).load(spec).module
    tensors = rename(read_checkpoint(checkpoint), KEY_MAPS[model.weights.partition(":")[2]])
    fit_weights(module, tensors, checkpoint, lambda _: False)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    save_file(state, partial)
    partial.replace(target)
    return Converted(len(state), sha256_file(checkpoint), sha256_file(target))


def _on_meta(model: ZooModel) -> tuple[torch.nn.Module, int]:
    """The image tower without memory behind it, and how many parameters the rest has."""
    import torch

    with torch.device("meta"), _quiet():
        if model.family == "timm":
            from vitrine.families.timm import build_empty

            return build_empty(model.architecture, model.image_size), 0
        import open_clip

        whole: Any = open_clip.create_model(
            model.architecture, pretrained=None, device="meta", force_image_size=model.image_size
        )
    image: torch.nn.Module = whole.visual
    total = sum(weight.numel() for weight in whole.parameters())
    scales = sum(weight.numel() for name, weight in whole.named_parameters() if name.startswith("logit_"))
    return image, total - scales - sum(weight.numel() for weight in image.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of missing weights, which is what is wanted here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _download(address: str) -> Path:
    """A safetensors file of the hub; its tokenizer lies beside it afterwards."""
    from huggingface_hub import hf_hub_download

    from vitrine.families._weights import hub_errors

    repository, _, file = address.rpartition("/")
    with hub_errors(repository):
        for part in TOKENIZER:
            hf_hub_download(repository, part)
        return Path(hf_hub_download(repository, file))
