"""`vitrine zoo`: networks with given weights, and published checkpoints made ready for use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.zoo import PERMISSIVE, ZooModel, find

app = typer.Typer(help="Networks with given weights: sizes, licences, sources.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of `vitrine zoo ls`.")]


@app.command()
def ls(as_json: Json = False) -> None:
    """List the networks that `backbones.fetched.NAME.zoo` in params.yaml can name."""
    from vitrine.zoo_table import ZOO

    def show() -> None:
        columns = ("name", "trained", "family", "pixels", "dim", "params (M)", "GMACs", "licence")
        table(columns, [_row(model) for model in ZOO])
        stdout.print("Next: vitrine zoo show NAME")

    emit({"models": [asdict(model) for model in ZOO]}, as_json, show)


@app.command()
def show(
    name: Name,
    measured: Annotated[
        bool, typer.Option("--measure", help="Build the network without weights and count again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say everything about one network, and how to use it."""
    model = find(name)
    facts: dict[str, Any] = asdict(model)
    if measured:
        from vitrine.zoo_build import measure

        facts["measured"] = asdict(measure(model))
    emit(facts, as_json, lambda: _show(model, facts))


@app.command()
def convert(
    name: Name,
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint as published, .pth or .pt.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    as_json: Json = False,
) -> None:
    """Rename a published checkpoint's tensors and write them as safetensors.

    It is read as tensors alone; a file that would run code is refused.
    """
    from vitrine.zoo_build import convert as run

    done = run(find(name), checkpoint, out)

    def show() -> None:
        stdout.print(f"{out}: {done.tensors} tensors, sha256 {done.sha256}")
        stdout.print(f"from {checkpoint}, sha256 {done.source_sha256}", markup=False)
        stdout.print(f"Next, in params.yaml: backbones: fetched: {name}: {{zoo: {name}, weights: file:{out}}}")

    emit({"name": name, "out": str(out), **asdict(done)}, as_json, show)


def _row(model: ZooModel) -> tuple[object, ...]:
    million = round(model.parameters / 1e6, 1)
    licence = model.licence if model.licence in PERMISSIVE else f"{model.licence} (not allowed unasked)"
    return (model.name, model.training, model.family, model.image_size, model.dim, f"{million:.1f}",
            f"{model.gmacs:.1f}", licence)  # fmt: skip


def _show(model: ZooModel, facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if value not in (None, 0):
            stdout.print(f"{key.replace('_', ' ')}: {value}", markup=False)
    if model.source == "convert":
        stdout.print(f"Next: download the address, then: vitrine zoo convert {model.name} FILE OUT.safetensors")
    else:
        stdout.print(f"Next, in params.yaml: backbones: fetched: {model.name}: {{zoo: {model.name}}}")
    if model.licence not in PERMISSIVE:
        stdout.print(f"Its licence must be allowed first: licences: {{{model.licence}: WHY}}")
