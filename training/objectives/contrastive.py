"""Photos and their titles: a photo shall be closer to its own title than to another one, and the other way round.

The loss is open_clip's own (`open_clip.ClipLoss`; Radford et al. 2021, "Learning Transferable Visual Models From
Natural Language Supervision", figure 3). Its temperature is learnt. A batch holds each title once: a second photo of
the same words would count as a mistake.
"""

from __future__ import annotations

import math

import open_clip
import torch
from torch.nn import functional

from training.objectives import Examples, Objective, ObjectiveSettings, full_precision
from training.objectives._views import MILD, view
from vitrine.errors import BadInput
from vitrine.ports import Backbone, TextTower
from vitrine.tokenize import load_tokenizer

NEEDS_TITLES = True

_SHARPEST = math.log(100)
"""Largest log of the scale, as in CLIP: beyond it training becomes unstable."""


class Contrastive(Objective):
    """Both towers and the temperature; targets are token ids int64 (N, L)."""

    def __init__(self, backbone: Backbone, text: TextTower, titles: tuple[str, ...], temperature: float) -> None:
        super().__init__()
        self._backbone, self._loss = backbone, open_clip.ClipLoss()
        self.targets = torch.from_numpy(load_tokenizer(text.tokenizer).encode(titles))
        self.keys = torch.unique(self.targets, dim=0, return_inverse=True)[1]
        self.image, self.text = backbone.module, text.module
        self.log_scale = torch.nn.Parameter(torch.tensor(-math.log(temperature)))

    def loss(self, photos: torch.Tensor, targets: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """ClipLoss of one mild view and the title of each photo; see `Objective.loss`."""
        towers = self.image(view(photos, self._backbone, MILD, generator)), self.text(targets)
        with full_precision(photos.device):
            sides = [functional.normalize(features.float(), dim=1) for features in towers]
            loss: torch.Tensor = self._loss(*sides, self.log_scale.clamp(max=_SHARPEST).exp())
            return loss


def build(backbone: Backbone, examples: Examples, settings: ObjectiveSettings) -> Objective:
    """See `training.objectives.ObjectiveModule`."""
    if backbone.text is None:
        raise BadInput(
            "contrastive training needs a backbone that reads titles, such as one of the family open-clip; "
            "this one has no text tower: use the objective supervised or self-supervised"
        )
    if not all(examples.titles):
        lacking = sum(not title for title in examples.titles)
        raise BadInput(f"contrastive training needs a title for every photo; {lacking} of {len(examples)} have none")
    distinct = len(set(examples.titles))
    if distinct < 2:
        raise BadInput(f"contrastive training tells titles apart; the training photos have {distinct} title")
    return Contrastive(backbone, backbone.text, examples.titles, settings.temperature)
