"""How a training goes: its numbers, the learning rate of every step, the precision of the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vitrine.errors import BadInput

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Recipe:
    """Numbers of a training; see `training.settings.FullSettings`."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    seed: int
    accumulate: int = 1
    warmup: float = 0.1
    precision: str = "auto"
    patience: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can follow."""
        for name, least in (("epochs", 1), ("batch_size", 2), ("accumulate", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"{name} is {getattr(self, name)}, it must be at least {least}", field=name)
        if not self.lr > 0:
            raise BadInput(f"lr is {self.lr}, it must be above 0", field="lr")
        if not 0 <= self.warmup < 1:
            raise BadInput(f"warmup is {self.warmup}, it is a share of the steps: from 0 to below 1", field="warmup")


def resolve_precision(wanted: str) -> str:
    """`auto`, `fp32`, `bf16` or `fp16` in Lightning's words, `auto` by what the device can do.

    Raises:
        BadInput: another word, or fp16 without a GPU.
    """
    gpu = torch.cuda.is_available()
    if wanted == "auto":
        wanted = "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    if wanted not in _PRECISIONS:
        raise BadInput(f"precision is {wanted!r}; it is one of auto, {', '.join(_PRECISIONS)}", field="precision")
    if wanted == "fp16" and not gpu:
        raise BadInput("precision fp16 needs an NVIDIA GPU, there is none here; use auto or fp32", field="precision")
    return _PRECISIONS[wanted]


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the full rate at a step: a straight rise over the first `warmup` of all steps, then half a cosine."""
    warm = max(1, round(steps * warmup))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
