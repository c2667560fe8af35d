"""What the report is made of: evaluations, registrations, costs and prices, read from a pipeline's folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from vitrine.prices import price
from vitrine.stats import Interval, paired_bootstrap

BASELINE = "pretrained"
ON = "--on--"


@dataclass(frozen=True)
class Other:
    """A further protocol of a cell: its evaluation, its table with one row a query, whether it asks with titles."""

    exact: Mapping[str, Any]
    per_query: pa.Table
    by_words: bool = False

    @property
    def protocol(self) -> str:
        """By name."""
        return str(self.exact["protocol"])

    @property
    def primary(self) -> float:
        """The metric that versions are ordered by; -1 where unknown."""
        value = self.exact["metrics"].get(PRIMARY)
        return -1.0 if value is None else float(value)


@dataclass(frozen=True)
class Cell:
    """One evaluated version.

    Attributes:
        key: STRATEGY--BACKBONE--DATASET, or for a cross STRATEGY--BACKBONE--TUNED_ON--on--DATASET.
        registered: `model`, `version`, `digest` and `lineage` as `register` wrote them.
        exact: the default protocol, searched exactly.
        per_query: its table, one row a query.
        qdrant: the same through Qdrant; None where that was not run.
        others: further protocols, searched exactly.
        dim: length of the embedding; None where the bundle is gone.
    """

    key: str
    registered: Mapping[str, Any]
    exact: Mapping[str, Any]
    per_query: pa.Table
    qdrant: Mapping[str, Any] | None
    others: tuple[Other, ...] = ()
    dim: int | None = None

    @property
    def strategy(self) -> str:
        """How it was tuned; `cross` for a version that was tuned on another dataset."""
        return "cross" if ON in self.key else self.tuned_strategy

    @property
    def tuned_strategy(self) -> str:
        """How it was tuned, wherever that was."""
        return self.key.split("--")[0]

    @property
    def tuned_on(self) -> str:
        """The dataset that it was tuned on."""
        return self.key.partition(ON)[0].split("--", 2)[2]

    @property
    def tuning(self) -> str:
        """The key of the cell that was tuned."""
        return self.key.partition(ON)[0]

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
    """Every evaluated cell and cross of `params.yaml` under `root` (of the folder, where there are no parameters), best first.

    Raises:
        NotFound: nothing was evaluated, or an evaluated cell was never registered.
        BadInput: a name or a file is malformed.
    """
    parameters = _parameters(root)
    wanted = {**parameters["cells"], **(parameters.get("crosses") or {})} if "cells" in parameters else None
    folder = root / "work/evaluations"
    keys = sorted(path.parent.name for path in folder.glob("*/exact.json"))
    cells = [_read_cell(root, key) for key in keys if wanted is None or key in wanted]
    if not cells:
        raise NotFound(f"no evaluation of a cell of params.yaml in {folder}; run: dvc repro")
    return sorted(cells, key=lambda cell: (cell.dataset, -cell.primary, cell.key))


def _read_cell(root: Path, key: str) -> Cell:
    if len(key.partition(ON)[0].split("--")) < 3 or key.endswith(ON):
        raise BadInput(
            f"work/evaluations/{key} is no cell; its name must be STRATEGY--BACKBONE--DATASET, or that and --on--DATASET"
        )
    folder = root / "work/evaluations" / key
    qdrant = folder / "qdrant.json"
    return Cell(
        key,
        read_json(root / "work/registered" / f"{key}.json", "registered version"),
        read_json(folder / "exact.json", "evaluation"),
        pq.read_table(folder / "exact.parquet"),
        read_json(qdrant, "evaluation") if qdrant.is_file() else None,
        tuple(_read_other(root, path) for path in sorted(folder.glob("exact--*.json"))),
        _dim(root / "bundles" / key.partition(ON)[0] / "manifest.json"),
    )


def _read_other(root: Path, path: Path) -> Other:
    exact = read_json(path, "evaluation")
    info = root / "data" / str(exact["dataset"]) / "dataset.json"
    protocols = read_json(info, "dataset")["protocols"] if info.is_file() else []
    asks = {protocol["name"]: protocol.get("ask_by") for protocol in protocols}
    return Other(exact, pq.read_table(path.with_suffix(".parquet")), asks.get(exact["protocol"]) == "title")


def _dim(manifest: Path) -> int | None:
    return int(read_json(manifest, "manifest")["dim"]) if manifest.is_file() else None


def read_costs(root: Path) -> list[dict[str, Any]]:
    """One row a stage that was run; `price` is hours times `prices.device_hour`; None where none is given."""
    prices = _parameters(root).get("prices") or {}
    rows = [read_json(path, "costs") for path in sorted((root / "work/costs").glob("*.json"))]
    hour, currency = prices.get("device_hour"), prices.get("currency", "")
    return [
        {
            **row,
            "price": price(float(row["seconds"]), str(row.get("device", "cpu")), hour),
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


def comparable(a: Cell, b: Cell) -> bool:
    """Whether both answered the same questions: same content of the dataset, same protocol."""
    names = ("dataset", "dataset_digest", "protocol")
    return [a.exact[name] for name in names] == [b.exact[name] for name in names]


def baseline_of(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The untuned cell of the same backbone, evaluated on the same data; None for itself or where there is none."""
    for other in cells:
        same = other.backbone == cell.backbone and comparable(other, cell)
        if same and other.strategy == BASELINE and other.key != cell.key:
            return other
    return None


def rival_of(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """What a version's pictures and categories are compared with: its untuned backbone, or else the best other one."""
    others = [other for other in cells if other.key != cell.key and comparable(other, cell)]
    return baseline_of(cell, cells) or (others[0] if others else None)


def difference(cell: Cell, other: Cell, metric: str = PRIMARY) -> Interval | None:
    """Mean of `cell` minus mean of `other` over the queries both have; None where they share none."""
    shared = pairs(cell, other, metric)
    if not shared:
        return None
    a, b = (np.array([getattr(pair, side) for pair in shared], np.float64) for side in ("ours", "theirs"))
    return paired_bootstrap(a, b, [pair.unit for pair in shared], unit=shared[0].unit_kind)


@dataclass(frozen=True)
class Pair:
    """One query with both versions' values."""

    query_id: str
    label: str
    unit: str
    unit_kind: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.theirs


def pairs(cell: Cell, other: Cell, metric: str = PRIMARY) -> list[Pair]:
    """The queries that both were asked and that have something to find, in the order of `cell`."""
    theirs = dict(zip(_column(other, "query_id"), _column(other, metric), strict=True))
    rows = zip(*(_column(cell, name) for name in ("query_id", "label", "unit", "unit_kind", metric)), strict=True)
    found = (
        Pair(name, label, unit, kind, ours, theirs[name]) for name, label, unit, kind, ours in rows if name in theirs
    )
    return [pair for pair in found if not np.isnan(pair.difference)]


def _column(cell: Cell, name: str) -> list[Any]:
    return list(cell.per_query.column(name).to_pylist())
