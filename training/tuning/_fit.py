"""Training a head on cached features: epochs until validation no longer rises, the best one kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from training.settings import TopSettings
from training.tuning import Task


class Learner(Protocol):
    """A head with its data.

    Attributes:
        rows: how many training photos there are.
        start: the validation score before any training, -1 where the untrained head is no candidate.
    """

    rows: int
    start: float

    @property
    def head(self) -> torch.nn.Module:
        """What is trained, in place."""
        ...

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """The loss of a batch of training rows."""
        ...

    def score(self) -> float:
        """The validation score now, more is better."""
        ...


@dataclass(frozen=True)
class Fitted:
    """The best epoch (0 is before the first), its score, and the rows seen in all."""

    score: float
    epoch: int
    samples: int


def fit(learner: Learner, settings: TopSettings, task: Task) -> Fitted:
    """Train in place; the head ends with the best epoch's weights, in evaluation mode."""
    head = learner.head
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(task.settings.seed)
    best, best_epoch, epoch, kept = learner.start, 0, 0, _copy(head)
    for epoch in task.track(range(1, settings.epochs + 1), "top-tuning", settings.epochs):
        _epoch(learner, settings, optimiser, generator)
        head.eval()
        score = learner.score()
        if score > best:
            best, best_epoch, kept = score, epoch, _copy(head)
        elif epoch - best_epoch >= settings.patience:
            break
    head.load_state_dict(kept)
    head.eval()
    return Fitted(best, best_epoch, epoch * learner.rows)


def _epoch(
    learner: Learner, settings: TopSettings, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    learner.head.train()
    for rows in torch.split(torch.randperm(learner.rows, generator=generator), settings.batch_size):
        if len(rows) < 2:
            continue  # batch statistics of one row do not exist
        optimiser.zero_grad()
        learner.loss(rows).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()


def _copy(head: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}
