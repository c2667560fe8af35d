"""`vitrine engine`: build a version's engines for this machine, list them, measure them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.home import find_home
from vitrine.progress import bar

app = typer.Typer(help="Build, list and measure the engines that run a version on this machine.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="NAME@7, NAME@alias, or NAME for what is live.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of an engine on the processor.")]


@app.command()
def build(
    ref: RefArgument,
    backend: Annotated[str, typer.Option("--backend", help="onnxruntime or tensorrt.")] = "onnxruntime",
    precision: Annotated[
        str, typer.Option("--precision", help="onnxruntime: int8; tensorrt: fp16, bf16 or fp32.")
    ] = "",
    dataset: Annotated[
        str, typer.Option("--dataset", help="Whose training items calibrate and judge; the version's own by default.")
    ] = "",
    rows: Annotated[
        int, typer.Option("--rows", min=2, help="Training items that calibrate, and as many that judge.")
    ] = 128,
    again: Annotated[bool, typer.Option("--again", help="Build it anew although a sound one is there.")] = False,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Build an engine of a version for this machine, and keep it if its vectors are the version's.

    Exit code 3: they are too far off; nothing was kept. 6: the backend's library or device is missing here.
    """
    from vitrine.engine_build import BuildPlan, build_engine
    from vitrine.registry import open_registry

    home = find_home()
    plan = BuildPlan(backend, precision, dataset, rows, rows, again)
    built = build_engine(open_registry(home), home, ref, plan, threads=threads, track=bar)
    key, parity = built.record.key, built.record.parity

    def show() -> None:
        done = "built" if built.fresh else "was built already"
        stdout.print(f"{key.backend} {key.precision} engine of {ref} for {key.target}: {done}", markup=False)
        stdout.print(
            f"  worst cosine to {parity['reference']} {parity['min_cosine']:.5f}, {parity['top10_overlap']:.3f} of the ten nearest "
            f"in common, on {parity['images']} photos and {parity['texts']} texts",
            markup=False,
        )
        stdout.print(
            f"Embed the catalogue with it: vitrine promote {ref} --backend {key.backend} --precision {key.precision}\n"
            f"Serve with it: VITRINE_BACKEND={key.backend} VITRINE_PRECISION={key.precision} vitrine serve",
            markup=False,
        )

    emit({**built.record.as_json(), "folder": str(built.folder), "fresh": built.fresh}, as_json, show)


@app.command()
def ls(as_json: Json = False) -> None:
    """List the engines built on this machine."""
    from vitrine.engines import all_records

    found = [record for _, record in all_records(find_home().engines)]

    def show() -> None:
        if not found:
            stdout.print("No engines yet. Next: vitrine engine build NAME@N --precision int8")
            return
        columns = ("version", "backend", "precision", "target", "worst cosine", "top-10 overlap", "calibrated on")
        table(columns, [_row(record.as_json()) for record in found])

    emit({"engines": [record.as_json() for record in found]}, as_json, show)


@app.command()
def measure(ref: RefArgument, threads: Threads = 2, as_json: Json = False) -> None:
    """Measure every engine that this machine can load for a version: what VITRINE_BACKEND=auto chooses by."""
    from vitrine.engine_auto import measure as measured
    from vitrine.registry import open_registry

    home = find_home()
    found = measured(open_registry(home).open(ref), engines=home.engines, threads=threads, track=bar)
    found.sort(key=lambda one: one.score)

    def show() -> None:
        for place, one in enumerate(found):
            stdout.print(("* " if place == 0 and one.ms else "  ") + one.sentence(), markup=False)
        stdout.print("* is what VITRINE_BACKEND=auto takes: the lowest geometric mean.")

    emit({"threads": threads, "engines": [asdict(one) for one in found]}, as_json, show)


def _row(record: dict[str, Any]) -> list[object]:
    key, parity = record["key"], record["parity"]
    told = record["calibration"]
    return [
        key["digest"][:12],
        key["backend"],
        key["precision"],
        key["target"],
        parity["min_cosine"],
        parity["top10_overlap"],
        told["dataset"],
    ]
