"""Which model is best on a dataset, and how firmly: every evaluated version on the same queries.

Ranks come with the interval that other products would give, differences to the best are corrected for how many
are looked at, and a dataset that cannot tell the models apart says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitrine.compare import metric_column
from vitrine.errors import NotFound
from vitrine.evaluation import plain
from vitrine.items import DEFAULT_PROTOCOL
from vitrine.metrics import PRIMARY
from vitrine.stability import RankStability, Separation, rank_stability, separation
from vitrine.stats import bootstrap_mean

if TYPE_CHECKING:
    from vitrine.events import Evaluated
    from vitrine.registry import Registry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """One version on the leaderboard.

    Attributes:
        ci95: two-sided 95 % interval of the value, resampling units.
        rank: from 1; `rank_low` to `rank_high` hold 95 % of the resamples.
        first: share of the resamples in which it is best.
        behind: value less the best version's; `p_holm` its p-value, corrected over all pairs of versions, because
            which one is best was read off the same queries.
    """

    ref: str
    digest: str
    strategy: str
    backbone: str
    seed: int | None
    value: float
    ci95: tuple[float, float]
    rank: int
    rank_low: int
    rank_high: int
    first: float
    behind: float
    p_holm: float


@dataclass(frozen=True)
class Spread:
    """How far versions that differ in one thing alone are apart: the standard deviation of their values."""

    across: str
    group: str
    versions: int
    mean: float
    deviation: float


@dataclass(frozen=True)
class Leaderboard:
    """All versions on one dataset, best first.

    Attributes:
        agreement: mean Kendall tau between the order on resampled products and this order, in [-1, 1].
        detectable: the median difference between two of these versions that this sample shows with 80 % power.
        saturated: the best value leaves no room to tell versions apart.
        cannot_rank: no pair of versions is shown different.
        spreads: across seeds, and across the architectures of a family.
        left_out: one sentence for each version whose evaluation does not fit the others.
    """

    dataset: str
    protocol: str
    via: str
    metric: str
    unit: str
    units: int
    queries: int
    rows: tuple[Standing, ...]
    agreement: float
    detectable: float
    saturated: bool
    cannot_rank: bool
    spreads: tuple[Spread, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; an unknown number is null."""
        value: dict[str, Any] = plain(asdict(self))
        return value


@dataclass(frozen=True)
class _Entry:
    ref: str
    digest: str
    lineage: Mapping[str, Any]
    evaluated: Evaluated


def leaderboard(
    registry: Registry, dataset: str, metric: str = PRIMARY, protocol: str = DEFAULT_PROTOCOL, via: str = "exact"
) -> Leaderboard:
    """Rank every version that was evaluated on the dataset; equal content under several names stands once.

    Args:
        registry: where versions and evaluations are.
        dataset: by name.
        metric: a ranking metric, or `own/accuracy`, `knn/accuracy`, `probe/accuracy`.
        protocol: by name.
        via: `exact` or `qdrant`.

    Raises:
        NotFound: no version was evaluated that way.
        BadInput: no such metric.
    """
    entries, left_out = _fitting(_entries(registry, dataset, protocol, via))
    if not entries:
        raise NotFound(
            f"no version was evaluated on {dataset}/{protocol} via {via}; run: vitrine evaluate REF --dataset {dataset}"
        )
    column = metric_column(metric, entries[0].evaluated.metrics)
    kept, values, units, unit = _table(registry, entries, column, left_out)
    order = np.argsort(-np.nanmean(values, axis=1), kind="stable")
    kept, values = [kept[place] for place in order], values[order]
    stable, separate = rank_stability(values, units), separation(values, units)
    return Leaderboard(
        dataset=dataset,
        protocol=protocol,
        via=via,
        metric=column.replace("_correct", "/accuracy"),
        unit=unit,
        units=len(set(units)),
        queries=values.shape[1],
        rows=tuple(_standings(kept, values, units, stable, separate)),
        agreement=stable.agreement,
        detectable=separate.detectable,
        saturated=separate.saturated,
        cannot_rank=separate.cannot_rank,
        spreads=tuple(_spreads(kept, values)),
        left_out=tuple(left_out),
    )


def _entries(registry: Registry, dataset: str, protocol: str, via: str) -> list[_Entry]:
    found = []
    for name, model in sorted(registry.state().models.items()):
        for number in sorted(model.versions):
            version = model.versions[number]
            evaluated = version.evaluation(dataset, protocol, via)
            if evaluated and not version.retired:
                found.append(_Entry(f"{name}@{number}", version.digest, version.registered.lineage, evaluated))
    return list({entry.digest: entry for entry in reversed(found)}.values())[::-1]


def _fitting(entries: list[_Entry]) -> tuple[list[_Entry], list[str]]:
    """Those that saw the same content as the newest evaluation, and a sentence for each other one."""
    if not entries:
        return [], []
    newest = max(entries, key=lambda entry: entry.evaluated.seq).evaluated.dataset_digest
    kept = [entry for entry in entries if entry.evaluated.dataset_digest == newest]
    others = [entry.ref for entry in entries if entry.evaluated.dataset_digest != newest]
    return kept, [f"{ref} was evaluated on an earlier content of the dataset; evaluate it again" for ref in others]


def _table(
    registry: Registry, entries: list[_Entry], column: str, left_out: list[str]
) -> tuple[list[_Entry], Floats, list[str], str]:
    """Values (M, Q) of the entries that have the column for the queries of the first one that has it."""
    kept, values, queries = [], [], None
    units: list[str] = []
    unit = "label"
    for entry in entries:
        table = pq.read_table(registry.artifacts.path(entry.evaluated.per_query)).sort_by("query_id")
        ids = table.column("query_id").to_pylist()
        if column not in table.column_names or (queries is not None and ids != queries):
            left_out.append(f"{entry.ref} has no {column} for the same queries; evaluate it again")
            continue
        queries, units = ids, table.column("unit").to_pylist()
        unit = str(table.column("unit_kind")[0].as_py())
        kept.append(entry)
        values.append(np.asarray(table.column(column).to_numpy(zero_copy_only=False), np.float64))
    if not kept:
        raise NotFound(f"no evaluation has {column} a query; evaluate again: vitrine evaluate REF --dataset …")
    return kept, np.stack(values), units, unit


def _standings(
    entries: Sequence[_Entry], values: Floats, units: Sequence[str], stable: RankStability, separate: Separation
) -> Iterable[Standing]:
    behind = {pair.b: pair for pair in separate.pairs if pair.a == 0}  # the best one against each other
    for place, entry in enumerate(entries):
        interval = bootstrap_mean(values[place], units)
        yield Standing(
            ref=entry.ref,
            digest=entry.digest[:12],
            strategy=str(entry.lineage.get("strategy", "")),
            backbone=str(entry.lineage.get("backbone", "")),
            seed=entry.lineage.get("seed"),
            value=interval.value,
            ci95=(interval.low, interval.high),
            rank=place + 1,
            rank_low=int(stable.rank_low[place]),
            rank_high=int(stable.rank_high[place]),
            first=float(stable.first[place]),
            behind=-behind[place].difference if place in behind else 0.0,
            p_holm=behind[place].p_holm if place in behind else 1.0,
        )


def _spreads(entries: Sequence[_Entry], values: Floats) -> Iterable[Spread]:
    """Groups of versions that share everything but the seed, or everything but the architecture."""
    means = np.nanmean(values, axis=1)
    tuned = ("tuned_strategy", "tuned_on")  # of a cross
    for across, same in (
        ("seeds", ("strategy", *tuned, "backbone", "dataset", "family", "architecture")),
        ("architectures", ("strategy", *tuned, "dataset", "family", "seed")),
    ):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, entry in enumerate(entries):
            groups[tuple(str(entry.lineage.get(key, "")) for key in same)].append(place)
        varying = "seed" if across == "seeds" else "architecture"
        for key, places in groups.items():
            if len({entries[place].lineage.get(varying) for place in places}) > 1:
                chosen = means[places]
                group = ", ".join(part for part in key if part)
                yield Spread(across, group, len(places), float(chosen.mean()), float(chosen.std(ddof=1)))
