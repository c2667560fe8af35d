"""`vitrine evaluate --vectors`: anybody's embeddings, measured and compared without registering anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrine.cli.output import stdout, table
from vitrine.home import Home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.differences import MetricDifference
    from vitrine.evaluation import Evaluation, Via
    from vitrine.qdrant_plan import QdrantSettings
    from vitrine.ranking import Limits


def evaluate_files(
    home: Home,
    vectors: Path,
    labels: Path,
    baseline: Path | None,
    protocol: str | None,
    via: Sequence[Via],
    limits: Limits,
    per_query: Path | None,
    settings: QdrantSettings | None = None,
) -> tuple[list[Evaluation], list[MetricDifference]]:
    """Evaluate the vectors, and the baseline's exactly where there is one; an interrupted ranking goes on.

    Raises:
        BadInput, NotFound: see `vitrine.vector_files.read_vector_file`.
    """
    from vitrine.differences import metric_differences
    from vitrine.evaluation import per_query_parquet
    from vitrine.files import write_atomic

    found: list[Evaluation] = []
    for one in _evaluations(home, vectors, labels, protocol, via, limits, settings):
        if per_query is not None and not found:  # before Qdrant is asked, which may fail
            write_atomic(per_query, per_query_parquet(one))
        found.append(one)
    if baseline is None:
        return found, []
    (against,) = _evaluations(home, baseline, labels, protocol, via[:1], limits, settings)
    return found, metric_differences(found[0], against)


def named(evaluation: Evaluation, vectors: Path) -> dict[str, Any]:
    """An evaluation of a file as JSON; the file stands for the model."""
    from vitrine.evaluation import evaluation_to_json

    return evaluation_to_json(evaluation, vectors.name)


def differences_json(differences: Sequence[MetricDifference]) -> list[dict[str, Any]]:
    """Plain values; an unknown end of an interval is null."""
    from vitrine.evaluation import plain

    return [plain(asdict(one)) for one in differences]


def show_differences(differences: Sequence[MetricDifference], vectors: Path, baseline: Path) -> None:
    """A table of every metric against the baseline."""
    rows = [
        [
            one.metric,
            one.value_a,
            one.value_b,
            f"{one.difference:+.4f} [{one.ci95[0]:+.4f}, {one.ci95[1]:+.4f}]",
            one.p_holm,
            one.decision,
        ]
        for one in differences
    ]
    table(["metric", vectors.name, baseline.name, "difference", "p (Holm)", ""], rows, "Against the baseline")
    stdout.print("Paired by query; intervals 95 %, resampling units; p-values corrected for the number of metrics.")


def _evaluations(
    home: Home,
    vectors: Path,
    labels: Path,
    protocol: str | None,
    via: Sequence[Via],
    limits: Limits,
    settings: QdrantSettings | None,
) -> Iterator[Evaluation]:
    from vitrine.evaluator import evaluate_space
    from vitrine.vector_files import read_vector_file

    name = hashlib.sha256(f"{vectors.resolve()}\n{labels.resolve()}\n{protocol}".encode()).hexdigest()[:16]
    limits = replace(limits, resume=home.root / "unfinished" / name)
    space = read_vector_file(vectors, labels)
    for one in via:
        yield evaluate_space(
            space, protocol, one, qdrant_url=home.qdrant_url, settings=settings, limits=limits, track=bar
        )
