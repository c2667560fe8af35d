"""Stage `register`: a bundle becomes a version; its number is written down and survives a lost registry.

Writing to the registry is a side effect that DVC does not see. So it is idempotent: the same content
is the same version, and numbers that were written down once are restored first (`vitrine.sync`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import settings as params
from training.stage import run_stage
from vitrine.bundle import read_bundle
from vitrine.files import write_json
from vitrine.home import Home, find_home
from vitrine.lineage import collect_lineage
from vitrine.registry import open_registry
from vitrine.sync import sync

REGISTERED = Path("work/registered")


def model_name(cell: params.Cell) -> str:
    """The model that the cell becomes a version of."""
    return cell.model or f"{cell.dataset}-search"


def register_cell(key: str, cell: params.Cell, home: Home, root: Path = Path()) -> dict[str, Any]:
    """Register the cell's bundle and write `work/registered/CELL.json` under `root`."""
    registry = open_registry(home)
    sync(registry, root)
    bundle = read_bundle(root / "bundles" / key)
    event = registry.register(model_name(cell), bundle, lineage={**collect_lineage(root), "cell": key}, why="pipeline")
    record = {
        "model": event.model,
        "version": event.version,
        "digest": event.digest,
        "cell": key,
        "lineage": dict(bundle.lineage),  # not commit or libraries: they would make later stages run again
    }
    write_json(root / REGISTERED / f"{key}.json", record)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.register --cell STRATEGY--BACKBONE--DATASET`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cell", required=True)
    key = parser.parse_args(arguments).cell
    cell = params.pick(params.load_settings().cells, key, "cells")
    record = register_cell(key, cell, find_home())
    print(f"{key} is {record['model']}@{record['version']} ({record['digest'][:12]})")


if __name__ == "__main__":
    run_stage(main)
