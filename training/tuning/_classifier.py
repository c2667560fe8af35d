"""What supervised strategies share: cosine logits, which items teach and which choose, scores, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.tuning import Task
from vitrine.calibration import choose_abstain, fit_temperature
from vitrine.encoder import softmax
from vitrine.errors import BadInput
from vitrine.export import Classifier
from vitrine.items import Item

SCALE = 16.0
"""Logits are cosines times this: enough for confident probabilities, the temperature does the rest."""


def class_vectors(classes: int, dim: int) -> torch.nn.Parameter:
    """One random direction a class, float32 (C, D), of about unit length."""
    return torch.nn.Parameter(torch.randn(classes, dim) * dim**-0.5)


def cosine_logits(embedding: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Logits (B, C) of embeddings (B, D) by direction alone, as a search compares them later."""
    return SCALE * functional.normalize(embedding, dim=1) @ functional.normalize(classes, dim=1).T


def parts(task: Task) -> tuple[list[Item], list[Item]]:
    """Training and validation items; without a validation split a fifth of the training products is held out.

    Items of one product, and items that share a photo, stay together: else validation would only ask for what was
    learnt. A label keeps a product to learn from; only where every label has a single product, items are held out singly.
    """
    train, val = task.dataset.split("train"), task.dataset.split("val")
    if val:
        return train, val
    held = _held_out(_together(train), [item.label for item in train], task.settings.seed)
    held = held or _held_out(list(range(len(train))), [item.label for item in train], task.settings.seed)
    return [item for i, item in enumerate(train) if i not in held], [item for i, item in enumerate(train) if i in held]


def _held_out(groups: Sequence[int], labels: Sequence[str], seed: int) -> set[int]:
    """Places of the items of a fifth of the groups, drawn by the seed; every label keeps a group."""
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    of_label = Counter(label for places in members.values() for label in {labels[place] for place in places})
    names, held = sorted(members), set[int]()
    wanted = max(1, len(names) // 5)
    for name in (names[place] for place in np.random.default_rng(seed).permutation(len(names))):
        own = {labels[place] for place in members[name]}
        if wanted and all(of_label[label] > 1 for label in own):
            of_label.subtract(own)
            held.update(members[name])
            wanted -= 1
    return held


def _together(items: Sequence[Item]) -> list[int]:
    """A group number for each item: connected through a product or a photo."""
    group = list(range(len(items)))

    def root(place: int) -> int:
        while group[place] != place:
            group[place] = group[group[place]]
            place = group[place]
        return place

    first: dict[str, int] = {}
    for place, item in enumerate(items):
        product = [f"product {item.product_id}"] if item.product_id else []
        for key in [*item.images, *product]:
            group[root(place)] = root(first.setdefault(key, place))
    return [root(place) for place in range(len(items))]


def class_names(items: Sequence[Item], dataset: str, what: str) -> list[str]:
    """The training items' labels, sorted.

    Raises:
        BadInput: fewer than two; there is nothing to tell apart.
    """
    labels = sorted({item.label for item in items})
    if len(labels) < 2:
        raise BadInput(f"{what} tells classes apart; the training split of {dataset} has {len(labels)} label")
    return labels


def of_known_classes(items: Sequence[Item], labels: Sequence[str], dataset: str, what: str) -> list[Item]:
    """Items whose class has training photos: no other can be answered.

    Raises:
        BadInput: none is left.
    """
    known = [item for item in items if item.label in set(labels)]
    if not known:
        raise BadInput(f"{what} needs validation photos of the training classes; {dataset} has none")
    return known


@torch.no_grad()
def mean_precision_at_5(
    queries: torch.Tensor, query_labels: torch.Tensor, gallery: torch.Tensor, gallery_labels: torch.Tensor
) -> float:
    """mMP@5 of embeddings (Q, D) and (N, D): mean of hits among the first min(5, n) / min(5, n), n relevant photos."""
    relevant = query_labels[:, None] == gallery_labels[None, :]
    wanted = relevant.sum(dim=1).clamp(max=5)
    scores = functional.normalize(queries, dim=1) @ functional.normalize(gallery, dim=1).T
    nearest = scores.topk(min(5, len(gallery)), dim=1).indices
    counts = torch.arange(nearest.shape[1])[None, :] < wanted[:, None]
    hits = (relevant.gather(1, nearest) & counts).sum(dim=1)
    return float((hits / wanted.clamp_min(1))[wanted > 0].mean())


def calibrate(
    logits: NDArray[np.float32], y: NDArray[np.int64], labels: Sequence[str], precision: float
) -> tuple[Classifier, dict[str, float]]:
    """Temperature and abstain threshold from validation logits (N, C); `precision` of the accepted answers."""
    temperature = round(float(fit_temperature(logits, y)), 6)
    probabilities = softmax(logits / np.float32(temperature))
    abstain = round(float(choose_abstain(probabilities, y, precision=precision)), 6)
    accuracy = float((probabilities.argmax(axis=1) == y).mean())
    return Classifier(tuple(labels), temperature, abstain), {"val_accuracy": round(accuracy, 5)}
