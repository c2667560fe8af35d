"""Stages `backbone` and `fetch`: a network with its weights as one folder, trained here or fetched.

work/backbones/NAME/weights.safetensors   everything but code
work/backbones/NAME/backbone.json         spec (weights relative to the folder) and how it came about
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from training import settings as params
from training.costs import measure
from training.selfsup import Recipe, train
from training.stage import run_stage, set_determinism
from vitrine import plugins
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import BadInput
from vitrine.files import read_json, replacing_folder, write_json
from vitrine.images import ImageSpec, decode
from vitrine.ports import Backbone, BackboneSpec
from vitrine.progress import Track, bar, quiet

BACKBONES = Path("work/backbones")
WEIGHTS = "weights.safetensors"


def load_backbone(folder: Path) -> tuple[Backbone, BackboneSpec, dict[str, Any]]:
    """The network in a backbone folder, its spec, and how it came about."""
    raw = read_json(folder / "backbone.json", "backbone")
    spec = BackboneSpec(**{**raw["spec"], "weights": f"file:{folder / WEIGHTS}"})
    return plugins.load("families", spec.family).load(spec), spec, raw["origin"]


def train_backbone(
    chosen: params.TrainedBackbone, dataset: Dataset, seed: int, target: Path, track: Track = quiet
) -> tuple[Backbone, int]:
    """Train from a random start on the dataset's training photos; the network and the photos it has seen."""
    spec = BackboneSpec(chosen.family, chosen.architecture, "random", chosen.image_size, dataset.licence)
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    names = sorted({image for item in dataset.split("train") for image in item.images})
    if not names:
        raise BadInput(f"dataset {dataset.name} has no training photos to train a backbone on")
    order = np.random.default_rng(seed).permutation(len(names))[: chosen.max_photos]
    photos = _decode_all(dataset, [names[i] for i in sorted(order)], _roomy(backbone.image), track)
    shared = set(Recipe.__dataclass_fields__) & set(params.TrainedBackbone.__dataclass_fields__)
    recipe = Recipe(**{key: getattr(chosen, key) for key in shared}, seed=seed)
    losses = train(backbone, photos, recipe, track)
    origin = {
        "trained_on": dataset.name,
        "dataset_digest": dataset.digest,
        "photos": len(photos),
        "recipe": asdict(recipe),
        "losses": losses,
    }
    save_backbone(target, backbone, spec, origin)
    return backbone, len(photos) * chosen.epochs


def save_backbone(target: Path, backbone: Backbone, spec: BackboneSpec, origin: Mapping[str, Any]) -> None:
    """Write a backbone folder whole."""
    with replacing_folder(target) as folder:
        state = {name: tensor.detach().clone().contiguous() for name, tensor in backbone.module.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        write_json(
            folder / "backbone.json",
            {"spec": asdict(replace(spec, weights=f"file:{WEIGHTS}")), "dim": backbone.dim, "origin": dict(origin)},
        )


def _roomy(image: ImageSpec) -> ImageSpec:
    """Decode a little larger than the network sees, so that a random crop keeps detail."""
    return replace(
        image, height=round(image.height * 1.25), width=round(image.width * 1.25), resize="squash", crop_fraction=1.0
    )


def _decode_all(dataset: Dataset, names: Sequence[str], image: ImageSpec, track: Track) -> torch.Tensor:
    """`uint8 (N, 3, H, W)` in the order of `names`."""
    read = partial(_decode_one, dataset, image)
    with ThreadPoolExecutor(2) as pool:
        pixels = np.stack(list(track(pool.map(read, names), "decoding", len(names))))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _decode_one(dataset: Dataset, image: ImageSpec, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return decode(dataset.photo(name), image)


def _train_stage(name: str, track: Track) -> None:
    chosen = params.load_settings()
    recipe = params.pick(chosen.backbones.trained, name, "backbones.trained")
    set_determinism(chosen.seed, chosen.threads)
    with measure("backbone", name) as cost:
        dataset = load_dataset(Path("data") / recipe.dataset)
        backbone, cost.images = train_backbone(recipe, dataset, chosen.seed, BACKBONES / name, track)
        cost.parameters_trained = sum(weight.numel() for weight in backbone.module.parameters())


def _fetch_stage(name: str) -> None:
    fetched = params.pick(params.load_settings().backbones.fetched, name, "backbones.fetched")
    spec = BackboneSpec(**asdict(fetched))
    backbone: Backbone = plugins.load("families", spec.family).load(spec)
    save_backbone(BACKBONES / name, backbone, spec, {"fetched": spec.weights})


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
