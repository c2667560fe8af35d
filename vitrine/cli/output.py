"""Printing: one JSON object for machines, a table or sentences for people, progress on standard error."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitrine.files import write_atomic

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]

CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the figures to this CSV file too.")]

_PLAIN_WIDTH = 160  # of output that goes to a file or a pipe

stdout = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
stderr = Console(stderr=True, highlight=False)


def emit(value: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print `value` as one JSON object, or call `show`."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, sort_keys=True))
    else:
        show()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; numbers are right-aligned."""
    rows = [list(row) for row in rows]
    view = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = all(isinstance(row[place], int | float) for row in rows) and bool(rows)
        view.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else escape(str(cell)) for cell in row))
    stdout.print(view)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file whole, with the full precision of its numbers."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(path, stream.getvalue())
