"""The gate of a built engine: its vectors beside those of the same version in float32, on rows it was not built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.bundle import Bundle, Parity
from vitrine.errors import Refused
from vitrine.parity import neighbour_overlap
from vitrine.ports import Engine, GraphRows, Precision, Vectors

_BATCH = 16


@dataclass(frozen=True)
class Limit:
    """What an engine has to keep: the worst row's cosine, and the mean share of common ten nearest neighbours."""

    min_cosine: float
    top10_overlap: float


LIMITS: Mapping[Precision, Limit] = {
    "fp32": Limit(0.9999, 0.99),  # TensorFloat-32 products are allowed
    "fp16": Limit(0.999, 0.97),
    "bf16": Limit(0.99, 0.9),
    "int8": Limit(0.95, 0.85),
}
"""Rounding of each precision allows this much; what it costs in retrieval is measured in benchmarks/int8.md."""


def compare_engines(bundle: Bundle, reference: Engine, engine: Engine, rows: GraphRows) -> Parity:
    """Run both on the same rows of every graph; of each figure the worst graph's.

    Raises:
        Refused: a value is not finite, or a figure is under the precision's limit; the message holds both numbers.
    """
    found = {graph: _compare(bundle, graph, reference, engine, some) for graph, some in rows.items()}
    cosine, overlap = (min(pair[place] for pair in found.values()) for place in (0, 1))
    limit = LIMITS[_precision(engine)]
    if not (cosine >= limit.min_cosine and overlap >= limit.top10_overlap):  # also catches NaN
        raise Refused(
            f"the {engine.name} {engine.precision} engine is too far from {reference.name} {reference.precision}: worst cosine "
            f"{cosine:.5f} (at least {limit.min_cosine} is needed), {overlap:.3f} of the ten nearest neighbours in common (at "
            f"least {limit.top10_overlap}); nothing was kept. Use another precision for this version"
        )
    return Parity(
        reference=f"{reference.name} {reference.precision}",
        engine=engine.name,
        precision=engine.precision,
        images=len(rows.get("image", ())),
        min_cosine=round(min(cosine, 1.0), 6),
        top10_overlap=round(overlap, 6),
        texts=len(rows.get("text", ())),
    )


def embeddings(bundle: Bundle, graph: str, engine: Engine, rows: NDArray[np.generic]) -> Vectors:
    """Unit vectors (N, D) that an engine gives for the rows of a graph."""
    told = bundle.manifest.graphs[graph]
    output = told.output("embedding")
    assert output is not None  # a version's graphs all end in an embedding
    name = told.inputs[0].name
    parts = [engine.run(graph, {name: rows[at : at + _BATCH]})[output.name] for at in range(0, len(rows), _BATCH)]
    vectors: Vectors = np.concatenate(parts)
    return vectors


def _compare(
    bundle: Bundle, graph: str, reference: Engine, engine: Engine, rows: NDArray[np.generic]
) -> tuple[float, float]:
    ours, theirs = (embeddings(bundle, graph, one, rows) for one in (engine, reference))
    cosines = (ours.astype(np.float64) * theirs).sum(axis=1)
    if not np.isfinite(cosines).all():
        return float("nan"), 0.0
    return float(cosines.min()), neighbour_overlap(theirs, ours)


def _precision(engine: Engine) -> Precision:
    return next(known for known in LIMITS if known == engine.precision)
