"""Top-tuning: fully connected layers and a classifier on cached features of a frozen backbone.

The embedding is the last fully connected layer's output. The classifier compares directions
(cosine to one vector a class), because directions are what a search compares later. Training stops
when mMP@5 of validation photos among training photos no longer rises; the best epoch is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional

from training.settings import TopSettings
from training.tuning import Task, Tuned
from training.tuning._classifier import (
    calibrate,
    class_names,
    class_vectors,
    cosine_logits,
    mean_precision_at_5,
    of_known_classes,
    parts,
)
from vitrine.export import Classifier
from vitrine.items import Item


class Head(torch.nn.Module):
    """Features (B, D) to an embedding (B, E) and logits (B, C)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, classes: int, settings: TopSettings) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        layers: list[torch.nn.Module] = [torch.nn.Linear(len(mean), settings.width)]
        for _ in range(settings.layers - 1):
            layers += [torch.nn.BatchNorm1d(settings.width), torch.nn.ReLU(), torch.nn.Dropout(settings.dropout)]
            layers += [torch.nn.Linear(settings.width, settings.width)]
        self.layers = torch.nn.Sequential(torch.nn.Dropout(settings.dropout), *layers)
        self.classes = class_vectors(classes, settings.width)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardise, embed, compare with every class."""
        embedding = self.layers((functional.normalize(features, dim=1) - self.mean) / self.std)
        return embedding, cosine_logits(embedding, self.classes)


@dataclass(frozen=True)
class _Photos:
    """One part of the data as tensors: features (N, D), class numbers (N,)."""

    x: torch.Tensor
    y: torch.Tensor


def tune(task: Task) -> Tuned:
    """Train the head on the training photos; every choice is made on validation photos.

    Raises:
        BadInput: fewer than two classes to tell apart.
    """
    settings = task.settings.top
    train_items, val_items = parts(task)
    labels = class_names(train_items, task.dataset.name, "top-tuning")
    train, val = _photos(task, train_items, labels), _photos(task, val_items, labels)
    torch.manual_seed(task.settings.seed)
    unit = functional.normalize(train.x, dim=1)
    head = Head(unit.mean(dim=0), unit.std(dim=0).clamp_min(1e-4), len(labels), settings)
    score, epoch, samples = _fit(head, train, val, settings, task)
    classifier, facts = _calibrate(head, val, labels, settings.precision)
    return Tuned(
        head=head,
        classifier=classifier,
        facts={"top": asdict(settings), "best_epoch": epoch, "val_mmp@5": round(score, 5), **facts},
        parameters_trained=sum(weight.numel() for weight in head.parameters()),
        samples=samples,
    )


def _photos(task: Task, items: Sequence[Item], labels: Sequence[str]) -> _Photos:
    number = {label: place for place, label in enumerate(labels)}
    known = of_known_classes(items, labels, task.dataset.name, "top-tuning")
    x, y = task.features.of_images(known)
    return _Photos(torch.from_numpy(np.array(x)), torch.tensor([number[label] for label in y]))


def _fit(head: Head, train: _Photos, val: _Photos, settings: TopSettings, task: Task) -> tuple[float, int, int]:
    """Train in place and end with the best epoch's weights; its score, its number and the rows seen."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(task.settings.seed)
    best, best_epoch, epoch, kept = -1.0, 0, 0, head.state_dict()
    for epoch in task.track(range(1, settings.epochs + 1), "top-tuning", settings.epochs):
        _epoch(head, train, settings, optimiser, generator)
        score = mmp5(head, train, val)
        if score > best:
            best, best_epoch = score, epoch
            kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        elif epoch - best_epoch >= settings.patience:
            break
    head.load_state_dict(kept)
    head.eval()
    return best, best_epoch, epoch * len(train.x)


def _epoch(
    head: Head, train: _Photos, settings: TopSettings, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    head.train()
    for rows in torch.split(torch.randperm(len(train.x), generator=generator), settings.batch_size):
        if len(rows) < 2:
            continue  # batch statistics of one row do not exist
        _, logits = head(train.x[rows])
        loss = functional.cross_entropy(logits, train.y[rows], label_smoothing=settings.label_smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()


@torch.no_grad()
def mmp5(head: torch.nn.Module, gallery: _Photos, queries: _Photos) -> float:
    """Mean over queries of hits among the first min(5, n) / min(5, n), n = relevant gallery photos."""
    head.eval()
    return mean_precision_at_5(head(queries.x)[0], queries.y, head(gallery.x)[0], gallery.y)


@torch.no_grad()
def _calibrate(
    head: Head, val: _Photos, labels: Sequence[str], precision: float
) -> tuple[Classifier, dict[str, float]]:
    return calibrate(head(val.x)[1].numpy(), val.y.numpy(), labels, precision)
