"""Collects what the gates look at: evaluations, paired differences, parity, health, Qdrant figures, the engine's speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitrine.bundle import Parity
from vitrine.compare import Pairs, pair
from vitrine.dataset import Dataset
from vitrine.encoder import Encoder
from vitrine.engine_evidence import built_engines
from vitrine.engines import all_records
from vitrine.errors import BadInput, NotFound, Unavailable
from vitrine.events import Evaluated
from vitrine.gates import Category, Engine, Evidence, GateSettings, Quality, Serving, Tagging
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.manifest import Manifest
from vitrine.metrics import resolve_metric
from vitrine.progress import Track, quiet
from vitrine.registry import Registry
from vitrine.serving_cost import measure_serving
from vitrine.significance import UnitSums
from vitrine.stats import Interval, bootstrap_mean, paired_bootstrap

_OWN = "own/accuracy"


def gather_evidence(
    registry: Registry,
    version: VersionState,
    incumbent: Production | None,
    dataset: Dataset,
    settings: GateSettings,
    *,
    find: Callable[[str], Dataset] | None = None,
    encoder: Callable[[], Encoder] | None = None,
    engines: Path | None = None,
    threads: int = 2,
    track: Track = quiet,
) -> Evidence:
    """Everything known of `version` on `dataset` and on those that the settings name, paired with the incumbent.

    Args:
        registry: where evaluations are.
        version: the candidate.
        incumbent: what is live, or None.
        dataset: the catalogue's own.
        settings: which metrics, datasets and budgets count.
        find: a dataset by name; needed for `settings.datasets`.
        encoder: loads the candidate as a server would; asked only where a budget is set.
        engines: folder of built engines (`Home.engines`); those of this version are judged too.
        threads: that the encoder was given, for the record.
        track: progress of what is timed.

    Raises:
        NotFound: a dataset of the settings is not here.
    """
    found = [
        _OnDataset.measure(registry, version, incumbent, one, settings) for one in _datasets(dataset, settings, find)
    ]
    exact, through = (_fresh(version.evaluation(dataset.name, dataset.protocol().name, via), dataset) for via in _VIA)
    serving, untimed = _serving(encoder, dataset, settings, threads, track)
    return Evidence(
        candidate=_name(version),
        incumbent=f"{version.registered.model}@{incumbent.version}" if incumbent else None,
        quality=tuple(quality for one in found for quality in one.quality),
        categories=tuple(category for one in found for category in one.categories),
        tagging=tuple(one.tagging for one in found if one.tagging is not None),
        serving=serving,
        untimed=untimed,
        parity=Parity(**version.registered.parity) if version.registered.parity else None,
        engines=_engines(registry, version, dataset, exact, settings, engines, threads, track),
        health=exact.details.get("health") if exact else None,
        qdrant=through.details if through else None,
        leakage={one.dataset: one.leakage for one in found},
        licences=Manifest.from_json(registry.artifacts.read(version.digest).decode()).licences,
        retired=version.retired,
        missing=tuple(one.missing for one in found if one.missing),
    )


_VIA = ("exact", "qdrant")


def _name(version: VersionState) -> str:
    return f"{version.registered.model}@{version.number}"


def _datasets(dataset: Dataset, settings: GateSettings, find: Callable[[str], Dataset] | None) -> list[Dataset]:
    others = [name for name in settings.datasets if name != dataset.name]
    if others and find is None:
        raise NotFound(f"gates.datasets names {', '.join(others)}, but no datasets can be looked up here")
    return [dataset, *(find(name) for name in others if find is not None)]


def _fresh(evaluation: Evaluated | None, dataset: Dataset) -> Evaluated | None:
    """An evaluation counts only on the dataset's present content."""
    return evaluation if evaluation is not None and evaluation.dataset_digest == dataset.digest else None


def _serving(
    encoder: Callable[[], Encoder] | None, dataset: Dataset, settings: GateSettings, threads: int, track: Track
) -> tuple[Serving | None, str]:
    """What the serving engine took, and, where it cannot be loaded here, why."""
    wanted = settings.max_latency_ms is not None or settings.min_photos_per_s is not None
    if encoder is None or not wanted:
        return None, ""
    try:
        loaded = encoder()
    except (NotFound, Unavailable) as error:
        return None, str(error)
    return measure_serving(loaded, dataset, dataset.catalogue_items(), threads, track), ""


def _engines(
    registry: Registry,
    version: VersionState,
    dataset: Dataset,
    exact: Evaluated | None,
    settings: GateSettings,
    folder: Path | None,
    threads: int,
    track: Track,
) -> tuple[Engine, ...]:
    """Engines built of this version on this machine; its files are opened only where there are any."""
    if folder is None or not any(record.key.digest == version.digest for _, record in all_records(folder)):
        return ()
    per_query = pq.read_table(registry.artifacts.path(exact.per_query)) if exact else None
    bundle = registry.open(_name(version))
    return built_engines(bundle, dataset, per_query, settings.metrics, engines=folder, threads=threads, track=track)


@dataclass(frozen=True)
class _OnDataset:
    """What is known of the candidate on one dataset."""

    dataset: str
    quality: tuple[Quality, ...] = ()
    categories: tuple[Category, ...] = ()
    tagging: Tagging | None = None
    leakage: Any = None
    missing: str = ""

    @staticmethod
    def measure(
        registry: Registry,
        version: VersionState,
        incumbent: Production | None,
        dataset: Dataset,
        settings: GateSettings,
    ) -> _OnDataset:
        """Read the newest exact evaluation under the default protocol, and pair it with the incumbent's."""
        name, protocol = _name(version), dataset.protocol().name
        exact = _fresh(version.evaluation(dataset.name, protocol, "exact"), dataset)
        if exact is None:
            again = f"vitrine evaluate {name} --dataset {dataset.name}"
            return _OnDataset(dataset.name, missing=f"{name} was not evaluated on {dataset.name} as it is now: {again}")
        both = _Both(registry, version, incumbent, dataset, exact)
        paired = [both.pairs(metric) for metric in settings.metrics]
        quality = [both.quality(metric, found) for metric, found in zip(settings.metrics, paired, strict=True)]
        categories = [] if paired[0] is None else _categories(paired[0], _grouping(dataset, settings))
        return _OnDataset(dataset.name, tuple(quality), tuple(categories), both.tagging(), exact.details.get("leakage"))


@dataclass(frozen=True)
class _Both:
    """A candidate's evaluation on one dataset, and the incumbent to pair it with."""

    registry: Registry
    version: VersionState
    incumbent: Production | None
    dataset: Dataset
    exact: Evaluated

    def pairs(self, metric: str) -> Pairs | None:
        """Query by query; None where there is no incumbent or it was not evaluated on the same queries."""
        if self.incumbent is None:
            return None
        protocol, rival = self.dataset.protocol().name, f"{self.version.registered.model}@{self.incumbent.version}"
        try:
            return pair(self.registry, _name(self.version), rival, self.dataset.name, metric, protocol)
        except (NotFound, BadInput):
            return None  # the gate turns a missing comparison into a refusal that says what to do

    def quality(self, metric: str, pairs: Pairs | None) -> Quality:
        """The candidate's own value, and the difference where it can be paired."""
        column = resolve_metric(metric)
        table = pq.read_table(self.registry.artifacts.path(self.exact.per_query))
        kind = str(table.column("unit_kind")[0].as_py()) if table.num_rows else "label"
        own = bootstrap_mean(_values(table, column), table.column("unit").to_pylist(), unit=kind)
        known = Quality(self.dataset.name, column, own, None, chance(self.dataset))
        return known if pairs is None else _paired(known, pairs)

    def tagging(self) -> Tagging | None:
        """The classifiers; None where there is no incumbent's evaluation to look at."""
        if self.incumbent is None:
            return None
        rival = self.registry.state().model(self.version.registered.model).versions[self.incumbent.version]
        other = _fresh(rival.evaluation(self.dataset.name, self.dataset.protocol().name, "exact"), self.dataset)
        if other is None:
            return None
        mine, theirs = (_OWN in one.metrics for one in (self.exact, other))
        pairs = self.pairs(_OWN) if mine and theirs else None
        if pairs is None:
            return Tagging(self.dataset.name, mine, theirs)
        own = bootstrap_mean(pairs.a, pairs.units, unit=pairs.unit)
        quality = _paired(Quality(self.dataset.name, _OWN, own, None, 0.0), pairs)
        return Tagging(self.dataset.name, mine, theirs, quality, tuple(_categories(pairs, {})))


def _values(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(table.column(column).to_numpy(zero_copy_only=False), dtype=np.float64)


def _paired(known: Quality, pairs: Pairs) -> Quality:
    difference: Interval = paired_bootstrap(pairs.a, pairs.b, pairs.units, unit=pairs.unit)
    return replace(known, difference=difference, sums=UnitSums.of(pairs.a - pairs.b, pairs.units))


def _grouping(dataset: Dataset, settings: GateSettings) -> Mapping[str, str]:
    """Query id -> category down to the level that the settings name; empty for labels."""
    if not settings.category_level:
        return {}
    return {item.item_id: " > ".join(item.category[: settings.category_level]) or item.label for item in dataset.items}


def _categories(pairs: Pairs, grouping: Mapping[str, str]) -> list[Category]:
    """Each category's differences; a query without a known difference belongs to none."""
    within = pairs.units_within()
    ids, labels = (pairs.table_a.column(name).to_pylist() for name in ("query_id", "label"))
    names = [grouping.get(query, label) for query, label in zip(ids, labels, strict=True)]
    return [_category(pairs, within, name, rows) for name, rows in sorted(_rows(names, pairs).items())]


def _rows(names: Sequence[str], pairs: Pairs) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(~np.isnan(pairs.a - pairs.b)).tolist():
        rows.setdefault(names[row], []).append(row)
    return rows


def _category(pairs: Pairs, within: Sequence[str], name: str, rows: Sequence[int]) -> Category:
    a, b = pairs.a[rows], pairs.b[rows]
    sums = UnitSums.of(a - b, [within[row] for row in rows])
    unit = "query" if pairs.unit == "label" else pairs.unit
    metric = pairs.column.replace("_correct", "/accuracy")
    return Category(pairs.evaluated.dataset, metric, name, unit, sums, float(a.mean()), float(b.mean()))


def chance(dataset: Dataset) -> float:
    """Precision of random order under the default protocol: mean share of relevant gallery items."""
    protocol = dataset.protocol()

    def key(item: Item) -> str:
        if protocol.relevance == "label":
            return item.label
        return f"product {item.product_id}" if item.product_id else f"unknown product of {item.item_id}"

    gallery = dataset.split(*protocol.gallery)
    counts = Counter(key(item) for item in gallery)
    members = {item.item_id for item in gallery}
    shares = []
    for item in dataset.split(*protocol.query):
        self_match = item.item_id in members
        relevant, others = counts[key(item)] - self_match, len(gallery) - self_match
        if relevant and others:
            shares.append(relevant / others)
    return float(np.mean(shares)) if shares else 0.0
