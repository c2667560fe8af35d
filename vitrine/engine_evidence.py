"""Engines that were built of a version on this machine, as the gates look at them.

Cosines judge fp32, fp16 and bf16. A coarser engine moves every vector, so what counts is whether it still finds the
right items: it ranks the dataset once more, and each query is paired with the reference's own value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from vitrine.bundle import Bundle, Parity
from vitrine.dataset import Dataset
from vitrine.embedding import EmbeddedDataset
from vitrine.encoder import Encoder, load_encoder
from vitrine.engines import EngineKey, all_records, backend
from vitrine.errors import NotFound, Unavailable
from vitrine.gates.engine import JUDGED_BY_COSINE
from vitrine.gates.evidence import Engine, Quality
from vitrine.metrics import resolve_metric
from vitrine.progress import Track, quiet
from vitrine.retrieval import Retrieval, retrieve
from vitrine.significance import UnitSums
from vitrine.stats import bootstrap_mean, paired_bootstrap


def built_engines(
    bundle: Bundle,
    dataset: Dataset,
    per_query: pa.Table | None,
    metrics: Sequence[str],
    *,
    engines: Path,
    threads: int = 2,
    track: Track = quiet,
) -> tuple[Engine, ...]:
    """Every engine of this content under `engines` for this machine, with its parity, and, where cosines do not suffice, its metrics.

    Args:
        bundle: the version.
        dataset: what a coarse engine is ranked on, by the default protocol.
        per_query: the reference's own values there; without them a coarse engine stays unjudged.
        metrics: that are compared.
        engines: `Home.engines`.
        threads: of a coarse engine.
        track: progress of embedding.
    """
    opened = partial(_load, bundle, engines, threads)
    digest = bundle.manifest.digest
    records = [record for _, record in all_records(engines) if record.key.digest == digest and _here(record.key)]
    found = []
    for record in records:
        coarse = record.key.precision not in JUDGED_BY_COSINE and per_query is not None
        ranked = _ranked(dataset, record.key, opened, track) if coarse else None
        quality = () if ranked is None or per_query is None else _compared(ranked, per_query, metrics)
        found.append(Engine(Parity(**record.parity), quality))
    return tuple(found)


def _here(key: EngineKey) -> bool:
    """Whether this machine would load it; files in a shared folder may be another machine's."""
    try:
        return backend(key.backend).target() == key.target
    except Unavailable:
        return False


def _load(bundle: Bundle, engines: Path, threads: int, key: EngineKey) -> Encoder:
    return load_encoder(bundle, backend=key.backend, precision=key.precision, threads=threads, engines=engines)


def _ranked(dataset: Dataset, key: EngineKey, load: Callable[[EngineKey], Encoder], track: Track) -> Retrieval | None:
    """The default protocol through this engine; None where this machine cannot load it."""
    try:
        encoder = load(key)
    except (NotFound, Unavailable):
        return None
    return retrieve(EmbeddedDataset(encoder, dataset, track=track), dataset.protocol(), track)


def _compared(ranked: Retrieval, per_query: pa.Table, metrics: Sequence[str]) -> tuple[Quality, ...]:
    """The engine's minus the reference's, query by query; the metric stays unpaired where the queries differ."""
    ids = [item.item_id for item in ranked.queries]
    place = {query: row for row, query in enumerate(per_query.column("query_id").to_pylist())}
    found = []
    for column in map(resolve_metric, metrics):
        mine = ranked.exact.metrics[column]
        own = bootstrap_mean(mine, ranked.units, unit=ranked.unit_kind)
        known = Quality(ranked.dataset.name, column, own, None, 0.0)
        if set(ids) == set(place) and column in per_query.column_names:
            values = np.asarray(per_query.column(column).to_numpy(zero_copy_only=False), np.float64)
            theirs = values[[place[query] for query in ids]]
            difference = paired_bootstrap(mine, theirs, ranked.units, unit=ranked.unit_kind)
            sums = UnitSums.of(mine - theirs, ranked.units)
            known = Quality(ranked.dataset.name, column, own, difference, 0.0, sums)
        found.append(known)
    return tuple(found)
