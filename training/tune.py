"""Stage `tune`: one cell becomes a version bundle: head or network trained, graphs exported, parity checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training import settings as params
from training import tuning
from training.backbone import BACKBONES, load_backbone
from training.checkpoints import CHECKPOINTS, discard
from training.costs import measure
from training.features import FEATURES, load_features
from training.stage import run_stage, set_determinism
from vitrine.bundle import Bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import BadInput
from vitrine.export import export_version
from vitrine.manifest import Licences
from vitrine.progress import Track, bar

BUNDLES = Path("bundles")


def tune_cell(
    cell: params.Cell, chosen: params.Settings, target: Path, track: Track, checkpoints: Path | None = None
) -> tuple[Bundle, tuning.Tuned]:
    """Run the cell's strategy and export its result to `target`.

    Raises:
        BadInput: an override that the strategy has no setting for, or whatever the strategy refuses.
    """
    chosen = with_overrides(cell, chosen)
    folder = BACKBONES / cell.backbone
    backbone, spec, origin = load_backbone(folder)
    dataset = load_dataset(Path("data") / cell.dataset)
    features = load_features(FEATURES / f"{cell.backbone}--{cell.dataset}")
    tuned = tuning.load(cell.strategy).tune(
        tuning.Task(features, dataset, chosen, track, lambda: load_backbone(folder)[0], checkpoints)
    )
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
        tuned.backbone or backbone,
        texts=sorted({item.title for item in dataset.items if item.title.strip()})[: chosen.export.photos],
        photos=_sample(dataset, chosen.export.photos, chosen.seed),
        licences=Licences(spec.licence, dataset.licence),
        lineage=lineage,
        head=tuned.head,
        text_head=tuned.text_head,
        classifier=tuned.classifier,
    )
    return bundle, tuned


def with_overrides(cell: params.Cell, chosen: params.Settings) -> params.Settings:
    """The settings with the cell's own in place of its strategy's.

    Raises:
        BadInput: the strategy has no such setting, or none at all.
    """
    if not cell.overrides:
        return chosen
    section, where = getattr(chosen, cell.strategy, None), f"overrides of a {cell.strategy} cell"
    if section is None or not is_dataclass(section):
        raise BadInput(f"{where}: this strategy has no settings; remove {', '.join(cell.overrides)}", field="overrides")
    changed: Any = params.build(type(section), {**vars(section), **cell.overrides}, where)
    return replace(chosen, **{cell.strategy: changed})


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
        checkpoints = CHECKPOINTS / f"tune--{key}"
        bundle, tuned = tune_cell(cell, chosen, BUNDLES / key, track, checkpoints)
        cost.images, cost.parameters_trained, cost.device = tuned.samples, tuned.parameters_trained, tuned.device
        discard(checkpoints)
    print(f"{key}: {bundle.manifest.digest[:12]}, validation {dict(tuned.facts).get('val_mmp@5', 'not used')}")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.tune --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    _stage(parser.parse_args(arguments).cell, bar)


if __name__ == "__main__":
    run_stage(main)
