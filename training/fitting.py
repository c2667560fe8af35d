"""The one trainer of networks: any objective, through Lightning, resumable after every epoch.

AdamW; the learning rate rises over the first steps, then falls along half a cosine. Lightning brings precision,
accumulation and devices; checkpoints are our own (`training.checkpoints`), because Lightning's are pickles.
A resumed training ends with the very weights of an uninterrupted one: every epoch draws from its own seed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch

from training.batches import Batch, Batches, plan, seed_of
from training.checkpoints import Checkpoints, State, snapshot
from training.memory import keep_freed_memory
from training.objectives import Objective
from training.photos import Photos
from training.recipe import Recipe, learning_rate, resolve_precision
from vitrine.errors import BadInput
from vitrine.progress import Track, quiet

CLIP_NORM = 1.0
"""Longest gradient of a step, so that one odd batch cannot throw a small network out."""


@dataclass(frozen=True)
class Fitted:
    """How a training went. `losses` and `scores` have one number an epoch.

    Attributes:
        best_epoch: whose weights were kept, 1 is the first.
        images: photos that went through the network in this process, each pass counted.
        device: where; the name of the GPU, or cpu.
    """

    losses: tuple[float, ...]
    scores: tuple[float, ...]
    best_epoch: int
    images: int
    parameters: int
    device: str


def fit(
    objective: Objective,
    photos: Photos,
    recipe: Recipe,
    *,
    context: Mapping[str, Any] | None = None,
    checkpoints: Path | None = None,
    score: Callable[[], float] | None = None,
    track: Track = quiet,
    what: str = "training",
) -> Fitted:
    """Train `objective` in place; it ends in evaluation mode, in main memory, with the best epoch's weights.

    Row i of `photos` is example i of the objective. `context` is whatever else decides the result: a checkpoint in
    the folder `checkpoints` of another context is not continued. `score` is called after every epoch, with the network
    in evaluation mode; more is better, and without it the last epoch is kept.

    Raises:
        BadInput: a precision that this machine has not, fewer photos than a loss needs, or a loss that is no number.
    """
    precision = resolve_precision(recipe.precision)
    if len(photos) < objective.smallest:
        raise BadInput(f"a training needs at least {objective.smallest} photos, {len(photos)} given")
    parts = [recipe, dict(context or {}), precision, torch.get_num_threads(), torch.__version__]
    kept = Checkpoints(checkpoints, _fingerprint(objective, parts))
    run = _Run(objective.train(), photos, recipe, kept.load(), score)
    if run.goes_on:
        if run.first:
            print(f"{what} goes on after epoch {run.first} of {recipe.epochs}", file=sys.stderr)
        keep_freed_memory()
        with _quiet_lightning():
            _trainer(run, precision, _Keeper(run, kept, track, what)).fit(run)
    if run.state.best is not None:
        objective.load_state_dict(run.state.best)
    objective.eval()
    return run.fitted()


class _Run(lightning.LightningModule):
    """One training as Lightning drives it, `state` being where it stands."""

    def __init__(
        self,
        objective: Objective,
        photos: Photos,
        recipe: Recipe,
        state: State,
        score: Callable[[], float] | None,
    ) -> None:
        super().__init__()
        self.objective, self.photos, self.recipe, self.state, self.score = objective, photos, recipe, state, score
        if state.epoch:
            objective.load_state_dict(state.weights)
        self.first = state.epoch
        self.batches = len(self._plan(0))
        self.images, self.seen = 0, list[torch.Tensor]()
        self.where = "cpu"
        self.chance = torch.Generator()

    @property
    def goes_on(self) -> bool:
        """Whether there is another epoch to train."""
        state, patience = self.state, self.recipe.patience
        tired = bool(state.scores) and patience > 0 and state.epoch - state.best_epoch >= patience
        return state.epoch < self.recipe.epochs and not tired

    def train_dataloader(self) -> Batches:
        """The batches of the epoch that begins."""
        return Batches(self.photos, self.objective.targets, self._plan(self.first + self.current_epoch))

    def configure_optimizers(self) -> Any:
        """AdamW as it stood, and the rate of every step; norms, biases and scales do not decay."""
        weights = [weight for weight in self.objective.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=self.recipe.lr)
        _restore(optimiser, self.state.optimiser)
        an_epoch = math.ceil(self.batches / self.recipe.accumulate)
        done, steps = self.first * an_epoch, self.recipe.epochs * an_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate(done + step, steps, self.recipe.warmup)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Chance of this epoch alone: views from the generator, dropout from torch's own."""
        seed = seed_of(self.recipe.seed, self.first + self.current_epoch)
        self.chance.manual_seed(seed)
        torch.manual_seed(seed)
        self.seen.clear()

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """The loss of one batch."""
        photos, targets = batch
        self.images += len(photos) * self.objective.passes
        loss = self.objective.loss(photos, targets, self.chance)
        self.seen.append(loss.detach())
        return loss

    def close_epoch(self) -> None:
        """Losses, scores and weights of the epoch that ends go into `state`."""
        state, recipe = self.state, self.recipe
        state.epoch += 1
        loss = round(float(torch.stack(self.seen).double().mean()), 5)
        if not math.isfinite(loss):
            raise BadInput(
                f"the loss of epoch {state.epoch} is {loss}; a smaller lr than {recipe.lr} may help", field="lr"
            )
        state.losses.append(loss)
        previous, state.weights = state.weights, snapshot(self.objective.state_dict())
        if self.score is None:
            return
        self.objective.eval()
        state.scores.append(round(self.score(), 5))
        self.objective.train()
        if state.scores[-1] >= max(state.scores):  # of equals the later one, which has learnt more
            state.best_epoch, state.best = state.epoch, None
        elif state.best_epoch == state.epoch - 1:
            state.best = previous

    def fitted(self) -> Fitted:
        """The result."""
        state = self.state
        trained = sum(weight.numel() for weight in self.objective.parameters() if weight.requires_grad)
        best = state.best_epoch or state.epoch
        return Fitted(tuple(state.losses), tuple(state.scores), best, self.images, trained, self.where)

    def _plan(self, epoch: int) -> list[torch.Tensor]:
        chance = torch.Generator().manual_seed(seed_of(self.recipe.seed, epoch))
        return plan(len(self.photos), self.recipe.batch_size, self.objective.smallest, self.objective.keys, chance)


class _Keeper(lightning.Callback):
    """Tells how far the training is, and closes and keeps every epoch."""

    def __init__(self, run: _Run, kept: Checkpoints, track: Track, what: str) -> None:
        left = (run.recipe.epochs - run.first) * run.batches
        self._kept, self._steps = kept, iter(track(range(left), what, left))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Where it runs."""
        device = trainer.strategy.root_device
        pl_module.where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
        if pl_module.state.scaler:
            trainer.precision_plugin.load_state_dict(dict(pl_module.state.scaler))

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """One step further."""
        next(self._steps, None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Score, keep, and stop where no better epoch is to be expected."""
        pl_module.close_epoch()
        pl_module.state.optimiser = _moments(trainer.optimizers[0])
        pl_module.state.scaler = trainer.precision_plugin.state_dict()
        self._kept.save(pl_module.state)
        trainer.should_stop = not pl_module.goes_on

    def on_train_end(self, *_: Any) -> None:
        """Let the bar end."""
        next(self._steps, None)


def _trainer(run: _Run, precision: str, keeper: _Keeper) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,  # type: ignore[arg-type]  # a string of ours, one of Lightning's literals
        max_epochs=run.recipe.epochs - run.first,
        accumulate_grad_batches=run.recipe.accumulate,
        gradient_clip_val=CLIP_NORM,
        deterministic=True,
        reload_dataloaders_every_n_epochs=1,  # an epoch has its own order
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeper],
    )


def _moments(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimiser.state_dict()["state"]
    return snapshot({f"{place}.{name}": value for place, values in state.items() for name, value in values.items()})


def _restore(optimiser: torch.optim.Optimizer, moments: Mapping[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _fingerprint(objective: Objective, parts: list[Any]) -> str:
    """Everything that decides the result: starting weights, targets, and `parts`."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode())
    tensors = dict(objective.state_dict())
    if objective.targets is not None:
        tensors["targets"] = objective.targets
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning tells what devices there are and warns about loaders; the pipeline's own words are enough."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
