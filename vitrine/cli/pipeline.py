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
        list[str] | None, typer.Option("--strategy", help="Repeatable; default: pretrained and top.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="The format's own option, key=value.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a dataset with its features and cells to params.yaml; comments stay."""
    params = _read()
    added = add_entries(params, dataset, fmt, path, backbone or [], strategy or ["pretrained", "top"], option or [])
    _write(params)
    emit(
        {"dataset": dataset, "cells": added},
        as_json,
        lambda: stdout.print(f"added {dataset} with {len(added)} cells: {', '.join(added)}\nnext: dvc repro"),
    )


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


def add_entries(
    params: Any, dataset: str, fmt: str, path: Path, backbones: list[str], strategies: list[str], options: list[str]
) -> list[str]:
    """Put a dataset, its features and its cells into `params` in place; the cells' names.

    Raises:
        BadInput: a name that is not allowed or taken, an unknown format, backbone or strategy.
        NotFound: nothing at `path`.
    """
    from vitrine import plugins
    from vitrine.names import check_name

    check_name(dataset, "dataset name")
    known = [*(params["backbones"].get("trained") or {}), *(params["backbones"].get("fetched") or {})]
    _one_of(fmt, plugins.names("datasets"), "dataset format")
    for name in backbones:
        _one_of(name, known, "backbone of params.yaml")
    for name in strategies:
        _one_of(name, [key for key in _strategies() if key in params], "tuning strategy with a section in params.yaml")
    if dataset in params["datasets"]:
        raise BadInput(f"params.yaml has a dataset {dataset!r} already; choose another name or edit the entry")
    if not path.exists():
        raise NotFound(f"there is nothing at {path}; give the folder or file to import: --path")
    params["datasets"][dataset] = {"format": fmt, "path": str(path), "options": _options(options)}
    added = []
    for backbone in backbones or known:
        params["features"][f"{backbone}--{dataset}"] = _flow(backbone=backbone, dataset=dataset)
        for strategy in strategies:
            key = f"{strategy}--{backbone}--{dataset}"
            params["cells"][key] = _flow(strategy=strategy, backbone=backbone, dataset=dataset)
            added.append(key)
    return added


def _strategies() -> list[str]:
    folder = Path("training/tuning")
    return sorted(file.stem for file in folder.glob("[!_]*.py"))


def _one_of(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise BadInput(f"{name!r} is no {what}; there are: {', '.join(known) or 'none'}")


def _options(pairs: list[str]) -> dict[str, Any]:
    import yaml

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadInput(f"option {pair!r} must be key=value, such as -o licence=CC0-1.0", field="option")
        found[key] = yaml.safe_load(value)
    return found


def _flow(**fields: str) -> Any:
    """One entry on one line, as in the rest of the file."""
    from ruamel.yaml.comments import CommentedMap

    entry = CommentedMap(fields)
    entry.fa.set_flow_style()
    return entry


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
