"""What a network is trained to do. An objective is a module here: `build(backbone, examples, settings)`.

Its file name is its key, with dashes: `self_supervised.py` is `self-supervised`. To add one, write
`training/objectives/NAME.py`; `training.fitting` trains any of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch

from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.ports import Backbone


@dataclass(frozen=True)
class Examples:
    """Training photos with what is known of each; all three have one entry a photo, N in all."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, most: int, seed: int) -> Examples:
        """At most so many of them, drawn by the seed, in the same order."""
        chosen = sorted(np.random.default_rng(seed).permutation(len(self))[:most].tolist())
        images, labels, titles = (
            tuple(values[i] for i in chosen) for values in (self.images, self.labels, self.titles)
        )
        return Examples(images, labels, titles)


@dataclass(frozen=True)
class ObjectiveSettings:
    """Numbers of the losses; see `training.settings.FullSettings`. An objective reads those that it needs."""

    label_smoothing: float = 0.0
    temperature: float = 0.2
    projection: int = 128


class Objective(torch.nn.Module, ABC):
    """A loss with everything that is trained: the backbone's towers and the parameters it adds.

    Attributes:
        targets: what it needs of each photo besides pixels, (N, ...); None where photos are enough.
        keys: int64 (N,); no batch holds two photos of equal key. None where any two may meet.
        passes: how often a photo of a batch goes through the network.
        smallest: photos without which a batch has no loss.
    """

    targets: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    passes = 1
    smallest = 2

    @abstractmethod
    def loss(self, photos: torch.Tensor, targets: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """The loss () of `uint8 (B, 3, S, S)` and their targets (B, ...); chance comes from `generator` (CPU)."""


class ObjectiveModule(Protocol):
    """A module in this folder."""

    NEEDS_TITLES: bool
    """Whether items without a title are left out."""

    def build(self, backbone: Backbone, examples: Examples, settings: ObjectiveSettings) -> Objective:
        """Make the loss; new parameters are drawn from torch's global generator.

        Raises:
            BadInput: the examples or the backbone lack what the objective needs.
        """
        ...


def examples_of(items: Sequence[Item], *, titled: bool = False) -> Examples:
    """Every photo of the items, once each, in order of its name; `titled` leaves items without a title out."""
    known = {image: item for item in items for image in item.images if item.title.strip() or not titled}
    rows = [(image, known[image].label, known[image].title.strip()) for image in sorted(known)]
    images, labels, titles = zip(*rows, strict=True) if rows else ((), (), ())
    return Examples(images, labels, titles)


def full_precision(device: torch.device) -> torch.autocast:
    """Inside, nothing is rounded to half precision: losses compare numbers that differ little."""
    return torch.autocast(device.type, enabled=False)


def names() -> list[str]:
    """Keys of all objectives, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")


def load(key: str) -> ObjectiveModule:
    """Import one objective.

    Raises:
        BadInput: no objective of that key; the message lists the known ones.
    """
    if key not in names():
        raise BadInput(f"{key!r} is no training objective; there are: {', '.join(names())}", field="objective")
    return cast("ObjectiveModule", importlib.import_module(f"training.objectives.{key.replace('-', '_')}"))
