"""A backbone from unlabelled photos: two random views of a photo shall be closer than two photos.

The loss is NT-Xent over a batch (SimCLR). Photos are decoded once; views are made from them by
batched tensor operations, so two processor cores train instead of decoding. The whole run follows
from the seed and the thread count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from vitrine.errors import BadInput
from vitrine.ports import Backbone
from vitrine.progress import Track, quiet

_TURN = math.radians(15)
# A category is a shape more than a colour: without these a small network learns colours alone.
_RECOLOUR, _GREY = 0.5, 0.2


@dataclass(frozen=True)
class Recipe:
    """Numbers of a run; see `training.settings.TrainedBackbone`."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    temperature: float
    projection: int
    seed: int


def train(backbone: Backbone, photos: torch.Tensor, recipe: Recipe, track: Track = quiet) -> list[float]:
    """Train `backbone.module` in place on `uint8 (N, 3, S, S)` photos; the mean loss of each epoch.

    Raises:
        BadInput: fewer photos than make one pair of negatives.
    """
    if len(photos) < 4:
        raise BadInput(f"self-supervised training needs at least 4 training photos, {len(photos)} given")
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    projector = _projector(backbone.dim, recipe.projection)
    model = torch.nn.Sequential(backbone.module, projector).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    batch = min(recipe.batch_size, len(photos))
    schedule = _schedule(optimiser, recipe.epochs * (len(photos) // batch))
    losses = [
        _epoch(model, backbone, photos, batch, recipe.temperature, optimiser, schedule, generator)
        for _ in track(range(recipe.epochs), "training the backbone", recipe.epochs)
    ]
    backbone.module.eval()
    return losses


def _epoch(
    model: torch.nn.Module,
    backbone: Backbone,
    photos: torch.Tensor,
    batch: int,
    temperature: float,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> float:
    total, steps = 0.0, 0
    for rows in _batches(len(photos), batch, generator):
        views = torch.cat([augment(photos[rows], backbone, generator) for _ in range(2)])
        loss = nt_xent(model(views), temperature)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
        total, steps = total + loss.item(), steps + 1
    return round(total / steps, 5)


def nt_xent(projections: torch.Tensor, temperature: float) -> torch.Tensor:
    """Contrastive loss of (2B, P): row i and row i + B are views of one photo, all others are negatives."""
    unit = functional.normalize(projections, dim=1)
    scores = unit @ unit.T / temperature
    scores.fill_diagonal_(-torch.inf)
    half = len(unit) // 2
    partner = torch.cat([torch.arange(half, 2 * half), torch.arange(half)])
    return functional.cross_entropy(scores, partner)


def augment(photos: torch.Tensor, backbone: Backbone, generator: torch.Generator) -> torch.Tensor:
    """One random view each of `uint8 (B, 3, S, S)`: float32 (B, 3, H, W), normalised for the backbone."""
    scaled = photos.to(torch.float32) / 255.0
    views = _colours(_crops(scaled, backbone.image.height, backbone.image.width, generator), generator)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return (views - mean) / std


def _crops(photos: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Random part of 25 % to 100 % of the area, aspect 3:4 to 4:3, turned by up to 15 degrees, mirrored half the time."""
    count = len(photos)
    area = _uniform(count, 0.25, 1.0, generator)
    aspect = torch.exp(_uniform(count, math.log(3 / 4), math.log(4 / 3), generator))
    across = (area * aspect).sqrt().clamp(max=1.0)
    down = (area / aspect).sqrt().clamp(max=1.0)
    mirror = torch.where(_uniform(count, 0, 1, generator) < 0.5, -1.0, 1.0)
    turn = _uniform(count, -_TURN, _TURN, generator)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = across * mirror * turn.cos(), -down * turn.sin()
    theta[:, 1, 0], theta[:, 1, 1] = across * mirror * turn.sin(), down * turn.cos()
    theta[:, 0, 2] = (1 - across) * _uniform(count, -1, 1, generator)
    theta[:, 1, 2] = (1 - down) * _uniform(count, -1, 1, generator)
    grid = functional.affine_grid(theta, [count, 3, height, width], align_corners=False)
    return functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)


def _colours(views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Other light (brightness, contrast, tint), other colours (saturation, swapped channels), now and then none."""
    count = len(views)

    def factor(low: float, high: float) -> torch.Tensor:
        return _uniform(count, low, high, generator).view(-1, 1, 1, 1)

    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    order = torch.where(_uniform(count, 0, 1, generator)[:, None] < _RECOLOUR, order, torch.arange(3))
    views = views.gather(1, order.view(-1, 3, 1, 1).expand_as(views)) * factor(0.6, 1.4)
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    views = middle + (views - middle) * factor(0.6, 1.4)
    grey = views.mean(dim=1, keepdim=True)
    saturation = torch.where(factor(0, 1) < _GREY, 0.0, factor(0.6, 1.4))
    tint = 1 + 0.1 * (torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1)
    return ((grey + (views - grey) * saturation) * tint).clamp(0, 1)


def _projector(dim: int, width: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(dim, dim, bias=False), torch.nn.BatchNorm1d(dim), torch.nn.ReLU(), torch.nn.Linear(dim, width)
    )


def _schedule(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A tenth of the steps to warm up, then half a cosine down to zero."""
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        return (
            (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        )

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _batches(count: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Whole batches in random order; the rest waits for another epoch's order."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - batch + 1, batch):
        yield order[start : start + batch]


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
