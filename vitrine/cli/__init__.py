"""The `vitrine` command: parse, call, print. Each group of commands is one file here.

Exit codes: 0 done, 1 our fault, 2 bad input or usage, 3 refused by a gate, 4 not found,
5 conflict, 6 unavailable. Heavy libraries are imported inside the commands that need them.
"""

from __future__ import annotations

import errno
import sys

import typer

from vitrine import __version__
from vitrine.cli import (
    bench,
    call,
    data,
    embed,
    engine,
    evaluate,
    gates,
    index,
    items,
    leaderboard,
    models,
    models_files,
    pipeline,
    promote,
    report,
    serve,
    shadow,
    zoo,
)
from vitrine.errors import Unavailable, VitrineError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

app = typer.Typer(
    name="vitrine",
    help="Choose, register, compare, promote and serve embedding models for an e-commerce catalogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
models.app.add_typer(models_files.app)
app.add_typer(models.app, name="models")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(zoo.app, name="zoo")
app.add_typer(engine.app, name="engine")
app.add_typer(gates.app, name="gates")
app.add_typer(bench.app, name="bench")
app.add_typer(index.app, name="index")
app.add_typer(items.app, name="items")
app.add_typer(shadow.app, name="shadow")
for group in (evaluate, leaderboard, promote, serve, embed, call, report):
    app.add_typer(group.app)


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del version


def main() -> None:
    """Run the command line; an expected error is one sentence on standard error and its exit code."""
    try:
        app()
    except VitrineError as error:
        _fail(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "the disk"
        _fail(
            Unavailable(
                f"{where} takes no more: {error.strerror}; what was there before is untouched; make room or make it "
                "writable, then run the command again"
            )
        )


def _fail(error: VitrineError) -> None:
    print(f"vitrine: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
