"""Where a training stands, on disk after every epoch: safetensors and JSON, so that nothing is unpickled.

FOLDER/epoch-0007/weights.safetensors     networks and added parameters, as they are
FOLDER/epoch-0007/best.safetensors        those of the best epoch so far, where that is another one
FOLDER/epoch-0007/optimiser.safetensors   moments of the optimiser, `PARAMETER.NAME`
FOLDER/epoch-0007/state.json              epoch, losses, scores, and the fingerprint of everything that decides them

Chance needs no state: every epoch draws from a seed of its own (`training.fitting`).
"""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vitrine.errors import VitrineError
from vitrine.files import read_json, write_json

CHECKPOINTS = Path("work/checkpoints")
Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """A training after `epoch` whole epochs.

    Attributes:
        losses, scores: one an epoch; `scores` is empty where nothing is scored.
        best_epoch: 1 is the first, 0 where nothing is scored.
        best: weights of the best epoch; None where they are `weights`.
        scaler: of the loss in fp16.
    """

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = 0
    weights: Tensors = field(default_factory=dict)
    best: Tensors | None = None
    optimiser: Tensors = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training; with `folder=None` nothing is kept."""

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint

    def load(self) -> State:
        """The newest whole checkpoint of this training; a fresh state where there is none."""
        for path in reversed(self._whole()):
            try:
                facts = read_json(path / "state.json", "checkpoint")
                if facts.pop("fingerprint") == self._fingerprint:
                    return State(**facts, **_tensors(path))
                _say(f"the checkpoint in {path} is of other settings, data or weights and is not continued")
            except (VitrineError, SafetensorError, OSError, KeyError, TypeError) as error:
                _say(f"the checkpoint in {path} cannot be read and is not continued: {error}")
        return State()

    def save(self, state: State) -> None:
        """Write a checkpoint whole, under a name that no other has, and then remove the older ones."""
        if self._folder is None:
            return
        older = self._whole()
        temporary = self._folder / f".{secrets.token_hex(4)}"
        temporary.mkdir(parents=True)
        for name in ("weights", "best", "optimiser"):
            if getattr(state, name) is not None:
                save_file(getattr(state, name), temporary / f"{name}.safetensors")
        facts = {name: getattr(state, name) for name in ("epoch", "losses", "scores", "best_epoch", "scaler")}
        write_json(temporary / "state.json", {**facts, "fingerprint": self._fingerprint})
        target = self._folder / f"epoch-{state.epoch:04}"
        shutil.rmtree(target, ignore_errors=True)  # of other settings, or `load` would have continued from it
        temporary.rename(target)
        for path in older:
            if path != target:
                shutil.rmtree(path)

    def _whole(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*")) if self._folder else []


def discard(folder: Path) -> None:
    """Remove a training's checkpoints: its result is whole."""
    shutil.rmtree(folder, ignore_errors=True)


def snapshot(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Copies in main memory, no two of which share it: what safetensors can write."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _tensors(path: Path) -> dict[str, Any]:
    files = {name: path / f"{name}.safetensors" for name in ("weights", "best", "optimiser")}
    return {name: load_file(file) for name, file in files.items() if file.is_file()}


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
