"""The report: one self-contained HTML page, its numbers as CSV files, and figures for `dvc metrics` and `dvc plots`.

    index.html              everything, without one request to anywhere
    tables/*.csv            every number of the page; the page says of each where it stands
    metrics.json            dataset -> cell -> metric -> value
    plots/leaderboard.csv   one row a cell, the metrics worth a plot

Equal inputs give equal files: no date, no host, seeded draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine.files import replacing_folder, write_atomic, write_json
from vitrine.metrics import METRICS, PRIMARY
from vitrine.report_costs import HEIGHT, WIDTH, quality_and_cost, scatters, stage_costs
from vitrine.report_cross import crosses, matrices
from vitrine.report_data import Cell, read_cells, read_costs
from vitrine.report_leaderboard import (
    CLASSIFIERS,
    SHOWN,
    approximate,
    health,
    leaderboard,
    protocols,
    summary,
)
from vitrine.report_pictures import Asked, Duel, albums, duels, word_searches
from vitrine.report_slices import FEW, ends, slices
from vitrine.report_tables import Row, Table, code

_PLOTTED = (PRIMARY, "mr@1", "ndcg@10")


@dataclass(frozen=True)
class Content:
    """All that the page shows: tables by name, and the pictures that belong to some of their rows."""

    tables: Mapping[str, Table]
    duels: tuple[Duel, ...]
    asked: tuple[Asked, ...]


def build(root: Path = Path(), out: Path = Path("report")) -> Path:
    """Read the pipeline's results under `root`, write the report into `out`, return the page's path.

    Raises:
        NotFound: nothing was evaluated yet.
        BadInput: a file is malformed.
    """
    cells = read_cells(root)
    costs = [cost for cost in read_costs(root) if cost["stage"] != "report"]  # its own is that of the run before
    content = _content(root, cells, costs)
    page = _render(content)
    with replacing_folder(out / "tables") as folder:
        for table in content.tables.values():
            (folder / table.file).write_text(table.csv(), encoding="utf-8")
    write_json(out / "metrics.json", _by_dataset(cells))
    write_atomic(out / "plots/leaderboard.csv", _plotted(cells).csv())
    write_atomic(out / "index.html", page)
    return out / "index.html"


def _content(root: Path, cells: Sequence[Cell], costs: Sequence[Mapping[str, Any]]) -> Content:
    shown = albums(root, cells)
    duel_table, found = duels(cells, shown)
    words_table, asked = word_searches(cells, shown)
    tables = {
        "summary": summary(cells, costs),
        "leaderboard": leaderboard(cells),
        "cross": crosses(cells),
        "quality_cost": quality_and_cost(cells, costs),
        "slices": slices(cells),
        "wins_and_losses": duel_table,
        "word_searches": words_table,
        "protocols": protocols(cells),
        "qdrant": approximate(cells),
        "health": health(cells),
        "costs": stage_costs(costs),
    }
    return Content(tables, tuple(found), tuple(asked))


def _by_dataset(cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    values: dict[str, dict[str, dict[str, float]]] = {}
    for cell in cells:
        known = {name: value for name, value in cell.exact["metrics"].items() if value is not None}
        values.setdefault(cell.dataset, {})[cell.key] = known
    return values


def _plotted(cells: Sequence[Cell]) -> Table:
    rows = (
        {"dataset": cell.dataset, "cell": cell.key, "version": cell.ref}
        | {name: cell.exact["metrics"].get(name) for name in _PLOTTED}
        for cell in cells
    )
    return Table("leaderboard", ("dataset", "cell", "version", *_PLOTTED), rows)


def _render(content: Content) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitrine"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "code": code}
    page = environment.get_template("report.html.j2").render(
        t=content.tables,
        duels=content.duels,
        asked=content.asked,
        matrices=matrices(content.tables["cross"]),
        scatters=scatters,
        slice_ends=ends,
        by_backbone=_by_backbone,
        primary=PRIMARY,
        shown=SHOWN,
        few=FEW,
        classifiers=[(key, words) for key, words in CLASSIFIERS.items() if _has_classifier(content, key)],
        definitions=[METRICS[name] for name in SHOWN],
        picture=(WIDTH, HEIGHT),
    )
    return "\n".join(line.rstrip() for line in page.splitlines() if line.strip()) + "\n"


def _by_backbone(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each backbone, the backbone of the best version first."""
    names = dict.fromkeys(row["backbone"] for row in rows)
    return [(name, [row for row in rows if row["backbone"] == name]) for name in names]


def _has_classifier(content: Content, key: str) -> bool:
    return any(row.texts.get(f"{key}/accuracy") for row in content.tables["leaderboard"].rows)


def _percent(value: float | None) -> str:
    """A share of one as an SVG length, inside the picture."""
    return f"{100 * min(1.0, max(0.0, value or 0.0)):.2f}%"
