"""`vitrine evaluate` and `vitrine compare`: what a version is worth, and whether it beats another."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vitrine.cli import evaluate_qdrant as qdrant
from vitrine.cli.output import CsvFile, Json, emit, stdout, table, write_csv
from vitrine.errors import BadInput
from vitrine.home import find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.compare import Comparison
    from vitrine.differences import MetricDifference
    from vitrine.evaluation import Evaluation, Via
    from vitrine.qdrant_plan import QdrantSettings
    from vitrine.ranking import Limits
    from vitrine.registry import Registry

_T = TypeVar("_T")
_HARDEST = 5

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
    ref: Annotated[str | None, typer.Argument(help="NAME@7, NAME@alias, or NAME; none with --vectors.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="An imported dataset; see: vitrine data ls")] = None,
    protocol: Protocol = None,
    via: Annotated[
        Search | None,
        typer.Option(
            "--via",
            help="Exact search, Qdrant (QDRANT_URL, else the embedded engine), or both; by default both, with --vectors exact.",
        ),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="Measure these vectors instead: a .npy file (rows, D).")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV, one line a vector: item_id,label[,product_id,category,title,split]."),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Vectors of the present search, to compare --vectors with.")
    ] = None,
    per_query: Annotated[
        Path | None, typer.Option("--per-query", help="Write every query's own values to this parquet file.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine and of the ranking.")] = 2,
    memory_mb: Annotated[
        float, typer.Option("--memory-mb", min=1, help="For the scores of one block of the ranking, a thread.")
    ] = 128,
    hnsw_m: qdrant.HnswM = None,
    hnsw_ef: qdrant.HnswEf = None,
    quantization: qdrant.Quantized = None,
    oversampling: qdrant.Oversampling = None,
    csv: CsvFile = None,
    as_json: Json = False,
) -> None:
    """Measure a registered version on a dataset and keep the result, every query's own values with it.

    With --vectors and --labels anybody's embeddings are measured, and nothing is kept but what --csv and --per-query
    write; an interrupted run goes on when repeated. --json prints the first evaluation (exact, where asked for), and
    all of them under `evaluations`. What was searched with --hnsw-m, --hnsw-ef, --quantization or --oversampling is
    shown and not kept: promotions look at the default settings.
    """
    from vitrine.ranking import Limits

    ways = _ways(via or (Search.both if vectors is None else Search.exact))
    limits = Limits(threads=threads, memory_mb=memory_mb)
    settings = qdrant.settings_of(hnsw_m, hnsw_ef, quantization, oversampling, "qdrant" in ways)
    differences: list[MetricDifference] = []
    if vectors is None:
        for option, given in (("--labels", labels), ("--baseline", baseline), ("--per-query", per_query)):
            if given is not None:
                raise BadInput(f"{option} goes with --vectors FILE.npy", field=option)
        found = _evaluate_version(_needed(ref, "REF"), _needed(dataset, "--dataset"), protocol, ways, limits, settings)
    else:
        from vitrine.cli import evaluate_vectors as files

        if ref is not None or dataset is not None:
            raise BadInput("--vectors measures a file: give neither REF nor --dataset, only --labels FILE.csv")
        evaluations, differences = files.evaluate_files(
            find_home(), vectors, _needed(labels, "--labels"), baseline, protocol, ways, limits, per_query, settings
        )
        found = [files.named(one, vectors) for one in evaluations]
    if csv is not None:
        rows = [[one["via"], name, value, *_ends(one, name)] for one in found for name, value in one["metrics"].items()]
        write_csv(csv, ["via", "metric", "value", "ci95_low", "ci95_high"], rows)
    _print(found, differences, vectors, baseline, as_json)


def _ways(via: Search) -> list[Via]:
    return ["exact", "qdrant"] if via is Search.both else ["exact" if via is Search.exact else "qdrant"]


def _needed(value: _T | None, name: str) -> _T:
    if value is None:
        raise BadInput(
            f"{name} is missing; measure a version: vitrine evaluate REF --dataset NAME, "
            "or a file: vitrine evaluate --vectors FILE.npy --labels FILE.csv",
            field=name,
        )
    return value


def _print(
    found: list[dict[str, Any]],
    differences: list[MetricDifference],
    vectors: Path | None,
    baseline: Path | None,
    as_json: bool,
) -> None:
    from vitrine.cli import evaluate_vectors as files

    def show() -> None:
        _show(found)
        if vectors is not None and baseline is not None:
            files.show_differences(differences, vectors, baseline)

    extra = {"differences": files.differences_json(differences)} if baseline is not None else {}
    emit({**found[0], "evaluations": found, **extra}, as_json, show)


def _evaluate_version(
    ref: str, dataset: str, protocol: str | None, ways: list[Via], limits: Limits, settings: QdrantSettings | None
) -> list[dict[str, Any]]:
    """Measure a registered version each way; recorded is what was not searched with special settings."""
    from vitrine.dataset import find_dataset
    from vitrine.embedding import EmbeddedDataset
    from vitrine.encoder import load_encoder
    from vitrine.evaluation import evaluation_to_json
    from vitrine.evaluator import evaluate_space
    from vitrine.leakage import training_dataset
    from vitrine.registry import open_registry

    home = find_home()
    registry, data = open_registry(home), find_dataset(home, dataset)
    version = registry.resolve(ref)
    name = version.registered.model
    bundle = registry.open(ref)
    space = EmbeddedDataset(load_encoder(bundle, threads=limits.threads or 2), data, track=bar)
    trained_on = training_dataset(bundle.lineage, data, lambda other: find_dataset(home, other))
    found: list[dict[str, Any]] = []
    for one in ways:
        evaluation = evaluate_space(
            space,
            protocol,
            one,
            qdrant_url=home.qdrant_url,
            settings=settings,
            limits=limits,
            trained_on=trained_on,
            track=bar,
        )
        if one == "exact" or settings is None:
            _record(registry, name, version.number, evaluation)
        found.append(evaluation_to_json(evaluation, name, version.number, version.digest))
    return found


@app.command()
def compare(
    ref_a: Annotated[str, typer.Argument(metavar="REF", help="The version in question.")],
    ref_b: Annotated[str, typer.Argument(metavar="REF", help="What it is compared with.")],
    dataset: Dataset,
    metric: Annotated[str, typer.Option("--metric", help="Such as mmp@5, mr@1, map@10 or own/accuracy.")] = "mmp@5",
    protocol: Protocol = None,
    via: Annotated[Through, typer.Option("--via", help="Which evaluations to compare.")] = Through.exact,
    detect: Annotated[
        float | None, typer.Option("--detect", help="Say how many units would show a true difference of this size.")
    ] = None,
    csv: CsvFile = None,
    as_json: Json = False,
) -> None:
    """The paired difference of two evaluated versions with its 95 % interval, over all and per category."""
    from vitrine.compare import compare as paired
    from vitrine.registry import open_registry

    found = paired(open_registry(find_home()), ref_a, ref_b, dataset, metric, protocol, via.value, detect)
    if csv is not None:
        rows = [list(vars(one).values()) for one in found.by_label]
        write_csv(csv, ["label", "queries", "value_a", "value_b", "difference", "p_holm"], rows)
    emit(found.as_json(), as_json, lambda: _show_comparison(found, detect))


def _record(registry: Registry, model: str, version: int, evaluation: Evaluation) -> None:
    from vitrine.evaluation import per_query_parquet, record

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "per-query.parquet"
        path.write_bytes(per_query_parquet(evaluation))
        record(registry, model, version, evaluation, path)


def _show(found: list[dict[str, Any]]) -> None:
    first = found[0]
    stdout.print(
        f"{_who(first)} on {first['dataset']}/{first['protocol']}: {first['queries']} queries "
        f"({first['skipped']} with nothing to find), gallery of {first['gallery']}"
    )
    names = list(dict.fromkeys(name for one in found for name in one["metrics"]))
    rows = [[name, *(_cell(one, name) for one in found)] for name in names]
    table(["metric", *(one["via"] for one in found)], rows)
    stdout.print(f"Intervals: 95 %, resampling {first['units']} units ({first['unit']}).")
    for one in found:
        if one["via"] == "qdrant":
            qdrant.show_engine(one["details"])
        else:
            _show_weak_spots(one["details"])


def _show_weak_spots(details: dict[str, Any]) -> None:
    hardest = [one["query_id"] for one in details["hardest"][:_HARDEST]]
    if hardest:
        stdout.print(f"Hardest queries: {', '.join(hardest)}; more in --json under details.hardest.", markup=False)
    for sentence in details["warnings"]:
        stdout.print(f"Warning: {sentence}.", markup=False)


def _who(one: dict[str, Any]) -> str:
    """A version's reference, or the file that was measured."""
    return str(one["model"]) if one["version"] is None else f"{one['model']}@{one['version']}"


def _cell(one: dict[str, Any], name: str) -> str:
    value = one["metrics"].get(name)
    if value is None:
        return "-"
    low, high = _ends(one, name)
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _ends(one: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    low, high = one["intervals"].get(name, (None, None))
    return low, high


def _show_comparison(found: Comparison, detect: float | None) -> None:
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
    if detect is not None:
        needed = "more than the one there is" if found.needed_units is None else str(found.needed_units)
        stdout.print(f"a true difference of {detect:g} would be shown by {needed} units ({found.unit})")
    shown = [one for one in found.by_label if one.difference]
    if shown:
        worst, best = shown[:5], shown[5:][-5:]
        rows = [
            [one.label, one.queries, one.value_a, one.value_b, one.difference, one.p_holm] for one in [*worst, *best]
        ]
        table(["category", "queries", found.a, found.b, "difference", "p (Holm)"], rows, "Largest losses and gains")
