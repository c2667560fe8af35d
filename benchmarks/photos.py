"""The table of real photos: `make photos`, then `python benchmarks/photos.py > benchmarks/photos.md`.

Reads what the pipeline left in work/ and prints quality with paired intervals, time and cost, per cell and cross.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrine.files import read_json
from vitrine.report_data import ON, Cell, baseline_of, difference, read_cells, read_costs
from vitrine.stats import Interval, paired_bootstrap

HEAD = """# Real photos: every strategy on two datasets, and crossed

`make photos && python benchmarks/photos.py > benchmarks/photos.md`

{machine}, {date}. Profile `profiles/photos.yaml`: small networks trained from a random start, without labels, {backbones}:
this compares strategies, it is no record attempt.
grocery-store: query = test, gallery = train, fine label. clothing-small: query = validation, gallery = train.
Every training chose its epoch on validation photos alone; the architecture and the default settings were fixed during
development with test scores of the demo and of these photos in view, so the levels are no blind test.
Differences are paired, query by query, with the pre-trained cell of the same backbone on the same dataset; intervals are 95 %,
resampling units of the kind {unit}. `accuracy difference` is that of the version's own classifier and the linear probe on the
pre-trained vectors, which has no classifier of its own; of a cross, whose classifier knows other classes, and of a
version without one, of both linear probes.

| dataset | cell | mMP@5 | 95 % interval | difference | 95 % interval | own accuracy | kNN | probe | accuracy difference | \
95 % interval | Qdrant mMP@5 | tune s (CPU s) | price | digest |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the whole page."""
    root = Path()
    cells = sorted(read_cells(root), key=lambda cell: (cell.exact["dataset"], -cell.exact["metrics"]["mmp@5"]))
    costs = read_costs(root)
    by_stage = {(cost["stage"], cost["cell"]): cost for cost in costs}
    units = ", ".join(sorted({str(cell.exact["unit"]) for cell in cells}))
    print(HEAD.format(machine=machine(), date=dt.datetime.now(tz=dt.UTC).date(), backbones=backbones(root), unit=units))
    for cell in cells:
        print(row(cell, cells, by_stage.get(("tune", cell.key), {})))
    print("\n| stage | of | seconds | CPU s | photos/s | peak MB | price |\n|---|---|---|---|---|---|---|")
    for cost in costs:
        figures = [
            f"{cost[name]:.0f}" if cost.get(name) else "-"
            for name in ("seconds", "cpu_seconds", "images_per_s", "peak_mb")
        ]
        print(f"| {cost['stage']} | {cost['cell']} | {' | '.join(figures)} | {money(cost)} |")


def row(cell: Cell, cells: Sequence[Cell], cost: Mapping[str, Any]) -> str:
    """One line of the table."""
    metrics = cell.exact["metrics"]
    baseline = None if cell.strategy == "pretrained" else baseline_of(cell, cells)
    through = cell.qdrant["metrics"]["mmp@5"] if cell.qdrant else None
    values = [
        cell.dataset,
        f"{cell.tuned_strategy}--{cell.backbone}" + (f", tuned on {cell.tuned_on}" if ON in cell.key else ""),
        f"{metrics['mmp@5']:.4f}",
        "{:.4f} to {:.4f}".format(*cell.exact["intervals"]["mmp@5"]),
        *gap(difference(cell, baseline) if baseline else None),
        *(number(metrics.get(f"{kind}/accuracy")) for kind in ("own", "knn", "probe")),
        *gap(accuracy_gain(cell, baseline) if baseline else None),
        number(through),
        f"{cost['seconds']:.0f} ({cost.get('cpu_seconds', 0):.0f})" if cost else "-",
        money(cost),
        f"`{cell.registered['digest'][:12]}`",
    ]
    return "| " + " | ".join(values) + " |"


def accuracy_gain(cell: Cell, baseline: Cell) -> Interval | None:
    """Right answers of a version's classifier (its probe, where it has none) minus those of the untuned one's probe."""
    names = cell.per_query.column_names
    ours = answers(cell, "own_correct" if "own_correct" in names else "probe_correct")
    theirs = answers(baseline, "probe_correct")
    shared = [query for query in ours if query in theirs]
    if not shared:
        return None
    units = dict(zip(*(cell.per_query.column(name).to_pylist() for name in ("query_id", "unit")), strict=True))
    a, b = (np.array([side[query] for query in shared], np.float64) for side in (ours, theirs))
    return paired_bootstrap(a, b, [units[query] for query in shared], unit=str(cell.exact["unit"]))


def answers(cell: Cell, column: str) -> dict[str, float]:
    """Query -> whether it was labelled right; empty where that classifier does not apply."""
    if column not in cell.per_query.column_names:
        return {}
    pairs = zip(*(cell.per_query.column(name).to_pylist() for name in ("query_id", column)), strict=True)
    return {query: float(right) for query, right in pairs if right is not None}


def gap(interval: Interval | None) -> tuple[str, str]:
    """A difference and its interval."""
    return (f"{interval.value:+.4f}", f"{interval.low:+.4f} to {interval.high:+.4f}") if interval else ("", "")


def backbones(root: Path) -> str:
    """What the networks were trained on, as they say themselves."""
    found = [read_json(path, "backbone")["origin"] for path in sorted(root.glob("work/backbones/*/backbone.json"))]
    names = [path.parent.name for path in sorted(root.glob("work/backbones/*/backbone.json"))]
    told = [
        f"`{name}` on {origin['photos']:,} photos of {origin['trained_on']}"
        for name, origin in zip(names, found, strict=True)
        if "trained_on" in origin
    ]
    return ", ".join(told)


def money(cost: Mapping[str, Any]) -> str:
    """A price, or a dash where there is none."""
    return "-" if cost.get("price") is None else f"{cost['price']:.4f} {cost['currency']}"


def number(value: float | None) -> str:
    """Four digits, or a dash where there is nothing."""
    return "-" if value is None else f"{value:.4f}"


def machine() -> str:
    """Processor count and system; no name of a host."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
