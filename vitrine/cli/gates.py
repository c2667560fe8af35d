"""`vitrine gates`: the verdicts of a planned promotion for people and for pull requests."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.errors import BadInput, NotFound

if TYPE_CHECKING:
    from vitrine.ports import Verdict

app = typer.Typer(help="The gates of a promotion.", no_args_is_help=True)

_MARKS = {"passed": "passed", "failed": "FAILED", "overridden": "overridden", "not applicable": "n/a"}


@app.command("ls")
def ls(
    params: Annotated[Path, typer.Option("--params", help="Where the `gates` settings stand.")] = Path("params.yaml"),
    as_json: Json = False,
) -> None:
    """List the gates and the thresholds that hold here."""
    from dataclasses import asdict

    from vitrine.gates import GATES, GateSettings
    from vitrine.params import read_params

    settings = asdict(GateSettings.from_params(read_params(params)))
    purposes = {name: (gate.__doc__ or "").splitlines()[0] for name, gate in GATES.items()}

    def show() -> None:
        table(("gate", "what it asks"), list(purposes.items()))
        stdout.print()
        table(("setting", "value"), [(name, _plain(value)) for name, value in settings.items()])

    emit({"gates": purposes, "settings": settings}, as_json, show)


@app.command()
def comment(
    plan: Annotated[
        Path, typer.Argument(help="What `vitrine promote --dry-run --json` printed; `-` reads standard input.")
    ],
    link: Annotated[str, typer.Option("--link", help="Address of the report, shown below the table.")] = "",
) -> None:
    """Print a plan as Markdown for a pull request. Exit code 3: a gate refuses."""
    from vitrine.gate_comment import render

    found = _read(plan)
    print(render(found, link), end="")
    if found["refused"]:
        raise typer.Exit(3)


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print verdicts as a table; the reason of an override stands below the gate's own."""
    rows = []
    for verdict in verdicts:
        given = f"\noverride: {verdict.override}" if verdict.override else ""
        rows.append((_MARKS[verdict.outcome], verdict.gate, verdict.reason + given))
    table(("verdict", "gate", "why"), rows)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str("none" if value is None else value)


def _read(path: Path) -> Mapping[str, Any]:
    if str(path) != "-" and not path.is_file():
        raise NotFound(f"there is no file {path}; make it: vitrine promote REF --dry-run --json > {path}")
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(
            f"{path} is no JSON ({error}); it must be what vitrine promote --dry-run --json printed"
        ) from error
    if not isinstance(value, dict) or not {"model", "version", "verdicts", "refused"} <= set(value):
        raise BadInput(f"{path} is no plan; it must be what vitrine promote --dry-run --json printed")
    return value
