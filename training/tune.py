"""Stage `tune`: one cell becomes a version bundle: head trained, graph exported, parity checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training import settings as params
from training import tuning
from training.backbone import BACKBONES, load_backbone
from training.costs import measure
from training.features import FEATURES, load_features
from training.stage import run_stage, set_determinism
from vitrine.bundle import Bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.export import export_version
from vitrine.manifest import Licences
from vitrine.progress import Track, bar

BUNDLES = Path("bundles")


def tune_cell(cell: params.Cell, chosen: params.Settings, target: Path, track: Track) -> tuple[Bundle, tuning.Tuned]:
    """Run the cell's strategy and export its result to `target`."""
    backbone, spec, origin = load_backbone(BACKBONES / cell.backbone)
    dataset = load_dataset(Path("data") / cell.dataset)
    features = load_features(FEATURES / f"{cell.backbone}--{cell.dataset}")
    tuned = tuning.load(cell.strategy).tune(tuning.Task(features, dataset, chosen, track))
    lineage = {
        "strategy": cell.strategy,
        "backbone": cell.backbone,
        "family": spec.family,
        "architecture": spec.architecture,
        "origin": origin,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "seed": chosen.seed,
        "threads": chosen.threads,
        "tuning": dict(tuned.facts),
    }
    bundle = export_version(
        target,
        backbone,
        photos=_sample(dataset, chosen.export.photos, chosen.seed),
        licences=Licences(spec.licence, dataset.licence),
        lineage=lineage,
        head=tuned.head,
        classifier=tuned.classifier,
    )
    return bundle, tuned


def _sample(dataset: Dataset, count: int, seed: int) -> list[bytes]:
    """Photos that the exported graph is compared with torch on: a seeded sample of the whole dataset."""
    names = sorted({image for item in dataset.items for image in item.images})
    rows = np.random.default_rng(seed).permutation(len(names))[:count]
    return [dataset.photo(names[row]) for row in rows]


def _stage(key: str, track: Track) -> None:
    chosen = params.load_settings()
    cell = params.pick(chosen.cells, key, "cells")
    set_determinism(chosen.seed, chosen.threads)
    with measure("tune", key) as cost:
        bundle, tuned = tune_cell(cell, chosen, BUNDLES / key, track)
        cost.images, cost.parameters_trained = tuned.samples, tuned.parameters_trained
    print(f"{key}: {bundle.manifest.digest[:12]}, validation {dict(tuned.facts).get('val_mmp@5', 'not used')}")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.tune --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    _stage(parser.parse_args(arguments).cell, bar)


if __name__ == "__main__":
    run_stage(main)
