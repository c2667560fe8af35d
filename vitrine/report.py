"""The report: one self-contained HTML page, and the same figures for `dvc metrics` and `dvc plots`.

    index.html              everything, without one request to anywhere
    leaderboard.csv         one row a cell, every metric
    metrics.json            dataset -> cell -> metric -> value
    plots/leaderboard.csv   one row a cell, the metrics worth a plot

Equal inputs give equal files: no date, no host, seeded draws.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from vitrine.files import write_atomic, write_json
from vitrine.metrics import METRICS, PRIMARY
from vitrine.report_data import BASELINE, Cell, baseline_of, difference, read_cells, read_costs
from vitrine.report_pictures import Found, pictures
from vitrine.stats import Interval, decision

_SHOWN = (PRIMARY, "mr@1", "map@10[/min(R,k)]", "mrr", "ndcg@10")
_CLASSIFIERS = ("own", "knn", "probe")
_PLOTTED = (PRIMARY, "mr@1", "ndcg@10")


@dataclass(frozen=True)
class Row:
    """One cell as the page shows it: with the difference to its untuned backbone and what Qdrant costs."""

    cell: Cell
    difference: Interval | None
    verdict: str
    losses: dict[str, float]
    overlap: float | None


@dataclass(frozen=True)
class Section:
    """One dataset: its cells, best first, and photos of what the best one finds."""

    dataset: str
    rows: tuple[Row, ...]
    found: tuple[Found, ...]

    @property
    def best(self) -> Row:
        """The cell with the highest primary metric."""
        return self.rows[0]


def build(root: Path = Path(), out: Path = Path("report")) -> Path:
    """Read the pipeline's results under `root`, write the report into `out`, return the page's path.

    Raises:
        NotFound: nothing was evaluated yet.
        BadInput: a file is malformed.
    """
    cells = read_cells(root)
    sections = [
        _section(root, dataset, list(group)) for dataset, group in groupby(cells, key=lambda cell: cell.dataset)
    ]
    write_json(out / "metrics.json", _by_dataset(cells))
    write_atomic(out / "leaderboard.csv", _csv(cells, _metric_names(cells), with_intervals=True))
    write_atomic(out / "plots/leaderboard.csv", _csv(cells, _PLOTTED, with_intervals=False))
    page = out / "index.html"
    write_atomic(page, _render(sections, read_costs(root)))
    return page


def _section(root: Path, dataset: str, cells: list[Cell]) -> Section:
    rows = tuple(_row(cell, cells) for cell in cells)
    return Section(dataset, rows, tuple(pictures(root, cells[0])))


def _row(cell: Cell, cells: list[Cell]) -> Row:
    baseline = baseline_of(cell, cells)
    gap = difference(cell, baseline) if baseline else None
    verdict = decision(gap) if gap else ("the untuned backbone" if cell.strategy == BASELINE else "no untuned cell")
    details = cell.qdrant["details"] if cell.qdrant else {}
    ours = cell.exact["metrics"]
    theirs = cell.qdrant["metrics"] if cell.qdrant else {}
    shared = [name for name in _SHOWN if ours.get(name) is not None and theirs.get(name) is not None]
    losses = {name: float(ours[name]) - float(theirs[name]) for name in shared}
    return Row(cell, gap, verdict, losses, details.get("recall_against_exact@10"))


def _by_dataset(cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    values: dict[str, dict[str, dict[str, float]]] = {}
    for cell in cells:
        known = {name: value for name, value in cell.exact["metrics"].items() if value is not None}
        values.setdefault(cell.dataset, {})[cell.key] = known
    return values


def _metric_names(cells: Sequence[Cell]) -> list[str]:
    """Ranking metrics in the order of their table, then the classifiers'."""
    found = {name for cell in cells for name in cell.exact["metrics"]}
    return [name for name in METRICS if name in found] + sorted(found - set(METRICS))


def _csv(cells: Sequence[Cell], names: Sequence[str], *, with_intervals: bool) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    ends = [f"{PRIMARY} low", f"{PRIMARY} high"] if with_intervals else []
    writer.writerow(["dataset", "cell", "version", *names, *ends])
    for cell in cells:
        values = [_figure(cell.exact["metrics"].get(name)) for name in names]
        bounds = [_figure(end) for end in cell.ends(PRIMARY) or (None, None)] if with_intervals else []
        writer.writerow([cell.dataset, cell.key, cell.ref, *values, *bounds])
    return stream.getvalue()


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _render(sections: Sequence[Section], costs: Sequence[dict[str, Any]]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitrine"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _shown, "signed": _signed, "interval": _interval, "percent": _percent}
    return environment.get_template("report.html.j2").render(
        sections=sections,
        costs=costs,
        primary=PRIMARY,
        shown=_SHOWN,
        classifiers=[name for name in _CLASSIFIERS if _has_classifier(sections, name)],
        definitions=[METRICS[name] for name in _SHOWN],
    )


def _has_classifier(sections: Sequence[Section], name: str) -> bool:
    return any(f"{name}/accuracy" in row.cell.exact["metrics"] for section in sections for row in section.rows)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001  a dash says: not known


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _interval(ends: tuple[float, float] | None) -> str:
    return "interval unknown" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _percent(value: float) -> str:
    """A share of one as an SVG length, inside the picture."""
    return f"{100 * min(1.0, max(0.0, value)):.2f}%"
