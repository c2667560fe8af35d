"""open_clip's text-image backbones: both towers, with the tokenizer.

`vitrine-mini` is a pair of our own, small enough to train on a processor: see `_open_clip_configs/`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import open_clip
import torch

from vitrine.errors import BadInput
from vitrine.families._open_clip_tokenizer import tokenizer_of
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
from vitrine.ports import Backbone, BackboneSpec, TextTower
from vitrine.tokenize import load_tokenizer

open_clip.add_model_config(Path(__file__).with_name("_open_clip_configs"))

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


class TextModule(torch.nn.Module):
    """The text half of a model, its parts under the names that they have in a whole model's weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.custom = hasattr(model, "text")  # the tower is a module of its own there, spread over the model else
        if self.custom:
            self.text = model.text
            return
        self.transformer = model.transformer
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.ln_final = model.ln_final
        self.text_projection = model.text_projection
        self.text_pool_type, self.text_eos_id = model.text_pool_type, model.text_eos_id
        self.register_buffer("attn_mask", model.attn_mask, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids int64 (B, L) to features float32 (B, D); L is the context length, or less where `cuts` allows it."""
        if self.causal:
            return self._causal_features(tokens)
        if self.custom:
            found = self.text(tokens)
            pooled: torch.Tensor = found[0] if isinstance(found, tuple) else found
            return pooled
        spread: torch.Tensor = open_clip.CLIP.encode_text(cast("Any", self), tokens)
        return spread

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it, and the features are those of the end token.

        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 2.4.
        """
        parts: Any = self.text if self.custom else self
        if self.custom and (type(parts) is not open_clip.transformer.TextTransformer or parts.cls_emb is not None):
            return False
        return parts.attn_mask is not None and self._pooling[0] in ("argmax", "eos")

    def cuts(self, padding: int) -> bool:
        """Whether tokens of this id at the end of a text can be left out without changing its features."""
        if not self.causal:
            return False
        kind, end = self._pooling
        return padding == 0 if kind == "argmax" else padding != end  # `argmax` takes the highest id for the end

    @property
    def _pooling(self) -> tuple[str, int]:
        if self.custom:
            return self.text.pool_type, self.text.eos_id
        return self.text_pool_type, self.text_eos_id

    def _causal_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """`open_clip.CLIP.encode_text`, with positions and mask cut to the length of the tokens."""
        parts: Any = self.text if self.custom else self
        (kind, end), length = self._pooling, tokens.shape[1]
        x = parts.token_embedding(tokens).to(parts.transformer.get_cast_dtype())
        x = x + parts.positional_embedding[:length].to(x.dtype)
        x = parts.ln_final(parts.transformer(x, attn_mask=parts.attn_mask[:length, :length]))
        pooled: torch.Tensor = open_clip.transformer.text_global_pool(x, tokens, kind, eos_token_id=end)
        if parts.text_projection is None:
            return pooled
        linear = isinstance(parts.text_projection, torch.nn.Linear)
        projected: torch.Tensor = parts.text_projection(pooled) if linear else pooled @ parts.text_projection
        return projected


def load(spec: BackboneSpec) -> Backbone:
    """Build both towers in evaluation mode; see `vitrine.ports.Family`.

    A weights file without any tensor of the text tower gives the image tower alone. So does an architecture whose
    tokenizer no file can hold (CLIPA, CLIPS). Where the tokenizer is the hub's (SigLIP), weights from a file need it
    beside them (`tokenizer.json`) or from the hub, and random weights are for the image tower alone.
    """
    if spec.architecture not in open_clip.list_models():
        raise BadInput(
            f"open_clip has no architecture {spec.architecture!r}; {near(spec.architecture, open_clip.list_models())}",
            field="architecture",
        )
    model, text = _build(spec)
    config = open_clip.get_model_preprocess_cfg(model)
    height, width = _pair(config["size"])
    module = ImageTower(model.visual).eval()
    return Backbone(
        module=module,
        dim=embedding_dim(module, height, width, spec.architecture),
        image=_image(config, height, width),
        mean=_three(config["mean"]),
        std=_three(config["std"]),
        text=_with_tokenizer(text, spec) if text else None,
    )


def _build(spec: BackboneSpec) -> tuple[Any, TextModule | None]:
    kind, rest = parse_weights(spec.weights)
    options = {"force_image_size": spec.image_size} if spec.image_size else {}
    if kind == "hub":
        tag = _tag(spec.architecture, rest)
        with hub_errors(f"{spec.architecture} ({tag})"):
            model = open_clip.create_model(spec.architecture, pretrained=tag, **options)
        return model, TextModule(model)
    with seeded(), _expecting_no_weights():
        model = open_clip.create_model(spec.architecture, pretrained=None, **options)
    text: TextModule | None = TextModule(model)
    if kind == "file":
        text = _fill(model, TextModule(model), Path(rest))
    return model, text


@contextmanager
def _expecting_no_weights() -> Iterator[None]:
    """open_clip warns that a model without weights starts at random; ours are filled in afterwards."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def _fill(model: Any, text: TextModule, path: Path) -> TextModule | None:
    """Put a file's tensors into both towers; None instead of the text tower if the file has nothing of it."""
    tensors = load_safetensors(path)
    own = set(text.state_dict())
    fit_weights(ImageTower(model.visual), tensors, path, lambda name: not name.startswith("visual."))
    if not own & set(tensors):
        return None
    fit_weights(text, tensors, path, lambda name: name not in own)
    return text


def _with_tokenizer(text: TextModule, spec: BackboneSpec) -> TextTower | None:
    kind, rest = parse_weights(spec.weights)
    config = open_clip.get_model_config(spec.architecture)["text_cfg"]
    beside = Path(rest).parent if kind == "file" else None
    tokenizer = tokenizer_of(config, beside=beside, online=kind != "random")
    if tokenizer is None:
        return None
    length, padding = int(config.get("context_length", 77)), load_tokenizer(tokenizer).padding
    return TextTower(text.eval(), tokenizer, length, any_length=text.cuts(padding))


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
