"""The table of real photos: `make photos`, then `python benchmarks/photos.py > benchmarks/photos.md`.

Reads what the pipeline left in work/ and prints quality with paired intervals, and cost, per cell.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path

from vitrine.report_data import Cell, baseline_of, difference, read_cells, read_costs

HEAD = """# Real photos: pre-trained against top-tuned

`make photos && python benchmarks/photos.py > benchmarks/photos.md`

{machine}, {date}. Profile `profiles/photos.yaml`: small networks trained from a random start, without labels, on
2,640 grocery photos (`mini`) or 2,761 clothing photos (`attire`): this compares strategies, it is no record attempt.
grocery-store: query = test, gallery = train, fine label. clothing-small: query = validation, gallery = train.
Heads were chosen on validation photos alone; the architecture and the head's default settings were fixed during development
with test scores of the demo and of these photos in view, so the levels are no blind test. `difference` is paired with the pre-trained cell of the same backbone;
intervals are 95 %, resampling labels.

| dataset | cell | mMP@5 | 95 % interval | difference | 95 % interval | own accuracy | kNN | probe | Qdrant mMP@5 | \
tune s | digest |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the whole page."""
    root = Path()
    cells = sorted(read_cells(root), key=lambda cell: (cell.exact["dataset"], -cell.exact["metrics"]["mmp@5"]))
    costs = read_costs(root)
    seconds = {(cost["stage"], cost["cell"]): cost["seconds"] for cost in costs}
    print(HEAD.format(machine=machine(), date=dt.datetime.now(tz=dt.UTC).date()))
    for cell in cells:
        print(row(cell, cells, seconds))
    print("\n| stage | of | seconds | images/s | peak MB |\n|---|---|---|---|---|")
    for cost in costs:
        if cost["stage"] in {"backbone", "features"}:
            figures = f"{cost['seconds']:.0f} | {cost['images_per_s']:.0f} | {cost['peak_mb']:.0f}"
            print(f"| {cost['stage']} | {cost['cell']} | {figures} |")


def row(cell: Cell, cells: list[Cell], seconds: dict[tuple[str, str], float]) -> str:
    """One line of the table."""
    metrics, interval = cell.exact["metrics"], cell.exact["intervals"]["mmp@5"]
    baseline = baseline_of(cell, cells)
    paired = difference(cell, baseline) if baseline is not None and baseline is not cell else None
    through = cell.qdrant["metrics"]["mmp@5"] if cell.qdrant else None
    values = [
        cell.exact["dataset"],
        cell.key.rsplit("--", 1)[0],
        f"{metrics['mmp@5']:.4f}",
        f"{interval[0]:.4f} to {interval[1]:.4f}",
        f"{paired.value:+.4f}" if paired else "",
        f"{paired.low:+.4f} to {paired.high:+.4f}" if paired else "",
        *(number(metrics.get(f"{kind}/accuracy")) for kind in ("own", "knn", "probe")),
        number(through),
        f"{seconds.get(('tune', cell.key), float('nan')):.0f}",
        f"`{cell.registered['digest'][:12]}`",
    ]
    return "| " + " | ".join(values) + " |"


def number(value: float | None) -> str:
    """Four digits, or a dash where there is nothing."""
    return "-" if value is None else f"{value:.4f}"


def machine() -> str:
    """Processor count and system; no name of a host."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
