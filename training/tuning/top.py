"""Top-tuning: fully connected layers and a classifier on cached features of a frozen backbone.

The embedding is the last fully connected layer's output. The classifier compares directions
(cosine to one vector a class), because directions are what a search compares later. Training stops
when mMP@5 of validation photos among training photos no longer rises; the best epoch is kept.

A text-image backbone keeps its text tower if the head is shared by both (`training.tuning._shared`); a head for
photos alone (`top.head: image`) makes a version that reads no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional

from training.settings import TopSettings
from training.tuning import Task, Tuned, _shared
from training.tuning._classifier import (
    calibrate,
    class_names,
    class_vectors,
    cosine_logits,
    mean_precision_at_5,
    of_known_classes,
    parts,
)
from training.tuning._fit import fit
from vitrine.errors import BadInput
from vitrine.export import Classifier
from vitrine.items import Item

HEADS = ("auto", "image", "shared")


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
        BadInput: fewer than two classes to tell apart, an unknown `top.head`, or a shared one where the backbone
            or the dataset has no text.
    """
    settings = task.settings.top
    train_items, val_items = parts(task)
    labels = class_names(train_items, task.dataset.name, "top-tuning")
    if _choose_head(task, train_items) == "shared":
        return _shared.tune(task, train_items, val_items, labels)
    train, val = _photos(task, train_items, labels), _photos(task, val_items, labels)
    torch.manual_seed(task.settings.seed)
    learner = ImageLearner(train, val, len(labels), settings)
    fitted = fit(learner, settings, task)
    classifier, facts = _calibrate(learner.head, val, labels, settings.precision)
    return Tuned(
        head=learner.head,
        classifier=classifier,
        facts={"top": asdict(settings), "head": "image", "best_epoch": fitted.epoch}
        | {"val_mmp@5": round(fitted.score, 5), **facts},
        parameters_trained=sum(weight.numel() for weight in learner.head.parameters()),
        samples=fitted.samples,
    )


def _choose_head(task: Task, train_items: Sequence[Item]) -> str:
    """`image` or `shared`; `auto` is shared where there are titles to keep the photos together with."""
    wanted = task.settings.top.head
    if wanted not in HEADS:
        raise BadInput(f"top.head is {wanted!r}; it is one of {', '.join(HEADS)}", field="top.head")
    lacking = None
    if task.features.texts is None:
        lacking = "the backbone reads no text"
    elif len({item.title for item in train_items if item.title.strip()}) < 2:
        lacking = f"the training items of {task.dataset.name} have fewer than two titles"
    if wanted == "shared" and lacking:
        raise BadInput(f"top.head is 'shared', but {lacking}; use 'image' or 'auto'", field="top.head")
    return "image" if lacking or wanted == "image" else "shared"


class ImageLearner:
    """A new head over photos alone; see `training.tuning._fit.Learner`."""

    start = -1.0  # an untrained head says nothing

    def __init__(self, train: _Photos, val: _Photos, classes: int, settings: TopSettings) -> None:
        self.train, self.val, self.settings, self.rows = train, val, settings, len(train.x)
        unit = functional.normalize(train.x, dim=1)
        self.head = Head(unit.mean(dim=0), unit.std(dim=0).clamp_min(1e-4), classes, settings)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the labels."""
        _, logits = self.head(self.train.x[rows])
        return functional.cross_entropy(logits, self.train.y[rows], label_smoothing=self.settings.label_smoothing)

    def score(self) -> float:
        """mMP@5 of validation photos among training photos."""
        return mmp5(self.head, self.train, self.val)


def _photos(task: Task, items: Sequence[Item], labels: Sequence[str]) -> _Photos:
    number = {label: place for place, label in enumerate(labels)}
    known = of_known_classes(items, labels, task.dataset.name, "top-tuning")
    x, y = task.features.of_images(known)
    return _Photos(torch.from_numpy(np.array(x)), torch.tensor([number[label] for label in y]))


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
