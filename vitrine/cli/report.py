"""`vitrine report`: the pipeline's results as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitrine.cli.output import Json, emit, stdout

app = typer.Typer()


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("report"),
    as_json: Json = False,
) -> None:
    """Write the HTML report of everything the pipeline evaluated here, and print its path."""
    from vitrine.report import build

    page = build(Path(), out)
    emit({"page": str(page)}, as_json, lambda: stdout.print(page))
