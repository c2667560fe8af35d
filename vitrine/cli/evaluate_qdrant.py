"""The Qdrant side of `vitrine evaluate`: its options, and what is printed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import stdout
from vitrine.errors import BadInput

if TYPE_CHECKING:
    from vitrine.qdrant_plan import QdrantSettings


class Quantization(StrEnum):
    """How Qdrant compresses vectors."""

    none = "none"
    scalar = "scalar"
    turbo = "turbo"
    binary = "binary"


HnswM = Annotated[int | None, typer.Option("--hnsw-m", min=2, help="Qdrant: links a point keeps; by default 16.")]
HnswEf = Annotated[
    int | None, typer.Option("--hnsw-ef", min=1, help="Qdrant: candidates looked at in a search; by default 128.")
]
Quantized = Annotated[
    Quantization | None,
    typer.Option("--quantization", help="Qdrant: how vectors are compressed; by default not at all."),
]
Oversampling = Annotated[
    float | None,
    typer.Option("--oversampling", min=1, help="Qdrant: compressed candidates fetched per answer; by default 2."),
]


def settings_of(
    m: int | None, ef: int | None, quantization: Quantization | None, oversampling: float | None, searched: bool
) -> QdrantSettings | None:
    """The settings that were asked for; None where no option was given.

    Raises:
        BadInput: an option although Qdrant is not searched, or a value out of range.
    """
    from vitrine.qdrant_plan import QdrantSettings

    kind = None if quantization is None else quantization.value
    given = {"--hnsw-m": m, "--hnsw-ef": ef, "--quantization": kind, "--oversampling": oversampling}
    options = [option for option, value in given.items() if value is not None]
    if not options:
        return None
    if not searched:
        raise BadInput(f"{options[0]} goes with --via qdrant or --via both", field=options[0])
    named: dict[str, Any] = {"m": m, "ef": ef, "quantization": kind, "oversampling": oversampling}
    return QdrantSettings(**{name: value for name, value in named.items() if value is not None})


def show_engine(details: dict[str, Any]) -> None:
    """What the graph found, overall and behind filters, and what it took."""
    timing, low_high = details["timing"], _interval(details["recall_interval"])
    stdout.print(
        f"{details['engine']}, graph: {details['graph']} over {details['indexed_vectors']} vectors, finds "
        f"{details['recall_against_exact@10']:.4f}{low_high} of the exact ten nearest, its own full scan "
        f"{details['engine_exact']['recall_against_exact@10']:.4f}.",
        markup=False,
    )
    for one in details["filtered"]:
        share = f"{one['selectivity']:.0%}"
        said = one.get("skipped") or f"{one['recall_against_exact@10']:.4f}{_interval(one['recall_interval'])}"
        stdout.print(f"Behind a filter that leaves {share}: {said}", markup=False)
    waited, memory = timing["latency_ms"], timing["memory"]
    size = memory["disk_bytes_per_vector"]
    stdout.print(
        f"Built in {timing['build_seconds']:.1f} s; p50 {waited['p50']:.2f} ms, p95 {waited['p95']:.2f} ms, "
        f"p99 {waited['p99']:.2f} ms a query" + ("." if size is None else f"; {size:,.0f} bytes a vector on disk.")
    )


def _interval(ends: list[float | None]) -> str:
    low, high = ends
    return "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
