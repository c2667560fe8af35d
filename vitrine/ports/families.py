"""What a family of backbones offers: a network with its weights, ready to run or to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vitrine.images import ImageSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BackboneSpec:
    """A network and where its weights come from.

    Attributes:
        family: a module in `vitrine/families/`: `timm` or `open-clip`.
        architecture: the library's own name, such as `convnext_base`.
        weights: `hub` or `hub:TAG`, `file:PATH` to a safetensors file, or `random`.
        image_size: side in pixels, or None for the model's own.
        licence: licence of the weights.
    """

    family: str
    architecture: str
    weights: str
    image_size: int | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class TextTower:
    """The text half of a text-image backbone.

    Attributes:
        module: token ids int64 (B, L) -> float32 (B, D), not unit length, in the space of the image features.
        tokenizer: a tokenizer as the `tokenizers` library writes it, JSON; it pads and cuts to L by itself.
        context_length: L, tokens of a text.
        any_length: whether padding at the end of all texts of a batch can be left out: the features stay the same.
    """

    module: torch.nn.Module
    tokenizer: bytes
    context_length: int
    any_length: bool = False


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder of images and, for some, of texts.

    Attributes:
        module: float32 (B, 3, H, W), normalised by mean and std -> float32 (B, D), not unit length.
        image: preprocessing outside the graph, from the model's own configuration.
        mean, std: per channel, for pixels scaled to [0, 1].
        text: the text tower of the same space; None for image-only networks.
    """

    module: torch.nn.Module
    dim: int
    image: ImageSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text: TextTower | None = None


class Family(Protocol):
    """A module in `vitrine/families/`."""

    def load(self, spec: BackboneSpec) -> Backbone:
        """Build the network with its weights, in evaluation mode.

        Raises:
            BadInput: unknown architecture or tag (the message suggests near names), or weights
                that do not fit.
            NotFound: the weights file does not exist.
            Unavailable: the hub cannot be reached.
        """
        ...
