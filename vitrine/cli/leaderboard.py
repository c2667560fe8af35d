"""`vitrine leaderboard`: which model is best on our catalogue?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrine.cli.output import CsvFile, Json, emit, stdout, table, write_csv
from vitrine.home import find_home

if TYPE_CHECKING:
    from vitrine.leaderboard import Leaderboard

app = typer.Typer()


@app.command()
def leaderboard(
    dataset: Annotated[str, typer.Option("--dataset", help="An imported dataset; see: vitrine data ls")],
    metric: Annotated[str, typer.Option("--metric", help="Such as mmp@5, mr@1, map@10 or own/accuracy.")] = "mmp@5",
    protocol: Annotated[str, typer.Option("--protocol", help="How it was evaluated.")] = "default",
    via: Annotated[str, typer.Option("--via", help="exact or qdrant.")] = "exact",
    csv: CsvFile = None,
    as_json: Json = False,
) -> None:
    """Every evaluated version on a dataset, best first, with intervals, rank intervals and corrected differences."""
    from vitrine.leaderboard import leaderboard as ranked
    from vitrine.registry import open_registry

    found = ranked(open_registry(find_home()), dataset, metric, protocol, via)
    if csv is not None:
        _write(csv, found)
    emit(found.as_json(), as_json, lambda: _show(found))


def _write(path: Path, found: Leaderboard) -> None:
    names = [name for name in vars(found.rows[0]) if name != "ci95"]
    rows = [[*(getattr(row, name) for name in names), *row.ci95] for row in found.rows]
    write_csv(path, [*names, "ci95_low", "ci95_high"], rows)


def _show(found: Leaderboard) -> None:
    stdout.print(
        f"{found.metric} on {found.dataset}/{found.protocol} via {found.via}: {found.queries} queries, "
        f"{found.units} units ({found.unit})",
        markup=False,
    )
    rows = [
        [
            row.rank,
            row.ref,
            row.strategy,
            row.backbone,
            f"{row.value:.4f} [{row.ci95[0]:.4f}, {row.ci95[1]:.4f}]",
            f"{row.rank_low} to {row.rank_high}",
            f"{100 * row.first:.0f} %",
            f"{row.behind:+.4f}",
            row.p_holm,
        ]
        for row in found.rows
    ]
    table(["", "version", "strategy", "backbone", "value", "rank 95 %", "first", "behind", "p (Holm)"], rows)
    for sentence in _remarks(found):
        stdout.print(sentence, markup=False)


def _remarks(found: Leaderboard) -> list[str]:
    remarks = [f"Order on other products: Kendall's tau {found.agreement:.2f} on average."]
    if len(found.rows) > 1:
        remarks.append(f"Differences from {found.detectable:.4f} on can be shown here (80 % power).")
    if found.saturated:
        remarks.append("This dataset is saturated: the best value leaves no room to tell these versions apart.")
    elif found.cannot_rank:
        remarks.append("No two of these versions are shown different; more products would be needed to rank them.")
    spreads = [
        f"Across {spread.across} ({spread.group}): {spread.versions} versions, mean {spread.mean:.4f}, "
        f"standard deviation {spread.deviation:.4f}."
        for spread in found.spreads
    ]
    return [*remarks, *spreads, *found.left_out]
