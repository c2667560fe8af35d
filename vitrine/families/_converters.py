"""Published checkpoints under other names than the library's: a key map each.

A key map says which outer names to open, which prefixes to take off and which tensors to leave out.
What is left must then fit the library's module exactly: `vitrine.zoo_build.convert` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitrine.errors import BadInput, NotFound


@dataclass(frozen=True)
class KeyMap:
    """How the names of a checkpoint become those of a timm module.

    Attributes:
        wrappers: names under which the tensors may lie one level down, such as `model`.
        prefixes: taken off; where a checkpoint has one of them, tensors without it are left out.
        dropped: beginnings of names, after the prefix, that the image tower has not: classifiers, decoders.
    """

    wrappers: tuple[str, ...]
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]


KEY_MAPS: Mapping[str, KeyMap] = {
    # DINO's ResNet-50 has torchvision's names, which are timm's; the full checkpoint has student and teacher.
    "dino-resnet": KeyMap(
        ("teacher", "student", "state_dict"), ("module.backbone.", "backbone.", "module."), ("fc.", "head.")
    ),
    # MAWS and MAE are timm's own VisionTransformer; with MAWS's text encoder it is called vision_encoder.
    "maws-vit": KeyMap(("model", "state_dict"), ("vision_encoder.", "module."), ("head.", "decoder_", "mask_token")),
}


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """A published .pth or .pt file, read without running what a pickle may ask for.

    Raises:
        NotFound: no such file.
        BadInput: it holds more than tensors and plain values, or is no checkpoint at all.
    """
    if not path.is_file():
        raise NotFound(f"no checkpoint at {path}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, runtime, EOF and key errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} cannot be read as tensors alone and is not opened otherwise: {reason}") from error
    if not isinstance(found, Mapping):
        raise BadInput(f"{path} holds a {type(found).__name__}, not named tensors")
    return found


def rename(checkpoint: Mapping[str, Any], key_map: KeyMap) -> dict[str, torch.Tensor]:
    """The tensors of the image tower under the library's names."""
    inner = next(
        (checkpoint[name] for name in key_map.wrappers if isinstance(checkpoint.get(name), Mapping)), checkpoint
    )
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    for prefix in key_map.prefixes:
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            break
    return {name: value for name, value in tensors.items() if not name.startswith(key_map.dropped)}
