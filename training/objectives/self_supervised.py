"""Photos alone: two random views of a photo shall be closer than two photos.

The loss is NT-Xent over a batch (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", section 2.1), on a projection that is thrown away.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from training.objectives import Examples, Objective, ObjectiveSettings, full_precision
from training.objectives._views import STRONG, view
from vitrine.errors import BadInput
from vitrine.ports import Backbone

NEEDS_TITLES = False


class SelfSupervised(Objective):
    """Backbone, projector, NT-Xent."""

    passes = 2

    def __init__(self, backbone: Backbone, projection: int, temperature: float) -> None:
        super().__init__()
        self._backbone, self._temperature = backbone, temperature
        self.image = backbone.module
        self.projector = torch.nn.Sequential(
            torch.nn.Linear(backbone.dim, backbone.dim, bias=False),
            torch.nn.BatchNorm1d(backbone.dim),
            torch.nn.ReLU(),
            torch.nn.Linear(backbone.dim, projection),
        )

    def loss(self, photos: torch.Tensor, targets: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """NT-Xent of two strong views; see `Objective.loss`."""
        del targets
        views = torch.cat([view(photos, self._backbone, STRONG, generator) for _ in range(2)])
        return nt_xent(self.projector(self.image(views)), self._temperature)


def build(backbone: Backbone, examples: Examples, settings: ObjectiveSettings) -> Objective:
    """See `training.objectives.ObjectiveModule`."""
    if len(examples) < 4:
        raise BadInput(f"self-supervised training needs at least 4 training photos, {len(examples)} given")
    return SelfSupervised(backbone, settings.projection, settings.temperature)


def nt_xent(projections: torch.Tensor, temperature: float) -> torch.Tensor:
    """Contrastive loss of (2B, P): row i and row i + B are views of one photo, all others are negatives."""
    with full_precision(projections.device):
        unit = functional.normalize(projections.float(), dim=1)
        scores = unit @ unit.T / temperature
        scores.fill_diagonal_(-torch.inf)
        partner = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
        return functional.cross_entropy(scores, partner)
