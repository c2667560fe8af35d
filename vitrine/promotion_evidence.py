"""Collects what the gates look at: evaluations, paired differences, parity, health, Qdrant figures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq

from vitrine.bundle import Parity
from vitrine.compare import compare
from vitrine.dataset import Dataset
from vitrine.errors import BadInput, NotFound
from vitrine.events import Evaluated
from vitrine.gates import Evidence, GateSettings, Quality
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.metrics import resolve_metric
from vitrine.registry import Registry
from vitrine.stats import Interval, bootstrap_mean


def gather_evidence(
    registry: Registry,
    version: VersionState,
    incumbent: Production | None,
    dataset: Dataset,
    settings: GateSettings,
) -> Evidence:
    """Everything known of `version` on `dataset`, paired with the incumbent where there is one."""
    name = f"{version.registered.model}@{version.number}"
    protocol = dataset.protocol().name
    exact = _fresh(version.evaluation(dataset.name, protocol, "exact"), dataset)
    through = _fresh(version.evaluation(dataset.name, protocol, "qdrant"), dataset)
    rival = f"{version.registered.model}@{incumbent.version}" if incumbent else None
    missing = (
        ()
        if exact
        else (
            f"{name} was not evaluated on {dataset.name} as it is now: vitrine evaluate {name} --dataset {dataset.name}",
        )
    )
    return Evidence(
        candidate=name,
        incumbent=rival,
        quality=tuple(_quality(registry, name, rival, exact, dataset, m) for m in settings.metrics) if exact else (),
        parity=Parity(**version.registered.parity) if version.registered.parity else None,
        health=exact.details.get("health") if exact else None,
        qdrant=through.details if through else None,
        retired=version.retired,
        missing=missing,
    )


def _fresh(evaluation: Evaluated | None, dataset: Dataset) -> Evaluated | None:
    """An evaluation counts only on the dataset's present content."""
    return evaluation if evaluation is not None and evaluation.dataset_digest == dataset.digest else None


def _quality(
    registry: Registry, name: str, rival: str | None, exact: Evaluated, dataset: Dataset, metric: str
) -> Quality:
    column = resolve_metric(metric)
    table = pq.read_table(registry.artifacts.path(exact.per_query))
    values = np.asarray(table.column(column).to_numpy(zero_copy_only=False), dtype=np.float64)
    units: list[str] = table.column("unit").to_pylist()
    kind = str(table.column("unit_kind")[0].as_py()) if table.num_rows else "label"
    own = bootstrap_mean(values, units, unit=kind)
    return Quality(dataset.name, column, own, _difference(registry, name, rival, dataset, column), chance(dataset))


def _difference(registry: Registry, name: str, rival: str | None, dataset: Dataset, metric: str) -> Interval | None:
    if rival is None:
        return None
    try:
        found = compare(registry, name, rival, dataset.name, metric=metric, protocol=dataset.protocol().name)
    except (NotFound, BadInput):
        return None  # the gate turns a missing comparison into a refusal that says what to do
    low, high = found.ci95
    return Interval(found.difference, low, high, found.n_units, found.n_queries, found.unit)


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
