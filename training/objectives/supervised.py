"""Labels: a photo shall point where its class points. Cross-entropy of cosines to one vector a class."""

from __future__ import annotations

import torch
from torch.nn import functional

from training.objectives import Examples, Objective, ObjectiveSettings, full_precision
from training.objectives._views import MILD, view
from training.tuning._classifier import class_vectors, cosine_logits
from vitrine.errors import BadInput
from vitrine.ports import Backbone

NEEDS_TITLES = False


class CosineHead(torch.nn.Module):
    """Features (B, D) to themselves, the embedding, and logits (B, C); it can be exported on top of a backbone."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.classes = class_vectors(classes, dim)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare with every class."""
        return features, cosine_logits(features, self.classes)


class Supervised(Objective):
    """Backbone and class vectors; targets are class numbers int64 (N,), in sorted order of the labels."""

    def __init__(self, backbone: Backbone, labels: tuple[str, ...], label_smoothing: float) -> None:
        super().__init__()
        self._backbone, self._label_smoothing = backbone, label_smoothing
        classes = sorted(set(labels))
        number = {label: place for place, label in enumerate(classes)}
        self.targets = torch.tensor([number[label] for label in labels])
        self.image = backbone.module
        self.head = CosineHead(len(classes), backbone.dim)

    def loss(self, photos: torch.Tensor, targets: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """Cross-entropy of one mild view; see `Objective.loss`."""
        assert targets is not None
        features = self.image(view(photos, self._backbone, MILD, generator))
        with full_precision(features.device):
            _, logits = self.head(features.float())
            return functional.cross_entropy(logits, targets, label_smoothing=self._label_smoothing)


def build(backbone: Backbone, examples: Examples, settings: ObjectiveSettings) -> Objective:
    """See `training.objectives.ObjectiveModule`."""
    classes = len(set(examples.labels))
    if classes < 2:
        raise BadInput(f"supervised training tells classes apart; the training photos have {classes} label")
    return Supervised(backbone, examples.labels, settings.label_smoothing)
