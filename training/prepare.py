"""Stage `prepare`: any source becomes one canonical dataset folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training import settings as params
from training.costs import measure
from training.stage import run_stage
from vitrine.importing import import_dataset
from vitrine.progress import bar

DATA = Path("data")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m training.prepare --dataset NAME`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dataset", required=True)
    name = parser.parse_args(arguments).dataset
    wanted = params.pick(params.load_settings().datasets, name, "datasets")
    with measure("prepare", name):
        report = import_dataset(wanted.format, Path(wanted.path), name, DATA / name, wanted.options, track=bar)
    left_out = f", {len(report.broken)} broken photos left out" if report.broken else ""
    splits = ", ".join(f"{split} {count}" for split, count in report.splits.items())
    print(f"{report.name}: {report.items} items ({splits}), {report.labels} labels{left_out}")


if __name__ == "__main__":
    run_stage(main)
