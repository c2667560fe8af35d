"""Stage `evaluate`: a registered version on its dataset, by every protocol, exactly and through Qdrant.

Durations differ from run to run, so they go to work/costs/ and not into files that others depend on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training import settings as params
from training.costs import Cost, measure
from training.stage import run_stage
from vitrine.bundle import Bundle, read_bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import Tampered
from vitrine.evaluation import Evaluation, record, write_evaluation
from vitrine.evaluator import evaluate_all
from vitrine.files import read_json, replacing_folder
from vitrine.home import Home, find_home
from vitrine.leakage import training_dataset
from vitrine.progress import Track, bar
from vitrine.registry import open_registry

EVALUATIONS = Path("work/evaluations")


def evaluate_cell(key: str, cell: params.Cell, threads: int, home: Home, track: Track) -> dict[str, Evaluation]:
    """Measure the cell's version on its own dataset; see `evaluate_version`."""
    registered = read_json(Path("work/registered") / f"{key}.json", "registered version")
    bundle, dataset = read_bundle(Path("bundles") / key), load_dataset(Path("data") / cell.dataset)
    return evaluate_version(key, bundle, registered, dataset, threads, home, track)


def evaluate_version(
    key: str,
    bundle: Bundle,
    registered: Mapping[str, Any],
    dataset: Dataset,
    threads: int,
    home: Home,
    track: Track,
) -> dict[str, Evaluation]:
    """Measure, write `work/evaluations/KEY/` whole, and record in the registry what is not there yet.

    Returns:
        The evaluations by file stem, with how long each took.

    Raises:
        Tampered: the bundle is not what was registered.
    """
    if bundle.manifest.digest != registered["digest"]:
        raise Tampered(
            f"bundles/{registered['cell']} is not the version that was registered; "
            f"run: dvc repro register@{registered['cell']}"
        )
    trained_on = training_dataset(bundle.lineage, dataset, lambda name: load_dataset(Path("data") / name))
    found = evaluate_all(bundle, dataset, threads=threads, trained_on=trained_on, track=track)
    lasting = {stem: without_timing(evaluation) for stem, evaluation in found.items()}
    identity = (registered["model"], registered["version"], registered["digest"])
    registry = open_registry(home)
    with replacing_folder(EVALUATIONS / key) as folder:
        for stem, evaluation in lasting.items():
            write_evaluation(folder, stem, evaluation, *identity)
    for stem, evaluation in lasting.items():  # after the files are in place: events never lack them
        record(registry, *identity[:2], evaluation, EVALUATIONS / key / f"{stem}.parquet", "pipeline")
    return found


def without_timing(evaluation: Evaluation) -> Evaluation:
    """The same evaluation less how long it took."""
    details = {name: value for name, value in evaluation.details.items() if name != "timing"}
    return dataclasses.replace(evaluation, details=details)


def report_cost(cost: Cost, found: Mapping[str, Evaluation]) -> None:
    """The speed is that of embedding, done once for all protocols; what is left is searching."""
    cost.timing = {stem: evaluation.details.get("timing", {}) for stem, evaluation in found.items()}
    first: Mapping[str, Any] = next(iter(cost.timing.values()), {})
    cost.images = int(first.get("photos", 0))
    cost.image_seconds = float(first.get("embed_seconds", 0.0)) or None


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.evaluate --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    key = parser.parse_args(arguments).cell
    chosen = params.load_settings()
    cell = params.pick(chosen.cells, key, "cells")
    with measure("evaluate", key) as cost:
        found = evaluate_cell(key, cell, chosen.threads, find_home(), bar)
        report_cost(cost, found)
    for stem, evaluation in found.items():
        print(f"{stem}: mmp@5 {evaluation.metrics.get('mmp@5', float('nan')):.4f} over {evaluation.queries} queries")


if __name__ == "__main__":
    run_stage(main)
