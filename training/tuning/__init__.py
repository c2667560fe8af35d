"""Tuning strategies. A strategy is a module here: `tune(task) -> Tuned`; its file name is its key.

To add one, write `training/tuning/NAME.py` and, if it has hyper-parameters, a settings class and a
section of that name in params.yaml.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from vitrine.errors import BadInput
from vitrine.progress import Track, quiet

if TYPE_CHECKING:
    import torch

    from training.features import Features
    from training.settings import Settings
    from vitrine.dataset import Dataset
    from vitrine.export import Classifier


@dataclass(frozen=True)
class Task:
    """What a strategy may look at: cached features of a frozen backbone and the dataset's items.

    The test split is for evaluation alone; choices are made on `val`.
    """

    features: Features
    dataset: Dataset
    settings: Settings
    track: Track = quiet


@dataclass(frozen=True)
class Tuned:
    """What goes on top of the backbone.

    Attributes:
        head: features float32 (B, D) -> embedding (B, E) or (embedding, logits (B, C)); None for the features themselves.
        text_head: title features float32 (B, D) -> embedding (B, E) in the same space; None drops the text tower where
            there is a `head`.
        facts: what was chosen and how well it did on validation; repeatable, it becomes lineage.
        samples: feature rows that went through the head in training.
    """

    head: torch.nn.Module | None = None
    text_head: torch.nn.Module | None = None
    classifier: Classifier | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters_trained: int = 0
    samples: int = 0


class Strategy(Protocol):
    """A module in this folder."""

    def tune(self, task: Task) -> Tuned:
        """Make the head. Equal task, seed and thread count give equal weights."""
        ...


def names() -> list[str]:
    """Keys of all strategies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(key: str) -> Strategy:
    """Import one strategy.

    Raises:
        BadInput: no strategy of that key; the message lists the known ones.
    """
    if key not in names():
        raise BadInput(f"{key!r} is no tuning strategy; there are: {', '.join(names())}", field="strategy")
    return cast("Strategy", importlib.import_module(f"training.tuning.{key}"))
