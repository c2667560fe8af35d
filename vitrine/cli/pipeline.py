"""`vitrine pipeline`: what the pipeline trains and evaluates, as entries of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.errors import BadInput, NotFound

app = typer.Typer(help="What `dvc repro` trains, registers and evaluates.", no_args_is_help=True)

PARAMS = Path("params.yaml")
PROFILES = Path("profiles")
_COSTS = ("stage", "cell", "seconds", "images_per_s", "peak_mb", "parameters_trained", "device")


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """List the cells: every combination of strategy, backbone and dataset."""
    cells = {key: dict(cell) for key, cell in _read()["cells"].items()}
    rows = [[key, cell["strategy"], cell["backbone"], cell["dataset"]] for key, cell in cells.items()]
    emit({"cells": cells}, as_json, lambda: table(["cell", "strategy", "backbone", "dataset"], rows))


@app.command("add")
def add(
    dataset: Annotated[str, typer.Argument(help="The dataset's name, such as shop-2026.")],
    fmt: Annotated[str, typer.Option("--format", help="Dataset format; see: vitrine data formats.")],
    path: Annotated[Path, typer.Option("--path", help="Folder or file to import.")],
    backbone: Annotated[
        list[str] | None, typer.Option("--backbone", help="Repeatable; default: all backbones.")
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", help="Repeatable; default: pretrained, top and full.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="The format's own option, key=value.")
    ] = None,
    cross_with: Annotated[
        list[str] | None,
        typer.Option(
            "--cross-with", help="Repeatable: a dataset whose tuned versions are evaluated on this one, and vice versa."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a dataset with its features and cells to params.yaml; comments stay.

    Cells that keep a backbone's text tower become versions of DATASET-text, all others of DATASET-search.
    """
    from vitrine.pipeline_entries import STRATEGIES, Wanted, add_entries

    params = _read()
    wanted = Wanted(
        dataset, fmt, path, _options(option or []), backbone or [], strategy or STRATEGIES, cross_with or []
    )
    added = add_entries(params, wanted)
    _write(params)

    def show() -> None:
        crosses = f" and {len(added.crosses)} crosses" if added.crosses else ""
        names = ", ".join((*added.cells, *added.crosses))
        stdout.print(f"added {dataset} with {len(added.cells)} cells{crosses}: {names}\nnext: dvc repro", markup=False)

    emit({"dataset": dataset, "cells": added.cells, "crosses": added.crosses}, as_json, show)


@app.command("costs")
def costs(as_json: Json = False) -> None:
    """What every stage took: time, speed, memory, parameters trained, and money by `prices` of params.yaml."""
    from vitrine.report_data import read_costs

    rows = read_costs(Path())
    known = [row["price"] for row in rows if row["price"] is not None]
    total = {"seconds": round(sum(row["seconds"] for row in rows), 3), "price": sum(known) if known else None}

    def show() -> None:
        if not rows:
            stdout.print("No stage has run here yet. Next: dvc repro")
            return
        shown = [[str(row.get(name, "")) for name in _COSTS] + [_money(row["price"])] for row in rows]
        table(
            (*_COSTS, "price"), [*shown, ["total", "", str(total["seconds"]), "", "", "", "", _money(total["price"])]]
        )

    emit({"stages": rows, "total": total}, as_json, show)


def _money(price: float | None) -> str:
    return "" if price is None else f"{price:.4f}"


@app.command("profile")
def profile(name: Annotated[str, typer.Argument(help="A file of profiles/, such as demo or photos.")]) -> None:
    """Put profiles/NAME.yaml in the place of params.yaml."""
    from vitrine.files import write_atomic

    known = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if name not in known:
        raise NotFound(f"there is no profile {name!r} in {PROFILES}/; known: {', '.join(known) or 'none'}")
    write_atomic(PARAMS, (PROFILES / f"{name}.yaml").read_bytes())
    stdout.print(f"params.yaml is profiles/{name}.yaml now\nnext: dvc repro")


def _options(pairs: list[str]) -> dict[str, Any]:
    import yaml

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadInput(f"option {pair!r} must be key=value, such as -o licence=CC0-1.0", field="option")
        found[key] = yaml.safe_load(value)
    return found


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _read() -> Any:
    if not PARAMS.is_file():
        raise NotFound(f"no {PARAMS} here; run the command in the project's folder")
    return _yaml().load(PARAMS.read_text())


def _write(params: Any) -> None:
    import io

    from vitrine.files import write_atomic

    stream = io.StringIO()
    _yaml().dump(params, stream)
    write_atomic(PARAMS, stream.getvalue())
