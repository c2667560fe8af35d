"""A registered version in, an evaluation out: what its embedding is worth, exactly and through Qdrant.

`exact` ranks the whole gallery and is the truth. `qdrant` searches the same vectors through Qdrant's graph
and says what that costs in quality. Every query keeps its own values, so that versions can be compared in pairs.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vitrine.bundle import Bundle
from vitrine.classifiers import Classified, classify_queries, most_confused
from vitrine.dataset import Dataset
from vitrine.diagnostics import diagnose
from vitrine.embedding import EmbeddedDataset, Space
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import BadInput
from vitrine.evaluate_qdrant import evaluate_through
from vitrine.evaluation import Evaluation, Via, evaluation_to_json, write_evaluation
from vitrine.items import EvalProtocol
from vitrine.progress import Track, quiet
from vitrine.qdrant_plan import QdrantSettings
from vitrine.ranking import Limits
from vitrine.retrieval import Retrieval, retrieve
from vitrine.score_intervals import score_intervals
from vitrine.stats import bootstrap_means

__all__ = ["Evaluation", "evaluate", "evaluate_all", "evaluation_to_json", "write_evaluation"]

Floats = NDArray[np.float64]

_BY_TITLE = Classified({}, dict.fromkeys(("own", "knn", "probe"), "not applicable: the queries are titles"))


def evaluate(
    encoder: Encoder,
    dataset: Dataset,
    protocol: str | None = None,
    via: Via = "exact",
    *,
    embedded: EmbeddedDataset | None = None,
    qdrant_url: str | None = None,
    settings: QdrantSettings | None = None,
    trained_on: Dataset | str | None = None,
    track: Track = quiet,
) -> Evaluation:
    """Measure one version under one protocol.

    Args:
        encoder: the loaded version.
        dataset: what it is measured on.
        via: `exact` or `qdrant`.
        protocol: by name; the dataset's default without.
        embedded: what was embedded already, to be shared by several calls.
        qdrant_url: a server for `via="qdrant"`; by default QDRANT_URL, without it the embedded engine.
        settings: of Qdrant's graph and search.
        trained_on: where copies of the queries are looked for; see `vitrine.diagnostics.diagnose`.
        track: progress.

    Raises:
        BadInput: unknown protocol or `via`, no items on one side, or no query has anything to find.
        Unsupported: the protocol asks by title, and the version reads no text.
        Unavailable: Qdrant cannot be reached or is not installed.
    """
    space = embedded or EmbeddedDataset(encoder, dataset, track=track)
    return evaluate_space(
        space, protocol, via, qdrant_url=qdrant_url, settings=settings, trained_on=trained_on, track=track
    )


def evaluate_space(
    space: Space,
    protocol: str | None = None,
    via: Via = "exact",
    *,
    qdrant_url: str | None = None,
    settings: QdrantSettings | None = None,
    limits: Limits | None = None,
    trained_on: Dataset | str | None = None,
    track: Track = quiet,
) -> Evaluation:
    """As `evaluate`, of vectors from wherever they come.

    Args:
        space: the vectors with their dataset.
        protocol: by name; the dataset's default without.
        via: `exact` or `qdrant`.
        qdrant_url: a server for `via="qdrant"`; by default QDRANT_URL, without it the embedded engine.
        settings: of Qdrant's graph and search.
        track: progress.
        limits: threads and memory of the exact ranking, and where an interrupted one goes on from.
        trained_on: where copies of the queries are looked for; see `vitrine.diagnostics.diagnose`.
    """
    if via not in ("exact", "qdrant"):
        raise BadInput(f"via {via!r} is none of exact, qdrant", field="via")
    task = _ranked(space, space.dataset.protocol(protocol), track, limits)
    if via == "exact":
        return _evaluate_exact(task, space, trained_on, track)
    url = os.environ.get("QDRANT_URL", "") if qdrant_url is None else qdrant_url
    return _evaluate_qdrant(task, url, settings or QdrantSettings(), track)


def _ranked(space: Space, protocol: EvalProtocol, track: Track, limits: Limits | None) -> Retrieval:
    """The exact ranking; the last one is kept, for the same protocol through Qdrant."""
    kept = space.shared.get("ranked")
    if not isinstance(kept, Retrieval) or kept.protocol != protocol:
        space.shared.pop("ranked", None)
        kept = space.shared["ranked"] = retrieve(space, protocol, track, limits)
    return kept


def evaluate_all(
    bundle: Bundle,
    dataset: Dataset,
    *,
    threads: int = 2,
    qdrant_url: str | None = None,
    trained_on: Dataset | str | None = None,
    track: Track = quiet,
) -> dict[str, Evaluation]:
    """Every evaluation of a version on a dataset, each item embedded once; nothing is written.

    Returns:
        `exact` (default protocol), `exact--PROTOCOL` (each other one), `qdrant` (default protocol). Protocols after
        the first that ask by title are left out for a version that reads no text.
    """
    encoder = load_encoder(bundle, threads=threads)
    embedded = EmbeddedDataset(encoder, dataset, track=track)
    found: dict[str, Evaluation] = {}
    for number, protocol in enumerate(dataset.protocols):
        if number and protocol.ask_by == "title" and not encoder.reads_text:
            continue
        stem = "exact" if number == 0 else f"exact--{protocol.name}"
        found[stem] = evaluate_space(embedded, protocol.name, "exact", trained_on=trained_on, track=track)
        if number == 0:
            found["qdrant"] = evaluate_space(embedded, protocol.name, "qdrant", qdrant_url=qdrant_url, track=track)
    found["qdrant"] = found.pop("qdrant")  # last, although it was measured while the ranking was at hand
    return found


def _evaluate_exact(task: Retrieval, space: Space, trained_on: Dataset | str | None, track: Track) -> Evaluation:
    by_image = task.protocol.ask_by == "image"
    classified = classify_queries(space, task.protocol, task.queries, track) if by_image else _BY_TITLE
    scores = classified.scores
    extra: dict[str, Any] = {f"{name}_correct": score.correct for name, score in scores.items()}
    extra |= {f"{name}_answer": list(score.answers) for name, score in scores.items()}
    diagnosed = diagnose(task, space, trained_on, track)
    details: dict[str, Any] = {
        **diagnosed,
        "warnings": [*diagnosed["warnings"], *classified.warnings],
        "classification": classified.said,
        "confusions": {name: most_confused(score, task.queries) for name, score in scores.items()},
        "label_curve": [asdict(point) for point in classified.curve],
        "engine": space.engine,
        "timing": {
            "embed_seconds": space.seconds,
            "photos": space.photos,
            "titles": space.titles,
            "rank_seconds": task.seconds,
        },
    }
    found = _evaluation(task, "exact", task.exact.metrics, task.exact.top_rows, details, extra)
    for name, score in scores.items():
        found.metrics.update(score.named(name))
        intervals = score_intervals([item.label for item in task.queries], score, task.units, unit=task.unit_kind)
        found.intervals |= {f"{name}/{key}": interval for key, interval in intervals.items()}
    return found


def _evaluate_qdrant(task: Retrieval, url: str, settings: QdrantSettings, track: Track) -> Evaluation:
    found = evaluate_through(task, url, settings, track)
    return _evaluation(task, "qdrant", found.metrics, found.top_rows, found.details, {})


def _evaluation(
    task: Retrieval,
    via: Via,
    columns: dict[str, Floats],
    top_rows: NDArray[np.int64],
    details: dict[str, Any],
    extra: dict[str, Any],
) -> Evaluation:
    units = task.units
    ids = [item.item_id for item in task.gallery]
    table = pa.table(
        {
            "query_id": [item.item_id for item in task.queries],
            "unit": units,
            "unit_kind": [task.unit_kind] * len(units),
            "label": [item.label for item in task.queries],
            "title": [item.title.strip() for item in task.queries],
            "hits": pa.array([[ids[row] for row in found if row >= 0] for found in top_rows], pa.list_(pa.string())),
            **columns,
            **extra,
        }
    )
    intervals = bootstrap_means(columns, units, unit=task.unit_kind)
    return Evaluation(
        dataset=task.dataset.name,
        dataset_digest=task.dataset.digest,
        protocol=task.protocol.name,
        via=via,
        metrics={name: interval.value for name, interval in intervals.items()},
        queries=len(task.queries),
        gallery=len(task.gallery),
        per_query=table,
        details=details,
        intervals=intervals,
        skipped=int((task.exact.n_relevant == 0).sum()),
        unit=task.unit_kind,
        units=len({unit for unit, right in zip(units, task.exact.n_relevant, strict=True) if right}),
    )
