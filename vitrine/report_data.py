"""What the report is made of: evaluations, registrations, costs and prices, read from a pipeline's folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vitrine.errors import BadInput, NotFound
from vitrine.files import read_json
from vitrine.metrics import PRIMARY
from vitrine.stats import Interval, paired_bootstrap

BASELINE = "pretrained"


@dataclass(frozen=True)
class Cell:
    """One evaluated version.

    Attributes:
        key: STRATEGY--BACKBONE--DATASET.
        registered: `model`, `version`, `digest` and `lineage` as `register` wrote them.
        exact: the default protocol, searched exactly.
        per_query: its table, one row a query.
        qdrant: the same through Qdrant; None where that was not run.
        others: further protocols, searched exactly.
    """

    key: str
    registered: Mapping[str, Any]
    exact: Mapping[str, Any]
    per_query: pa.Table
    qdrant: Mapping[str, Any] | None
    others: tuple[Mapping[str, Any], ...] = ()

    @property
    def strategy(self) -> str:
        """How it was tuned."""
        return self.key.split("--")[0]

    @property
    def backbone(self) -> str:
        """What was tuned."""
        return self.key.split("--")[1]

    @property
    def dataset(self) -> str:
        """What it was evaluated on."""
        return str(self.exact["dataset"])

    @property
    def ref(self) -> str:
        """MODEL@VERSION."""
        return f"{self.registered['model']}@{self.registered['version']}"

    @property
    def primary(self) -> float:
        """The metric that cells are ordered by; -1 where unknown."""
        value = self.exact["metrics"].get(PRIMARY)
        return -1.0 if value is None else float(value)

    def ends(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric; None where it is unknown."""
        low, high = self.exact["intervals"].get(metric) or (None, None)
        return None if low is None or high is None else (float(low), float(high))


def read_cells(root: Path) -> list[Cell]:
    """Every evaluated cell of `params.yaml` under `root` (of the folder, where there are no parameters), best first.

    Raises:
        NotFound: nothing was evaluated, or an evaluated cell was never registered.
        BadInput: a name or a file is malformed.
    """
    wanted = _parameters(root).get("cells")
    folder = root / "work/evaluations"
    keys = sorted(path.parent.name for path in folder.glob("*/exact.json"))
    cells = [_read_cell(root, key) for key in keys if wanted is None or key in wanted]
    if not cells:
        raise NotFound(f"no evaluation of a cell of params.yaml in {folder}; run: dvc repro")
    return sorted(cells, key=lambda cell: (cell.dataset, -cell.primary, cell.key))


def _read_cell(root: Path, key: str) -> Cell:
    if len(key.split("--")) != 3:
        raise BadInput(f"work/evaluations/{key} is no cell; its name must be STRATEGY--BACKBONE--DATASET")
    folder = root / "work/evaluations" / key
    qdrant = folder / "qdrant.json"
    return Cell(
        key,
        read_json(root / "work/registered" / f"{key}.json", "registered version"),
        read_json(folder / "exact.json", "evaluation"),
        pq.read_table(folder / "exact.parquet"),
        read_json(qdrant, "evaluation") if qdrant.is_file() else None,
        tuple(read_json(path, "evaluation") for path in sorted(folder.glob("exact--*.json"))),
    )


def read_costs(root: Path) -> list[dict[str, Any]]:
    """One row a stage that was run; `price` is hours times `prices.device_hour`, None where no price is given."""
    prices = _parameters(root).get("prices") or {}
    rows = [read_json(path, "costs") for path in sorted((root / "work/costs").glob("*.json"))]
    hour, currency = prices.get("device_hour"), prices.get("currency", "")
    return [
        {
            **row,
            "price": None if hour is None else float(row["seconds"]) / 3600 * float(hour),
            "currency": currency,
        }
        for row in rows
    ]


def _parameters(root: Path) -> dict[str, Any]:
    path = root / "params.yaml"
    if not path.is_file():
        return {}
    try:
        return dict(yaml.safe_load(path.read_text()) or {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is no YAML mapping: {error}") from error


def baseline_of(cell: Cell, cells: list[Cell]) -> Cell | None:
    """The untuned cell of the same backbone, evaluated on the same data; None for itself or where there is none."""
    for other in cells:
        same = (other.backbone, other.dataset, other.exact["dataset_digest"], other.exact["protocol"]) == (
            cell.backbone,
            cell.dataset,
            cell.exact["dataset_digest"],
            cell.exact["protocol"],
        )
        if same and other.strategy == BASELINE and other.key != cell.key:
            return other
    return None


def difference(cell: Cell, other: Cell, metric: str = PRIMARY) -> Interval | None:
    """Mean of `cell` minus mean of `other` over the queries both have; None where they share none."""
    theirs = {row["query_id"]: row[metric] for row in _values(other, metric)}
    shared = [row for row in _values(cell, metric) if row["query_id"] in theirs]
    if not shared:
        return None
    a = np.array([row[metric] for row in shared], np.float64)
    b = np.array([theirs[row["query_id"]] for row in shared], np.float64)
    return paired_bootstrap(a, b, [row["unit"] for row in shared], unit=shared[0]["unit_kind"])


def _values(cell: Cell, metric: str) -> list[dict[str, Any]]:
    return list(cell.per_query.select(["query_id", "unit", "unit_kind", metric]).to_pylist())
