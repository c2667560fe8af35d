"""One projection for both towers of a text-image backbone, so that photos and titles stay in one space.

    photo features, unit -+                       +-> embedding, compared with one vector a class -> logits
                          +-> x + change(x) ------+
    title features, unit -+                       +-> embedding

The change is zero at first, so training starts from the space that the backbone gives; the best epoch is kept, and
the untrained one is among them. Photos are told apart by label. Photos and titles are kept together by the image-text
part of UniCL (Yang et al. 2022, "Unified Contrastive Learning in Image-Text-Label Space", section 3), where all titles
of the same product, or of the same words, are positives.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional

from training.settings import TopSettings
from training.tuning import Task, Tuned
from training.tuning._classifier import calibrate, cosine_logits, mean_precision_at_5, of_known_classes
from training.tuning._fit import fit
from vitrine.items import Item


class Projection(torch.nn.Module):
    """Features float32 (B, D) of either tower to an embedding (B, D); untrained, it gives the unit features."""

    def __init__(self, dim: int, settings: TopSettings) -> None:
        super().__init__()
        widths = [dim, *[settings.width] * (settings.layers - 1), dim]
        layers: list[torch.nn.Module] = [torch.nn.Dropout(settings.dropout)]
        for inside, outside in itertools.pairwise(widths[:-1]):
            layers += [torch.nn.Linear(inside, outside), torch.nn.ReLU(), torch.nn.Dropout(settings.dropout)]
        last = torch.nn.Linear(widths[-2], dim)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        self.change = torch.nn.Sequential(*layers, last)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Unit features plus their learnt change."""
        unit = functional.normalize(features, dim=1)
        changed: torch.Tensor = unit + self.change(unit)
        return changed


class SharedHead(torch.nn.Module):
    """The photos' side: features (B, D) to an embedding (B, D) and logits (B, C)."""

    def __init__(self, projection: Projection, classes: torch.Tensor) -> None:
        super().__init__()
        self.projection = projection
        self.classes = torch.nn.Parameter(classes)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Project, compare with every class."""
        embedding = self.projection(features)
        return embedding, cosine_logits(embedding, self.classes)


@dataclass(frozen=True)
class Pairs:
    """Photos and titles of one part of the data.

    Attributes:
        x, y: features (N, D) and class numbers (N,) of the photos.
        title: of each photo, the row of its title in `titles`, -1 without one, (N,).
        product: of each photo, a number of its product, of its item where it names none, (N,).
        titles: features (T, D) of the distinct titles.
        asked, asked_y: text queries, one a distinct pair of title and class: row in `titles` and class number, (Q,).
    """

    x: torch.Tensor
    y: torch.Tensor
    title: torch.Tensor
    product: torch.Tensor
    titles: torch.Tensor
    asked: torch.Tensor
    asked_y: torch.Tensor


def pairs(task: Task, items: Sequence[Item], labels: Sequence[str]) -> Pairs:
    """The photos of known classes, with the titles that the backbone read.

    Raises:
        BadInput: no photo is of a known class.
    """
    known = of_known_classes(items, labels, task.dataset.name, "top-tuning")
    x, y = task.features.of_images(known)
    owners = [item for item in known for _ in item.images]
    asked = sorted({(item.title, item.label) for item in known if item.title.strip()})
    titles = sorted({title for title, _ in asked})
    label_of, title_of, product_of = (_numbers(names) for names in (labels, titles, sorted(map(_product, known))))
    return Pairs(
        torch.from_numpy(np.array(x)),
        _column(label_of[label] for label in y),
        _column(title_of.get(item.title, -1) for item in owners),
        _column(product_of[_product(item)] for item in owners),
        torch.from_numpy(np.array(task.features.of_titles(titles))),
        _column(title_of[title] for title, _ in asked),
        _column(label_of[label] for _, label in asked),
    )


def tune(task: Task, train_items: Sequence[Item], val_items: Sequence[Item], labels: Sequence[str]) -> Tuned:
    """Train the shared projection and the classifier; the version then reads photos and titles.

    Raises:
        BadInput: no validation photo is of a training class.
    """
    settings = task.settings.top
    train, val = pairs(task, train_items, labels), pairs(task, val_items, labels)
    torch.manual_seed(task.settings.seed)
    learner = SharedLearner(train, val, settings)
    before = learner.scores()
    fitted = fit(learner, settings, task)
    image, text = learner.scores()
    with torch.no_grad():
        logits = learner.head(val.x)[1].numpy()
    classifier, facts = calibrate(logits, val.y.numpy(), labels, settings.precision)
    return Tuned(
        head=learner.head,
        text_head=learner.head.projection,
        classifier=classifier,
        facts={"top": asdict(settings), "head": "shared", "best_epoch": fitted.epoch, "val_mmp@5": round(image, 5)}
        | {
            "val_text_mmp@5": round(text, 5),
            "start_mmp@5": round(before[0], 5),
            "start_text_mmp@5": round(before[1], 5),
        }
        | facts,
        parameters_trained=sum(weight.numel() for weight in learner.head.parameters()),
        samples=fitted.samples,
    )


class SharedLearner:
    """The head over its data; see `training.tuning._fit.Learner`."""

    def __init__(self, train: Pairs, val: Pairs, settings: TopSettings) -> None:
        self.train, self.val, self.settings = train, val, settings
        projection = Projection(train.x.shape[1], settings)
        self.head = SharedHead(projection, class_means(train.x, train.y)).eval()
        self.rows = len(train.x)
        self.start = self.score()

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Labels of the photos, and which title belongs to which photo."""
        train, settings = self.train, self.settings
        embedding, logits = self.head(train.x[rows])
        loss = functional.cross_entropy(logits, train.y[rows], label_smoothing=settings.label_smoothing)
        titled = train.title[rows] >= 0
        if titled.sum() < 2:
            return loss
        title, product = train.title[rows][titled], train.product[rows][titled]
        positive = (title[:, None] == title[None, :]) | (product[:, None] == product[None, :])
        texts = self.head.projection(train.titles[title])
        return loss + settings.alignment * alignment_loss(embedding[titled], texts, positive, settings.temperature)

    def score(self) -> float:
        """Mean of photo -> photo and title -> photo mMP@5 of validation queries among training photos."""
        return sum(self.scores()) / 2

    @torch.no_grad()
    def scores(self) -> tuple[float, float]:
        """Photo -> photo and title -> photo; without titles to ask with, the first stands for both."""
        gallery, project = self.head(self.train.x)[0], self.head.projection
        image = mean_precision_at_5(project(self.val.x), self.val.y, gallery, self.train.y)
        if not len(self.val.asked):
            return image, image
        queries = project(self.val.titles[self.val.asked])
        return image, mean_precision_at_5(queries, self.val.asked_y, gallery, self.train.y)


def class_means(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean of each class's unit features, (C, D): a classifier for the untrained projection."""
    sums = torch.zeros(int(y.max()) + 1, x.shape[1]).index_add_(0, y, functional.normalize(x, dim=1))
    return functional.normalize(sums, dim=1)


def alignment_loss(
    images: torch.Tensor, texts: torch.Tensor, positive: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cross-entropy of similarities (B, B) with equal shares for the positives, from both sides.

    Args:
        images: embeddings (B, D) of photos.
        texts: embeddings (B, D); row i is of the title of photo i.
        positive: bool (B, B), symmetric, true on the diagonal.
        temperature: similarities are divided by it.
    """
    logits = functional.normalize(images, dim=1) @ functional.normalize(texts, dim=1).T / temperature
    share = positive / positive.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, share) + functional.cross_entropy(logits.T, share)) / 2


def _numbers(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _column(numbers: Iterable[int]) -> torch.Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64)


def _product(item: Item) -> str:
    return f"product {item.product_id}" if item.product_id else f"item {item.item_id}"
