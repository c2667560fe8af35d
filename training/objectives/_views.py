"""Random views of photos, a batch at a time: tensor operations on the device, chance from one CPU generator.

A processor core then trains instead of decoding, and the same seed gives the same views everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from vitrine.ports import Backbone


@dataclass(frozen=True)
class Strength:
    """How far a view may be from its photo.

    Attributes:
        area: smallest share of the photo that is seen.
        turn: largest rotation in degrees, either way.
        light: brightness, contrast and saturation change by factors in 1 - light to 1 + light.
        recolour: share of views with swapped channels.
        grey: share of views without colour.
    """

    area: float
    turn: float
    light: float
    recolour: float = 0.0
    grey: float = 0.0


MILD = Strength(area=0.4, turn=8, light=0.25)
"""For labels and titles: a view must still be what it is called, its colour included."""

STRONG = Strength(area=0.25, turn=15, light=0.4, recolour=0.5, grey=0.2)
"""For photos alone. A category is a shape more than a colour: without swaps a small network learns colours alone."""


def view(photos: torch.Tensor, backbone: Backbone, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """One random view each of `uint8 (B, 3, S, S)`: float32 (B, 3, H, W), normalised for the backbone."""
    scaled = photos.to(torch.float32) / 255.0
    views = _crop(scaled, (backbone.image.height, backbone.image.width), strength, generator)
    return _standardise(_light(views, strength, generator), backbone)


def plain(photos: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """`uint8 (B, 3, H, W)` as the backbone sees them when it serves: float32, normalised."""
    return _standardise(photos.to(torch.float32) / 255.0, backbone)


def _standardise(pixels: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std)
    )
    return (pixels - mean) / std


def _crop(photos: torch.Tensor, size: tuple[int, int], strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """Part of the area, aspect 3:4 to 4:3, turned a little, mirrored half the time; one resampling does all of it."""
    count, most = len(photos), math.radians(strength.turn)
    area = _uniform(count, strength.area, 1.0, generator)
    aspect = torch.exp(_uniform(count, math.log(3 / 4), math.log(4 / 3), generator))
    across = (area * aspect).sqrt().clamp(max=1.0)
    down = (area / aspect).sqrt().clamp(max=1.0)
    mirror = torch.where(_uniform(count, 0, 1, generator) < 0.5, -1.0, 1.0)
    turn = _uniform(count, -most, most, generator)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = across * mirror * turn.cos(), -down * turn.sin()
    theta[:, 1, 0], theta[:, 1, 1] = across * mirror * turn.sin(), down * turn.cos()
    theta[:, 0, 2] = (1 - across) * _uniform(count, -1, 1, generator)
    theta[:, 1, 2] = (1 - down) * _uniform(count, -1, 1, generator)
    grid = functional.affine_grid(theta.to(photos.device), [count, 3, *size], align_corners=False)
    return functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)


def _light(views: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """Other light (brightness, contrast, tint), other colours (saturation, swapped channels), now and then none."""
    count = len(views)

    def factor(low: float, high: float) -> torch.Tensor:
        return _uniform(count, low, high, generator).view(-1, 1, 1, 1).to(views.device)

    low, high = 1 - strength.light, 1 + strength.light
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    order = torch.where(_uniform(count, 0, 1, generator)[:, None] < strength.recolour, order, torch.arange(3))
    views = views.gather(1, order.to(views.device).view(-1, 3, 1, 1).expand_as(views)) * factor(low, high)
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    views = middle + (views - middle) * factor(low, high)
    grey = views.mean(dim=1, keepdim=True)
    saturation = torch.where(factor(0, 1) < strength.grey, 0.0, factor(low, high))
    tint = 1 + 0.1 * (torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1).to(views.device)
    return ((grey + (views - grey) * saturation) * tint).clamp(0, 1)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
