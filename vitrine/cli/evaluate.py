"""`vitrine evaluate` and `vitrine compare`: what a version is worth, and whether it beats another."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import CsvFile, Json, emit, stdout, table, write_csv
from vitrine.home import find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.compare import Comparison
    from vitrine.evaluation import Evaluation
    from vitrine.registry import Registry

app = typer.Typer()

Dataset = Annotated[str, typer.Option("--dataset", help="An imported dataset; see: vitrine data ls")]
Protocol = Annotated[str | None, typer.Option("--protocol", help="By default the dataset's first one.")]


class Search(StrEnum):
    """How the gallery is searched."""

    exact = "exact"
    qdrant = "qdrant"
    both = "both"


class Through(StrEnum):
    """Which evaluations are compared."""

    exact = "exact"
    qdrant = "qdrant"


@app.command()
def evaluate(
    ref: Annotated[str, typer.Argument(help="NAME@7, NAME@alias, or NAME.")],
    dataset: Dataset,
    protocol: Protocol = None,
    via: Annotated[
        Search, typer.Option("--via", help="Exact search, Qdrant (QDRANT_URL, else the embedded engine), or both.")
    ] = Search.both,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine.")] = 2,
    csv: CsvFile = None,
    as_json: Json = False,
) -> None:
    """Measure a registered version on a dataset and keep the result, every query's own values with it.

    --json prints the first evaluation (exact, where asked for), and all of them under `evaluations`.
    """
    from vitrine.dataset import find_dataset
    from vitrine.embedding import EmbeddedDataset
    from vitrine.encoder import load_encoder
    from vitrine.evaluation import evaluation_to_json
    from vitrine.evaluator import evaluate as measure
    from vitrine.registry import open_registry

    home = find_home()
    registry, data = open_registry(home), find_dataset(home, dataset)
    version = registry.resolve(ref)
    name = version.registered.model
    chosen = data.protocol(protocol)
    encoder = load_encoder(registry.open(ref), threads=threads)
    embedded = EmbeddedDataset(encoder, data, track=bar)
    found: list[dict[str, Any]] = []
    for one in ("exact", "qdrant") if via is Search.both else (via.value,):
        evaluation = measure(
            encoder,
            data,
            chosen.name,
            "qdrant" if one == "qdrant" else "exact",
            embedded=embedded,
            qdrant_url=home.qdrant_url,
            track=bar,
        )
        _record(registry, name, version.number, evaluation)
        found.append(evaluation_to_json(evaluation, name, version.number, version.digest))
    if csv is not None:
        rows = [[one["via"], name, value, *_ends(one, name)] for one in found for name, value in one["metrics"].items()]
        write_csv(csv, ["via", "metric", "value", "ci95_low", "ci95_high"], rows)
    emit({**found[0], "evaluations": found}, as_json, lambda: _show(found))


@app.command()
def compare(
    ref_a: Annotated[str, typer.Argument(metavar="REF", help="The version in question.")],
    ref_b: Annotated[str, typer.Argument(metavar="REF", help="What it is compared with.")],
    dataset: Dataset,
    metric: Annotated[str, typer.Option("--metric", help="Such as mmp@5, mr@1, map@10 or own/accuracy.")] = "mmp@5",
    protocol: Protocol = None,
    via: Annotated[Through, typer.Option("--via", help="Which evaluations to compare.")] = Through.exact,
    csv: CsvFile = None,
    as_json: Json = False,
) -> None:
    """The paired difference of two evaluated versions with its 95 % interval, over all and per category."""
    from vitrine.compare import compare as paired
    from vitrine.registry import open_registry

    found = paired(open_registry(find_home()), ref_a, ref_b, dataset, metric, protocol, via.value)
    if csv is not None:
        rows = [list(vars(one).values()) for one in found.by_label]
        write_csv(csv, ["label", "queries", "value_a", "value_b", "difference", "p_holm"], rows)
    emit(found.as_json(), as_json, lambda: _show_comparison(found))


def _record(registry: Registry, model: str, version: int, evaluation: Evaluation) -> None:
    from vitrine.evaluation import per_query_parquet, record

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "per-query.parquet"
        path.write_bytes(per_query_parquet(evaluation))
        record(registry, model, version, evaluation, path)


def _show(found: list[dict[str, Any]]) -> None:
    first = found[0]
    stdout.print(
        f"{first['model']}@{first['version']} on {first['dataset']}/{first['protocol']}: {first['queries']} queries "
        f"({first['skipped']} with nothing to find), gallery of {first['gallery']}"
    )
    names = list(dict.fromkeys(name for one in found for name in one["metrics"]))
    rows = [[name, *(_cell(one, name) for one in found)] for name in names]
    table(["metric", *(one["via"] for one in found)], rows)
    stdout.print(f"Intervals: 95 %, resampling {first['units']} units ({first['unit']}).")
    for one in found:
        if one["via"] == "qdrant":
            _show_engine(one["details"])


def _cell(one: dict[str, Any], name: str) -> str:
    value = one["metrics"].get(name)
    if value is None:
        return "-"
    low, high = _ends(one, name)
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _ends(one: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    low, high = one["intervals"].get(name, (None, None))
    return low, high


def _show_engine(details: dict[str, Any]) -> None:
    timing = details["timing"]
    stdout.print(
        f"{details['engine']}, graph: {details['graph']} over {details['indexed_vectors']} vectors, finds "
        f"{details['recall_against_exact@10']:.4f} of the exact ten nearest; built in {timing['build_seconds']:.1f} s, "
        f"p50 {timing['latency_ms']['p50']:.2f} ms, p95 {timing['latency_ms']['p95']:.2f} ms a query."
    )


def _show_comparison(found: Comparison) -> None:
    low, high = found.ci95
    stdout.print(
        f"{found.metric} on {found.dataset}/{found.protocol} via {found.via}: "
        f"{found.a} {found.value_a:.4f}, {found.b} {found.value_b:.4f}",
        markup=False,  # a metric's name may end in [/R]
    )
    stdout.print(
        f"difference {found.difference:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}] over {found.n_units} units "
        f"({found.unit}), {found.n_queries} queries: {found.decision}"
    )
    stdout.print(
        f"permutation test p = {found.p_value:.4f}; this sample shows true differences from "
        f"{found.detectable:.4f} on with 80 % power"
    )
    shown = [one for one in found.by_label if one.difference]
    if shown:
        worst, best = shown[:5], shown[5:][-5:]
        rows = [
            [one.label, one.queries, one.value_a, one.value_b, one.difference, one.p_holm] for one in [*worst, *best]
        ]
        table(["category", "queries", found.a, found.b, "difference", "p (Holm)"], rows, "Largest losses and gains")
