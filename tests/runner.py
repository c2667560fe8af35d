"""Runs the `vitrine` command as a user does: arguments in, exit code and both streams out."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrine.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_vitrine(root: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
    """Run `vitrine ARGUMENTS` in folder `root`, in this process, through its real entry point.

    Of variables named `VITRINE_…` only those of `environ` are seen.
    """
    out, err = io.StringIO(), io.StringIO()
    with _in_folder(root, environ or {}), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
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
def _in_folder(root: Path, environ: Mapping[str, str]) -> Iterator[None]:
    before = Path.cwd()
    hidden = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("VITRINE_")}
    os.environ.update(environ)
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)
        for key in environ:
            del os.environ[key]
        os.environ.update(hidden)
