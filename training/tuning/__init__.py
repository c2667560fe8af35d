"""Tuning strategies. A strategy is a module here: `tune(task) -> Tuned`; its file name is its key.

To add one, write `training/tuning/NAME.py` and, if it has hyper-parameters, a settings class and a
section of that name in params.yaml.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from vitrine.errors import BadInput
from vitrine.progress import Track, quiet

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from training.features import Features
    from training.settings import Settings
    from vitrine.dataset import Dataset
    from vitrine.export import Classifier
    from vitrine.ports import Backbone


@dataclass(frozen=True)
class Task:
    """What a strategy may look at: cached features of a frozen backbone and the dataset's items.

    The test split is for evaluation alone; choices are made on `val`.

    Attributes:
        settings: with the cell's own in place of its strategy's.
        load_backbone: gives a copy that may be trained.
        checkpoints: a folder for a training that can go on after an interruption.
    """

    features: Features
    dataset: Dataset
    settings: Settings
    track: Track = quiet
    load_backbone: Callable[[], Backbone] | None = None
    checkpoints: Path | None = None

    def fresh_backbone(self) -> Backbone:
        """A copy of the backbone that may be trained.

        Raises:
            BadInput: the task is one on cached features alone.
        """
        if self.load_backbone is None:
            raise BadInput("this task has cached features alone; the strategy needs the backbone itself")
        return self.load_backbone()


@dataclass(frozen=True)
class Tuned:
    """What goes on top of the backbone.

    Attributes:
        head: features float32 (B, D) -> embedding (B, E) or (embedding, logits (B, C)); None for the features themselves.
        text_head: title features float32 (B, D) -> embedding (B, E) in the same space; None drops the text tower where
            there is a `head`.
        backbone: a trained copy that takes the frozen one's place; None leaves that one as it is.
        facts: what was chosen and how well it did on validation; repeatable, it becomes lineage.
        samples: photos or feature rows that went through what was trained, each pass counted.
        device: where it was trained.
    """

    head: torch.nn.Module | None = None
    text_head: torch.nn.Module | None = None
    classifier: Classifier | None = None
    backbone: Backbone | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters_trained: int = 0
    samples: int = 0
    device: str = "cpu"


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
