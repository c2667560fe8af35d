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
from training.costs import COSTS
from training.stage import run_stage
from vitrine.bundle import read_bundle
from vitrine.dataset import load_dataset
from vitrine.errors import Tampered
from vitrine.evaluation import Evaluation, record, write_evaluation
from vitrine.evaluator import evaluate_all
from vitrine.files import read_json, replacing_folder, write_json
from vitrine.home import Home, find_home
from vitrine.progress import Track, bar
from vitrine.registry import open_registry

EVALUATIONS = Path("work/evaluations")


def evaluate_cell(key: str, cell: params.Cell, threads: int, home: Home, track: Track) -> dict[str, Evaluation]:
    """Measure, write `work/evaluations/CELL/` whole, and record in the registry what is not there yet."""
    registered = read_json(Path("work/registered") / f"{key}.json", "registered version")
    bundle = read_bundle(Path("bundles") / key)
    if bundle.manifest.digest != registered["digest"]:
        raise Tampered(f"bundles/{key} is not the version that was registered; run: dvc repro register@{key}")
    found = evaluate_all(bundle, load_dataset(Path("data") / cell.dataset), threads=threads, track=track)
    timings = {stem: evaluation.details.get("timing", {}) for stem, evaluation in found.items()}
    lasting = {stem: without_timing(evaluation) for stem, evaluation in found.items()}
    identity = (registered["model"], registered["version"], registered["digest"])
    registry = open_registry(home)
    with replacing_folder(EVALUATIONS / key) as folder:
        for stem, evaluation in lasting.items():
            write_evaluation(folder, stem, evaluation, *identity)
    for stem, evaluation in lasting.items():  # after the files are in place: events never lack them
        record(registry, *identity[:2], evaluation, EVALUATIONS / key / f"{stem}.parquet", "pipeline")
    write_json(
        COSTS / f"evaluate--{key}.json", {"stage": "evaluate", "cell": key, **_seconds(timings), "timing": timings}
    )
    return lasting


def without_timing(evaluation: Evaluation) -> Evaluation:
    """The same evaluation less how long it took."""
    details = {name: value for name, value in evaluation.details.items() if name != "timing"}
    return dataclasses.replace(evaluation, details=details)


def _seconds(timings: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Embedding is done once for all protocols; what is left is searching."""
    first = next(iter(timings.values()), {})
    seconds = float(first.get("embed_seconds", 0.0))
    photos = float(first.get("photos", 0))
    return {"seconds": round(seconds, 3), "images_per_s": round(photos / seconds, 1) if seconds else 0.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.evaluate --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    key = parser.parse_args(arguments).cell
    chosen = params.load_settings()
    found = evaluate_cell(key, params.pick(chosen.cells, key, "cells"), chosen.threads, find_home(), bar)
    for stem, evaluation in found.items():
        print(f"{stem}: mmp@5 {evaluation.metrics.get('mmp@5', float('nan')):.4f} over {evaluation.queries} queries")


if __name__ == "__main__":
    run_stage(main)
