"""Full tuning: every parameter of the backbone moves, by one of the objectives in `training/objectives/`.

`supervised` adds a classifier on the features; a version's embedding is the features themselves. `contrastive`
tunes both towers on photos and titles, so photos and words stay in one space. `self-supervised` looks at photos
alone. A text tower that was not trained along is left out: its space is another one by then.

Where validation can tell, the best epoch is kept: mMP@5 of validation photos among training photos for labels,
the rank of a title's photo among validation photos for titles. Photos alone have no judge but labels, which that
objective is to do without, so its last epoch is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training import objectives
from training.fitting import Fitted, fit
from training.objectives import Examples, Objective, ObjectiveSettings, examples_of
from training.objectives._views import plain
from training.objectives.supervised import Supervised
from training.photos import Photos, roomy
from training.recipe import Recipe
from training.settings import FullSettings
from training.tuning import Task, Tuned
from training.tuning._classifier import calibrate, class_names, mean_precision_at_5, of_known_classes, parts
from vitrine.items import Item
from vitrine.ports import Backbone
from vitrine.tokenize import load_tokenizer

GALLERY = 5_000
"""Training photos that validation photos are searched among, a seeded sample: scoring stays cheaper than training."""

_EMBED = 64


def tune(task: Task) -> Tuned:
    """Train a copy of the backbone on the training photos; every choice is made on validation photos.

    Raises:
        BadInput: an unknown objective, or labels, titles or a backbone that do not fit it.
    """
    settings = task.settings.full
    kind = objectives.load(settings.objective)
    backbone = task.fresh_backbone()
    learn, choose = parts(task)
    if settings.objective == "supervised":
        class_names(learn, task.dataset.name, "full tuning")
    examples = examples_of(learn, titled=kind.NEEDS_TITLES)
    torch.manual_seed(task.settings.seed)
    objective = kind.build(backbone, examples, _losses(settings))
    judge = _judge(task, backbone, settings.objective, learn, choose)
    fitted = _train(task, backbone, objective, examples, judge)
    head = objective.head if isinstance(objective, Supervised) else None
    found: dict[str, Any] = {"full": asdict(settings), "best_epoch": fitted.best_epoch, "losses": list(fitted.losses)}
    if judge:
        found[judge.name] = fitted.scores[fitted.best_epoch - 1]
    tuned = Tuned(
        backbone=backbone if kind.NEEDS_TITLES else replace(backbone, text=None),
        head=head,
        facts=found,
        parameters_trained=fitted.parameters,
        samples=fitted.images,
        device=fitted.device,
    )
    return _with_classifier(tuned, task, examples, choose) if head else tuned


def _train(task: Task, backbone: Backbone, objective: Objective, examples: Examples, judge: _Judge | None) -> Fitted:
    settings = task.settings.full
    return fit(
        objective,
        Photos(task.dataset, examples.images, roomy(backbone.image), task.track),
        _recipe(settings, task.settings.seed),
        context={"dataset": task.dataset.digest, "photos": examples.images, "full": asdict(settings)},
        checkpoints=task.checkpoints,
        score=judge.score if judge else None,
        track=task.track,
        what="full tuning",
    )


def _losses(settings: FullSettings) -> ObjectiveSettings:
    return ObjectiveSettings(settings.label_smoothing, settings.temperature, settings.projection)


def _recipe(settings: FullSettings, seed: int) -> Recipe:
    names = ("epochs", "batch_size", "lr", "weight_decay", "accumulate", "warmup", "precision", "patience")
    return Recipe(**{name: getattr(settings, name) for name in names}, seed=seed)


# --- judging an epoch -----------------------------------------------------------------------


class _Judge:
    """A validation score by name."""

    def __init__(self, name: str, score: Callable[[], float]) -> None:
        self.name, self.score = name, score


def _judge(
    task: Task, backbone: Backbone, objective: str, learn: Sequence[Item], choose: Sequence[Item]
) -> _Judge | None:
    if objective == "supervised":
        return _Judge("val_mmp@5", _label_score(task, backbone, learn, choose))
    asked = examples_of(choose, titled=True)
    if objective == "contrastive" and len(set(asked.titles)) > 1:
        return _Judge("val_title_mrr", _title_score(task, backbone, asked))
    return None


def _label_score(task: Task, backbone: Backbone, learn: Sequence[Item], choose: Sequence[Item]) -> Callable[[], float]:
    """mMP@5 of validation photos among training photos."""
    labels = sorted({item.label for item in learn})
    gallery = examples_of(learn).sample(GALLERY, task.settings.seed)
    queries = examples_of(of_known_classes(choose, sorted(set(gallery.labels)), task.dataset.name, "full tuning"))
    sides = [(Photos(task.dataset, side.images, backbone.image, task.track), side) for side in (queries, gallery)]
    numbers = [torch.from_numpy(_numbers(side, labels)) for _, side in sides]

    def score() -> float:
        asked, searched = (embed(backbone, photos) for photos, _ in sides)
        return mean_precision_at_5(asked, numbers[0], searched, numbers[1])

    return score


def _title_score(task: Task, backbone: Backbone, asked: Examples) -> Callable[[], float]:
    """Mean over titles of 1 / rank of the first photo so named, among all validation photos that have a title."""
    assert backbone.text is not None
    tower = backbone.text
    titles = sorted(set(asked.titles))
    tokens = torch.from_numpy(load_tokenizer(tower.tokenizer).encode(titles))
    photos = Photos(task.dataset, asked.images, backbone.image, task.track)
    named = torch.tensor([[title == own for own in asked.titles] for title in titles])

    @torch.no_grad()
    def score() -> float:
        device = next(tower.module.parameters()).device
        words = torch.cat([tower.module(part.to(device)).cpu() for part in torch.split(tokens, _EMBED)])
        scores = functional.normalize(words, dim=1) @ functional.normalize(embed(backbone, photos), dim=1).T
        best = scores.masked_fill(~named, -torch.inf).max(dim=1).values
        return float((1 / (1 + (scores > best[:, None]).sum(dim=1))).mean())

    return score


def _with_classifier(tuned: Tuned, task: Task, examples: Examples, choose: Sequence[Item]) -> Tuned:
    """Temperature and abstain threshold from validation photos."""
    assert tuned.backbone is not None
    assert tuned.head is not None
    labels = sorted(set(examples.labels))
    known = examples_of(of_known_classes(choose, labels, task.dataset.name, "full tuning"))
    features = embed(tuned.backbone, Photos(task.dataset, known.images, tuned.backbone.image, task.track))
    with torch.no_grad():
        logits: NDArray[np.float32] = tuned.head(features)[1].numpy()
    precision = task.settings.full.abstain_precision
    classifier, facts = calibrate(logits, _numbers(known, labels), labels, precision)
    return replace(tuned, classifier=classifier, facts={**tuned.facts, **facts})


@torch.no_grad()
def embed(backbone: Backbone, photos: Photos) -> torch.Tensor:
    """Features float32 (N, D) of photos decoded as the backbone serves them, in main memory."""
    device = next(backbone.module.parameters()).device
    rows = torch.split(torch.arange(len(photos)), _EMBED)
    batches = (plain(pixels.to(device), backbone) for _, pixels in photos.batches(rows))
    return torch.cat([backbone.module(batch).float().cpu() for batch in batches])


def _numbers(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64]:
    number = {label: place for place, label in enumerate(labels)}
    return np.array([number[label] for label in examples.labels], dtype=np.int64)
