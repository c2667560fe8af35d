"""Stage `register`: a bundle becomes a version; its number is written down and survives a lost registry.

Writing to the registry is a side effect that DVC does not see. So it is idempotent: the same content
is the same version, and numbers that were written down once are restored first (`vitrine.sync`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training import settings as params
from training.costs import measure
from training.stage import run_stage
from vitrine.bundle import read_bundle
from vitrine.files import write_json
from vitrine.home import Home, find_home
from vitrine.lineage import collect_lineage
from vitrine.registry import open_registry
from vitrine.sync import recorded_numbers, sync

REGISTERED = Path("work/registered")


def model_name(cell: params.Cell, dataset: str | None = None) -> str:
    """The model that the cell becomes a version of, on its own dataset or crossed to another one.

    `DATASET-search`, or what the cell names; crossed, its dataset's name in front is exchanged
    (`homeware-text` on fashion: `fashion-text`), a name without it gets the other's in front.
    """
    name = cell.model or f"{cell.dataset}-search"
    if dataset is None:
        return name
    return f"{dataset}-{name.removeprefix(f'{cell.dataset}-')}"


def register_cell(key: str, cell: params.Cell, home: Home, root: Path = Path()) -> dict[str, Any]:
    """Register the cell's bundle and write `work/registered/CELL.json` under `root`."""
    return register_version(key, key, model_name(cell), home, {}, root)


def register_version(
    key: str, cell: str, model: str, home: Home, facts: Mapping[str, Any], root: Path = Path()
) -> dict[str, Any]:
    """Make `bundles/CELL` a version of `model` and write `work/registered/KEY.json`.

    `facts` is lineage that differs from the bundle's own, as a cross's does; `key` names the file, `cell` the bundle.
    """
    registry = open_registry(home)
    sync(registry, root)
    bundle = read_bundle(root / "bundles" / cell)
    lasting = {**bundle.lineage, **facts}  # not commit or libraries: they would make later stages run again
    lineage = {**collect_lineage(root), **facts, "cell": key}
    event = registry.register(
        model, bundle, above=recorded_numbers(root).get(model, 0), lineage=lineage, why="pipeline"
    )
    record = {
        "model": event.model,
        "version": event.version,
        "digest": event.digest,
        "cell": cell,
        "lineage": lasting,
    }
    write_json(root / REGISTERED / f"{key}.json", record)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.register --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    key = parser.parse_args(arguments).cell
    cell = params.pick(params.load_settings().cells, key, "cells")
    with measure("register", key):
        record = register_cell(key, cell, find_home())
    print(f"{key} is {record['model']}@{record['version']} ({record['digest'][:12]})")


if __name__ == "__main__":
    run_stage(main)
