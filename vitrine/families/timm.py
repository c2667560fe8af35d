"""Image backbones of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import timm
import torch

from vitrine.errors import BadInput
from vitrine.families._weights import (
    embedding_dim,
    fit_weights,
    hub_errors,
    load_safetensors,
    near,
    parse_weights,
    seeded,
)
from vitrine.images import ImageSpec, Interpolation, ResizeMode
from vitrine.ports import Backbone, BackboneSpec

_RESIZE: dict[str, ResizeMode] = {"center": "crop", "squash": "squash", "border": "pad"}


def load(spec: BackboneSpec) -> Backbone:
    """Build the network without its classifier, in evaluation mode; see `vitrine.ports.Family`."""
    if not timm.is_model(spec.architecture):
        raise BadInput(
            f"timm has no architecture {spec.architecture!r}; {near(spec.architecture, timm.list_models())}",
            field="architecture",
        )
    module = _build(spec).eval()
    resolve: Any = timm.data.resolve_model_data_config  # type: ignore[attr-defined]  # timm exports it without saying so
    config = resolve(module)
    _, height, width = config["input_size"] if spec.image_size is None else (3, spec.image_size, spec.image_size)
    return Backbone(
        module=module,
        dim=embedding_dim(module, height, width, spec.architecture),
        image=_image(config, height, width),
        mean=_three(config["mean"]),
        std=_three(config["std"]),
    )


def _build(spec: BackboneSpec) -> torch.nn.Module:
    kind, rest = parse_weights(spec.weights)
    if kind == "hub":
        name = _tagged(spec.architecture, rest)
        with hub_errors(name):
            return _create(name, spec.image_size, pretrained=True)
    with seeded():
        module = _create(spec.architecture, spec.image_size, pretrained=False)
    if kind == "file":
        path = Path(rest)
        classifier = tuple(f"{name}." for name in _classifier_names(module))
        fit_weights(module, load_safetensors(path), path, lambda name: name.startswith(classifier))
    return module


def build_empty(architecture: str, image_size: int | None) -> torch.nn.Module:
    """The network without its classifier and without weights worth having, on torch's current device."""
    return _create(architecture, image_size, pretrained=False)


def _tagged(architecture: str, tag: str) -> str:
    """The full name of an architecture's weights; refuses a tag that timm does not list."""
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        raise BadInput(
            f"timm has no weights {tag!r} for {architecture}, only: {', '.join(known) or 'none'}", field="weights"
        )
    return f"{architecture}.{tag}" if tag else architecture


def _create(name: str, image_size: int | None, *, pretrained: bool) -> torch.nn.Module:
    """Vision transformers must be told their image size; convolutional networks refuse the word."""
    create: Any = timm.create_model
    if image_size is not None:
        try:
            return cast("torch.nn.Module", create(name, pretrained=pretrained, num_classes=0, img_size=image_size))
        except TypeError:
            pass
    return cast("torch.nn.Module", create(name, pretrained=pretrained, num_classes=0))


def _classifier_names(module: Any) -> list[str]:
    names = module.default_cfg.get("classifier") or ()
    return [names] if isinstance(names, str) else list(names)


def _image(config: dict[str, Any], height: int, width: int) -> ImageSpec:
    known = ("bilinear", "bicubic", "lanczos", "nearest")
    interpolation = config["interpolation"] if config["interpolation"] in known else "bicubic"
    return ImageSpec(
        height=height,
        width=width,
        resize=_RESIZE.get(config.get("crop_mode", "center"), "crop"),
        crop_fraction=float(config["crop_pct"]),
        interpolation=cast("Interpolation", interpolation),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in (values if len(values) == 3 else [values[0]] * 3))
    return red, green, blue
