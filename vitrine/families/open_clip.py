"""Image towers of open_clip's text-image backbones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import open_clip
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

_RESIZE: dict[str, ResizeMode] = {"shortest": "crop", "squash": "squash", "longest": "pad"}


class ImageTower(torch.nn.Module):
    """`visual` alone, under the name that it has in a whole model's weights."""

    def __init__(self, visual: torch.nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels float32 (B, 3, H, W) to features float32 (B, D)."""
        features = self.visual(pixels)
        pooled: torch.Tensor = features[0] if isinstance(features, tuple) else features
        return pooled


def load(spec: BackboneSpec) -> Backbone:
    """Build the image tower in evaluation mode; see `vitrine.ports.Family`."""
    if spec.architecture not in open_clip.list_models():
        raise BadInput(
            f"open_clip has no architecture {spec.architecture!r}; {near(spec.architecture, open_clip.list_models())}",
            field="architecture",
        )
    model = _build(spec)
    config = open_clip.get_model_preprocess_cfg(model)
    height, width = _pair(config["size"])
    module = ImageTower(model.visual).eval()
    return Backbone(
        module=module,
        dim=embedding_dim(module, height, width, spec.architecture),
        image=_image(config, height, width),
        mean=_three(config["mean"]),
        std=_three(config["std"]),
    )


def _build(spec: BackboneSpec) -> Any:
    kind, rest = parse_weights(spec.weights)
    options = {"force_image_size": spec.image_size} if spec.image_size else {}
    if kind == "hub":
        tag = _tag(spec.architecture, rest)
        with hub_errors(f"{spec.architecture} ({tag})"):
            return open_clip.create_model(spec.architecture, pretrained=tag, **options)
    with seeded():
        model = open_clip.create_model(spec.architecture, pretrained=None, **options)
    if kind == "file":
        path = Path(rest)
        tower = ImageTower(model.visual)  # a whole model's file has the text tower's tensors too
        fit_weights(tower, load_safetensors(path), path, lambda name: not name.startswith("visual."))
    return model


def _tag(architecture: str, tag: str) -> str:
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if not known or (tag and tag not in known):
        raise BadInput(
            f"open_clip has no weights {tag or 'at all'!r} for {architecture}, only: {', '.join(known) or 'none'}",
            field="weights",
        )
    return tag or str(known[0])


def _image(config: dict[str, Any], height: int, width: int) -> ImageSpec:
    fill = config.get("fill_color") or 0
    return ImageSpec(
        height=height,
        width=width,
        resize=_RESIZE.get(config.get("resize_mode") or "shortest", "crop"),
        interpolation=cast("Interpolation", config.get("interpolation") or "bicubic"),
        fill=int(fill[0] if isinstance(fill, tuple | list) else fill),
    )


def _pair(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return math.ceil(height), math.ceil(width)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
