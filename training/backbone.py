"""Stages `backbone` and `fetch`: a network with its weights as one folder, trained here or fetched.

work/backbones/NAME/weights.safetensors   everything but code; of both towers where it reads text
work/backbones/NAME/tokenizer.json        where it reads text
work/backbones/NAME/backbone.json         spec (weights relative to the folder) and how it came about
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import save_file

from training import objectives
from training import settings as params
from training.checkpoints import CHECKPOINTS, discard, snapshot
from training.costs import measure
from training.fetching import fetch_backbone
from training.fitting import Fitted, fit
from training.photos import Photos, roomy
from training.recipe import Recipe
from training.stage import run_stage, set_determinism
from vitrine import plugins
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import BadInput
from vitrine.files import read_json, replacing_folder, write_atomic, write_json
from vitrine.images import ImageSpec
from vitrine.ports import Backbone, BackboneSpec
from vitrine.progress import Track, bar, quiet

BACKBONES = Path("work/backbones")
WEIGHTS, TOKENIZER = "weights.safetensors", "tokenizer.json"
T = TypeVar("T")


def load_backbone(folder: Path) -> tuple[Backbone, BackboneSpec, dict[str, Any]]:
    """The network in a backbone folder, its spec, and how it came about."""
    raw = read_json(folder / "backbone.json", "backbone")
    spec = BackboneSpec(**{**raw["spec"], "weights": f"file:{folder / WEIGHTS}"})
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    # A file of weights does not say how photos are prepared, the tag that it was fetched by did.
    prepared = raw["preprocessing"]
    image = ImageSpec(**prepared["image"])
    backbone = replace(backbone, image=image, mean=tuple(prepared["mean"]), std=tuple(prepared["std"]))
    return backbone, spec, raw["origin"]


def train_backbone(
    chosen: params.TrainedBackbone,
    dataset: Dataset,
    seed: int,
    target: Path,
    track: Track = quiet,
    checkpoints: Path | None = None,
) -> tuple[Backbone, Fitted]:
    """Train from a random start on the dataset's training photos; the network and how it went.

    Raises:
        BadInput: an objective that needs labels, or photos, titles or a network that do not fit the objective.
    """
    spec = BackboneSpec(chosen.family, chosen.architecture, "random", chosen.image_size, dataset.licence)
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    kind = objectives.load(_label_free(chosen.objective))
    examples = objectives.examples_of(dataset.split("train"), titled=kind.NEEDS_TITLES)
    if not examples:
        which = "photos with a title" if kind.NEEDS_TITLES else "photos"
        raise BadInput(f"dataset {dataset.name} has no training {which} to train a backbone on")
    examples = examples.sample(chosen.max_photos, seed)
    torch.manual_seed(seed)
    objective = kind.build(backbone, examples, _take(objectives.ObjectiveSettings, chosen))
    recipe = _take(Recipe, chosen, seed=seed)
    photos = Photos(dataset, examples.images, roomy(backbone.image), track)
    context = {"dataset": dataset.digest, "photos": examples.images}
    what = "training the backbone"
    fitted = fit(objective, photos, recipe, context=context, checkpoints=checkpoints, track=track, what=what)
    origin = {
        "trained_on": dataset.name,
        "dataset_digest": dataset.digest,
        "objective": chosen.objective,
        "photos": len(photos),
        "recipe": asdict(chosen) | {"seed": seed},
        "losses": list(fitted.losses),
    }
    if backbone.text is not None and not kind.NEEDS_TITLES:
        backbone = replace(backbone, text=None)  # the photos have moved, the titles have not
    save_backbone(target, backbone, spec, origin)
    return backbone, fitted


def save_backbone(target: Path, backbone: Backbone, spec: BackboneSpec, origin: Mapping[str, Any]) -> None:
    """Write a backbone folder whole."""
    with replacing_folder(target) as folder:
        state = backbone.module.state_dict()
        if backbone.text is not None:
            state = {**state, **backbone.text.module.state_dict()}  # a family's own names, which never clash
            write_atomic(folder / TOKENIZER, backbone.text.tokenizer)
        save_file(snapshot(state), folder / WEIGHTS)
        write_json(
            folder / "backbone.json",
            {
                "spec": asdict(replace(spec, weights=f"file:{WEIGHTS}")),
                "dim": backbone.dim,
                "preprocessing": {"image": asdict(backbone.image), "mean": backbone.mean, "std": backbone.std},
                "origin": dict(origin),
            },
        )


def _label_free(objective: str) -> str:
    """The objective's own name, unless it needs labels: a backbone is trained without."""
    allowed = [name for name in objectives.names() if name != "supervised"]
    if objective not in allowed:
        raise BadInput(
            f"a backbone is trained without labels: its objective is one of {', '.join(allowed)}, not {objective!r}; "
            "labels are for the strategies full and top",
            field="objective",
        )
    return objective


def _take(cls: type[T], chosen: params.TrainedBackbone, **more: Any) -> T:
    """The settings that a value class has fields for."""
    wanted = {item.name for item in fields(cast("Any", cls))}
    return cls(**{key: value for key, value in vars(chosen).items() if key in wanted}, **more)


def _train_stage(name: str, track: Track) -> None:
    chosen = params.load_settings()
    recipe = params.pick(chosen.backbones.trained, name, "backbones.trained")
    set_determinism(chosen.seed, chosen.threads)
    with measure("backbone", name) as cost:
        dataset = load_dataset(Path("data") / recipe.dataset)
        checkpoints = CHECKPOINTS / f"backbone--{name}"
        _, fitted = train_backbone(recipe, dataset, chosen.seed, BACKBONES / name, track, checkpoints)
        cost.images, cost.parameters_trained, cost.device = fitted.images, fitted.parameters, fitted.device
        discard(checkpoints)


def _fetch_stage(name: str) -> None:
    chosen = params.load_settings()
    fetched = params.pick(chosen.backbones.fetched, name, "backbones.fetched")
    with measure("fetch", name):
        save_backbone(BACKBONES / name, *fetch_backbone(name, fetched, chosen.licences))


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.backbone --train NAME` or `--fetch NAME`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--train", metavar="NAME")
    which.add_argument("--fetch", metavar="NAME")
    given = parser.parse_args(arguments)
    if given.fetch:
        _fetch_stage(given.fetch)
    else:
        _train_stage(given.train, bar)
    print(json.dumps({"backbone": given.train or given.fetch}))


if __name__ == "__main__":
    run_stage(main)
