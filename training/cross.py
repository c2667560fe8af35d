"""Stage `cross`: a version tuned on X as a version for catalogue Y, and evaluated there. Nothing is trained.

It is the same content, so the same digest, and no file is copied; what is new is a fact: under the
model of Y, with a lineage that says where it was tuned. Promoting it makes Y searchable with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import settings as params
from training.costs import measure
from training.evaluate import evaluate_version, report_cost
from training.register import REGISTERED, model_name, register_version
from training.stage import run_stage
from vitrine.bundle import read_bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.files import read_json
from vitrine.home import Home, find_home
from vitrine.progress import bar

STRATEGY = "cross"


def register_cross(key: str, cross: params.Cross, cell: params.Cell, dataset: Dataset, home: Home) -> dict[str, Any]:
    """Register the cell's content under the model of the cross's dataset; writes `work/registered/KEY.json`."""
    tuned = read_json(REGISTERED / f"{cross.cell}.json", "registered version")
    facts = cross_lineage(tuned, dataset)
    return register_version(key, cross.cell, model_name(cell, cross.dataset), home, facts)


def cross_lineage(tuned: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """What differs from the lineage of the tuned version: `dataset` is now what it is for."""
    origin = tuned["lineage"]
    return {
        "strategy": STRATEGY,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "tuned_strategy": origin["strategy"],
        "tuned_on": origin["dataset"],
        "tuned_on_digest": origin["dataset_digest"],
        "tuned_as": f"{tuned['model']}@{tuned['version']}",
    }


def _stage(key: str) -> None:
    chosen = params.load_settings()
    cross = params.pick(chosen.crosses, key, "crosses")
    home, dataset = find_home(), load_dataset(Path("data") / cross.dataset)
    with measure("cross", key) as cost:
        record = register_cross(key, cross, chosen.cells[cross.cell], dataset, home)
        bundle = read_bundle(Path("bundles") / cross.cell)
        found = evaluate_version(key, bundle, record, dataset, chosen.threads, home, bar)
        report_cost(cost, found)
    value = found["exact"].metrics.get("mmp@5") if "exact" in found else None
    print(f"{key} is {record['model']}@{record['version']}, tuned as {record['lineage']['tuned_as']}: mmp@5 {value}")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.cross --cross STRATEGY--BACKBONE--DATASET--on--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cross", required=True)
    _stage(parser.parse_args(arguments).cross)


if __name__ == "__main__":
    run_stage(main)
