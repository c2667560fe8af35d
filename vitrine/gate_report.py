"""A planned promotion as one self-contained page: verdicts, intervals, and what the worst categories look like.

Equal plans give equal pages: no date, no host. Photos are small data URIs within a budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrine.compare import Pairs, pair
from vitrine.dataset import Dataset, find_dataset
from vitrine.errors import BadInput, NotFound
from vitrine.files import write_atomic
from vitrine.home import Home
from vitrine.items import Item
from vitrine.ports import Verdict
from vitrine.promotion_plan import Plan
from vitrine.registry import Registry
from vitrine.report_pictures import Album, Picture

CATEGORIES, QUERIES = 3, 2
"""Worst categories that are shown, and of each the queries that lost most."""


@dataclass(frozen=True)
class Line:
    """An interval as a drawing: positions are shares of the width."""

    name: str
    outcome: str
    low: float
    value: float
    high: float
    zero: float
    margin: float
    told: str


@dataclass(frozen=True)
class Loss:
    """One query, what the candidate and what the incumbent find first, and the value of each."""

    query: Picture
    ours: tuple[Picture, ...]
    theirs: tuple[Picture, ...]
    value: float
    before: float


@dataclass(frozen=True)
class Group:
    """One category with some of the queries that lost most."""

    name: str
    row: Mapping[str, Any]
    losses: tuple[Loss, ...]


def write_report(plan: Plan, path: Path, registry: Registry, home: Home) -> Path:
    """Write the page of a plan; pictures are of what both versions were evaluated on.

    Raises:
        BadInput: the path is a folder.
    """
    if path.is_dir():
        raise BadInput(
            f"{path} is a folder; name the file that the page shall be, such as promotion.html", field="report"
        )
    write_atomic(path, render(plan, pictures(plan, registry, home)))
    return path


def render(plan: Plan, groups: Sequence[Group] = ()) -> str:
    """The page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitrine"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = {verdict.gate: verdict for verdict in plan.verdicts}
    page = environment.get_template("promotion.html.j2").render(
        plan=plan,
        rival=f"{plan.model}@{plan.incumbent.version}" if plan.incumbent else None,
        lines=[line for gate in ("quality against incumbent", "tagging") for line in drawn(found.get(gate))],
        worst=_worst(found.get("no worse category")),
        groups=groups,
    )
    return "\n".join(line.rstrip() for line in page.splitlines() if line.strip()) + "\n"


def drawn(verdict: Verdict | None) -> list[Line]:
    """The compared metrics of a verdict on one common scale; none where nothing was compared."""
    compared = [one for one in (verdict.numbers.get("compared", ()) if verdict else ()) if one["ci95"]]
    ends = [end for one in compared for end in (*one["ci95"], -one["margin"]) if math.isfinite(end)]
    if not ends:
        return []
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    room = 0.06 * (high - low) or 1.0
    low, width = low - room, (high - low) + 2 * room

    def place(value: float) -> float:
        return float(min(1.0, max(0.0, (value - low) / width)))

    return [
        Line(
            name=f"{one['metric']} on {one['dataset']}",
            outcome=str(one["outcome"]),
            low=place(one["ci95"][0]),
            value=place(one["difference"]),
            high=place(one["ci95"][1]),
            zero=place(0.0),
            margin=place(-one["margin"]),
            told=f"{one['difference']:+.4f} [{one['ci95'][0]:+.4f}, {one['ci95'][1]:+.4f}]",
        )
        for one in compared
    ]


def _worst(verdict: Verdict | None) -> list[Mapping[str, Any]]:
    """Categories by what they lost, the most first."""
    rows = verdict.numbers.get("worst", ()) if verdict else ()
    return sorted(rows, key=lambda row: (row["difference"], row["category"]))


def pictures(plan: Plan, registry: Registry, home: Home) -> list[Group]:
    """The worst categories in photos; none without an incumbent, or where a dataset or an evaluation is gone."""
    if plan.incumbent is None:
        return []
    ours, theirs = (f"{plan.model}@{number}" for number in (plan.version, plan.incumbent.version))
    rows = [row for row in _worst(_of(plan, "no worse category")) if row["difference"] < 0][:CATEGORIES]
    spent, groups = [0], []
    for row in rows:
        try:
            dataset = find_dataset(home, row["dataset"])
            pairs = pair(registry, ours, theirs, row["dataset"], row["metric"], dataset.protocol().name)
        except (NotFound, BadInput):
            continue
        if pairs.evaluated.dataset_digest == dataset.digest:
            groups.append(Group(row["category"], row, _losses(pairs, dataset, row["category"], Album(dataset, spent))))
    return groups


def _of(plan: Plan, gate: str) -> Verdict | None:
    return next((verdict for verdict in plan.verdicts if verdict.gate == gate), None)


def _losses(pairs: Pairs, dataset: Dataset, category: str, album: Album) -> tuple[Loss, ...]:
    """The queries of a category that lost most, by id where equal."""
    items, ids = {item.item_id: item for item in dataset.items}, pairs.table_a.column("query_id").to_pylist()
    change = pairs.a - pairs.b
    rows = [row for row in np.flatnonzero(change < 0).tolist() if _within(items[ids[row]], category)]
    rows.sort(key=lambda row: (change[row], ids[row]))
    return tuple(_loss(pairs, row, album, pairs.evaluated.protocol) for row in rows[:QUERIES])


def _within(item: Item, category: str) -> bool:
    """Whether an item is of this label, or of this part of the category tree."""
    depth = category.count(" > ") + 1
    return item.label == category or " > ".join(item.category[:depth]) == category


def _loss(pairs: Pairs, row: int, album: Album, protocol: str) -> Loss:
    query = pairs.table_a.column("query_id")[row].as_py()
    found = (table.column("hits")[row].as_py() for table in (pairs.table_a, pairs.table_b))
    ours, theirs = (album.hits(query, hits, protocol) for hits in found)
    return Loss(album.query(query), ours, theirs, float(pairs.a[row]), float(pairs.b[row]))
