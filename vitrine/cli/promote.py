"""`vitrine promote` and `vitrine rollback`: put a version live, take it back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrine.cli.output import Json, emit, stdout
from vitrine.home import find_home
from vitrine.params import read_params
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.promotion import Promotion
    from vitrine.promotion_plan import Plan

app = typer.Typer()

Params = Annotated[Path, typer.Option("--params", help="Where the `gates` settings stand; defaults apply without it.")]
Index = Annotated[
    str | None, typer.Option("--index", help="exact or qdrant; by default qdrant where QDRANT_URL is set.")
]
Why = Annotated[str, typer.Option("--why", help="The reason, kept in the history.")]


@app.command()
def promote(
    ref: Annotated[str, typer.Argument(help="NAME@7, NAME@alias, or NAME for what is live, else its newest version.")],
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", help="The dataset to make searchable; by default the version's own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show verdicts and cost, change nothing.")] = False,
    params: Params = Path("params.yaml"),
    index: Index = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Run the gates, embed the catalogue with this version, and switch search over to it.

    Exit code 3: a gate refused, nothing was changed.
    """
    work = _work(params, index, why)
    plan = work.plan(ref, catalogue)
    if not as_json:
        _show_plan(plan)
    if dry_run:
        _report_dry_run(plan, as_json)
        return
    if plan.refused and as_json:
        emit({**plan.as_json(), "promoted": False}, as_json, lambda: None)
    live = work.carry_out(plan)

    def show() -> None:
        stdout.print(f"{plan.model}@{live.version} is live on {live.catalogue}. Servers follow within a second.")
        stdout.print(f"Back again: vitrine rollback {plan.model}")

    emit({**plan.as_json(), "promoted": True}, as_json, show)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    index: Index = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Bring back the version that was live before, with the collection it had."""
    live = _work(Path("params.yaml"), index, why).rollback(name)
    emit(
        {"model": name, **asdict(live)},
        as_json,
        lambda: stdout.print(
            f"{name}@{live.version} is live again on {live.catalogue}. See: vitrine models history {name}"
        ),
    )


def _work(params: Path, index: str | None, why: str) -> Promotion:
    from vitrine.gates import GateSettings
    from vitrine.promotion import Promotion
    from vitrine.registry import open_registry

    home = find_home()
    raw = read_params(params)
    kind = index or ("qdrant" if home.qdrant_url else "exact")
    return Promotion(open_registry(home), home, GateSettings.from_params(raw), index=kind, track=bar, why=why)


def _show_plan(plan: Plan) -> None:
    for verdict in plan.verdicts:
        mark = {"passed": "[green]passed[/]", "failed": "[red]FAILED[/]"}.get(verdict.outcome, "[dim]n/a[/]")
        stdout.print(f"  {mark}  {verdict.gate}: ", end="")
        stdout.print(verdict.reason, markup=False)
    stdout.print(
        f"  {plan.items} items of {plan.catalogue}, about {plan.seconds:.0f} s to embed, "
        f"{plan.disk_bytes / 1e6:.1f} MB -> {plan.collection}"
    )


def _report_dry_run(plan: Plan, as_json: bool) -> None:
    def show() -> None:
        outcome = "would be refused" if plan.refused else "would be promoted"
        stdout.print(f"{plan.model}@{plan.version} {outcome}; nothing was changed.")

    emit({**plan.as_json(), "dry_run": True, "promoted": False}, as_json, show)
    if plan.refused:
        raise typer.Exit(3)
