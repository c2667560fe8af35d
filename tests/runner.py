"""Runs the `vitrine` command as a user does: arguments in, exit code and both streams out."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrine.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_vitrine(root: Path, *arguments: str) -> Ran:
    """Run `vitrine ARGUMENTS` in folder `root`, in this process, through its real entry point."""
    out, err = io.StringIO(), io.StringIO()
    with _in_folder(root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        before, sys.argv = sys.argv, ["vitrine", *arguments]
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.argv = before
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _in_folder(root: Path) -> Iterator[None]:
    before = Path.cwd()
    hidden = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("VITRINE_")}
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.update(hidden)
