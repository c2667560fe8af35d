"""An evaluation as a value, and as files: JSON for the figures, parquet for every query's own values."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from vitrine.files import write_atomic, write_json
from vitrine.stats import Interval

if TYPE_CHECKING:
    from vitrine.events import Evaluated
    from vitrine.registry import Registry

Via = Literal["exact", "qdrant"]


@dataclass
class Evaluation:
    """One version on one dataset under one protocol.

    Attributes:
        via: `exact` or `qdrant`.
        metrics: name -> mean over the queries that have something to find.
        intervals: 95 % intervals of those metrics that have a value a query, resampling units.
        queries, gallery: how many of each; `skipped` queries have nothing to find.
        unit: what the intervals resample, `product_id` or `label`; `units` says how many have something to find.
        per_query: query_id, unit, unit_kind, label, title, hits (top 10 ids), one column a metric.
        details: health, classification, engine figures; durations are under `timing`.
    """

    dataset: str
    dataset_digest: str
    protocol: str
    via: Via
    metrics: dict[str, float]
    queries: int
    gallery: int
    per_query: pa.Table
    details: dict[str, Any]
    intervals: dict[str, Interval] = field(default_factory=dict)
    skipped: int = 0
    unit: str = "label"
    units: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """What the registry keeps as details: no durations, so that the same result again is the same fact."""
        kept: dict[str, Any] = plain(
            {
                **{key: part for key, part in self.details.items() if key != "timing"},
                "intervals": _ends(self.intervals),
                "skipped": self.skipped,
                "unit": self.unit,
                "units": self.units,
            }
        )
        return kept


def evaluation_to_json(
    evaluation: Evaluation, model: str | None = None, version: int | None = None, digest: str | None = None
) -> dict[str, Any]:
    """Everything but the queries' own values as plain JSON; a number that is unknown is null.

    The same version on the same data gives the same value but for `details.timing`.
    """
    value: dict[str, Any] = plain(
        {
            "dataset": evaluation.dataset,
            "dataset_digest": evaluation.dataset_digest,
            "protocol": evaluation.protocol,
            "via": evaluation.via,
            "model": model,
            "version": version,
            "digest": digest,
            "metrics": evaluation.metrics,
            "intervals": _ends(evaluation.intervals),
            "queries": evaluation.queries,
            "gallery": evaluation.gallery,
            "skipped": evaluation.skipped,
            "unit": evaluation.unit,
            "units": evaluation.units,
            "details": evaluation.details,
        }
    )
    return value


def write_evaluation(
    folder: Path,
    stem: str,
    evaluation: Evaluation,
    model: str | None = None,
    version: int | None = None,
    digest: str | None = None,
) -> dict[str, Any]:
    """Write `STEM.parquet` and, last, `STEM.json`, each whole or not at all; returns what the JSON holds."""
    write_atomic(folder / f"{stem}.parquet", per_query_parquet(evaluation))
    value = evaluation_to_json(evaluation, model, version, digest)
    write_json(folder / f"{stem}.json", value)
    return value


def per_query_parquet(evaluation: Evaluation) -> bytes:
    """The per-query table as the bytes of a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(evaluation.per_query, buffer)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """JSON's own types only: numpy numbers become Python's, numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: [interval.low, interval.high] for name, interval in intervals.items()}


def record(
    registry: Registry, model: str, version: int, evaluation: Evaluation, per_query: Path, why: str = ""
) -> Evaluated:
    """Put an evaluation and its per-query parquet file into the registry; a repeat changes nothing."""
    return registry.record_evaluation(
        model,
        version,
        dataset=evaluation.dataset,
        dataset_digest=evaluation.dataset_digest,
        protocol=evaluation.protocol,
        via=evaluation.via,
        metrics=evaluation.metrics,
        queries=evaluation.queries,
        gallery=evaluation.gallery,
        per_query_path=per_query,
        details=evaluation.record,
        why=why,
    )
