"""`vitrine promote` and `vitrine rollback`: put a version live, take it back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.gates import show_verdicts
from vitrine.cli.index import Backend, Index, Precision
from vitrine.cli.output import Json, emit, stdout
from vitrine.errors import BadInput
from vitrine.home import find_home
from vitrine.params import read_params
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.promotion import Promotion
    from vitrine.promotion_plan import Plan

app = typer.Typer()

Params = Annotated[Path, typer.Option("--params", help="Where the `gates` settings stand; defaults apply without it.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept in the history.")]
Nice = Annotated[
    int,
    typer.Option(
        "--nice", min=0, max=19, help="Lower this command's priority, so that a server beside it does not wait."
    ),
]


@app.command()
def promote(
    ref: Annotated[str, typer.Argument(help="NAME@7, NAME@alias, or NAME for what is live, else its newest version.")],
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", help="The dataset to make searchable; by default the version's own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show verdicts and cost, change nothing.")] = False,
    build_only: Annotated[
        bool,
        typer.Option("--build-only", help="Everything but the switch, whatever the gates say: for `vitrine shadow`."),
    ] = False,
    override: Annotated[
        list[str] | None, typer.Option("--override", help="A gate that may fail; recorded for ever. Repeatable.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why the overridden gates may fail.")] = "",
    page: Annotated[
        Path | None, typer.Option("--report", help="Write verdicts, intervals and worst categories to this HTML file.")
    ] = None,
    backend: Backend = "onnxruntime",
    precision: Precision = "",
    serving_threads: Annotated[
        int,
        typer.Option(
            "--serving-threads",
            envvar="VITRINE_THREADS",
            min=1,
            help="The server's; budgets of time are measured with them.",
        ),
    ] = 2,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine that embeds.")] = 2,
    nice: Nice = 0,
    params: Params = Path("params.yaml"),
    index: Index = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Run the gates, embed the catalogue with this version, and switch search over to it.

    What an interrupted run has embedded is kept: the same command goes on there. Exit code 3: a gate refused, nothing
    was changed.
    """
    os.nice(nice)
    overrides = _overrides(override or [], reason)
    work = _work(
        params,
        index,
        why,
        threads=threads,
        serving_threads=serving_threads,
        backend=backend,
        precision=precision,
        overrides=overrides,
    )
    plan = work.plan(ref, catalogue)
    _report(plan, work, page)
    if not as_json:
        _show_plan(plan)
    if dry_run:
        _report_dry_run(plan, as_json)
        return
    if build_only:
        _report_built(plan, work, as_json)
        return
    if plan.refused and as_json:
        emit({**plan.as_json(), "promoted": False}, as_json, lambda: None)
    live = work.carry_out(plan)

    def show() -> None:
        stdout.print(f"{plan.model}@{live.version} is live on {live.catalogue}. Servers follow within two seconds.")
        stdout.print(f"Back again: vitrine rollback {plan.model}")

    emit({**plan.as_json(), "promoted": True}, as_json, show)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    now: Annotated[
        bool, typer.Option("--now", help="Switch first; the servers take in what changed meanwhile afterwards.")
    ] = False,
    leaving: Annotated[
        int | None,
        typer.Option("--from", help="The version to take back; a repeated command then takes back no other one."),
    ] = None,
    index: Index = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Bring back the version that was live before, with the collection it had and all that changed since."""
    from vitrine.promotion_rollback import roll_back

    live = roll_back(_work(Path("params.yaml"), index, why), name, catch_up_first=not now, leaving=leaving)
    emit(
        {"model": name, **asdict(live)},
        as_json,
        lambda: stdout.print(
            f"{name}@{live.version} is live again on {live.catalogue}. See: vitrine models history {name}"
        ),
    )


def _work(params: Path, index: str | None, why: str, **options: Any) -> Promotion:
    from vitrine.gates import GateSettings
    from vitrine.index_choice import index_kind
    from vitrine.promotion import Promotion
    from vitrine.registry import open_registry

    home = find_home()
    raw = read_params(params)
    return Promotion(
        open_registry(home),
        home,
        GateSettings.from_params(raw),
        index=index or index_kind(home),
        track=bar,
        why=why,
        prices=raw.get("prices") or {},
        **options,
    )


def _overrides(gates: Sequence[str], reason: str) -> dict[str, str]:
    if reason and not gates:
        raise BadInput("--reason belongs to --override GATE; say which gate may fail", field="reason")
    return dict.fromkeys(gates, reason)


def _report(plan: Plan, work: Promotion, page: Path | None) -> None:
    from vitrine.gate_report import write_report

    if page is not None:
        write_report(plan, page, work.registry, work.home)


def _show_plan(plan: Plan) -> None:
    show_verdicts(plan.verdicts)
    money = "" if plan.price is None else f", about {plan.price:.4f} {plan.currency}".rstrip()
    stdout.print(
        f"  {plan.items} items of {plan.catalogue} -> {plan.collection}; {plan.to_embed} to embed, about "
        f"{plan.seconds:.0f} s{money}",
        markup=False,
    )
    disk = plan.disk
    stdout.print(
        f"  disk: {disk.needed / 1e6:.1f} MB needed (collection {disk.collection / 1e6:.1f}, while it is made "
        f"{disk.building / 1e6:.1f}, index {disk.index / 1e6:.1f}), {disk.free / 1e6:.0f} MB free; the live collection "
        f"keeps its {disk.incumbent / 1e6:.1f} MB"
    )


def _report_dry_run(plan: Plan, as_json: bool) -> None:
    def show() -> None:
        outcome = "would be refused" if plan.refused else "would be promoted"
        stdout.print(f"{plan.ref} {outcome}; nothing was changed.")

    emit({**plan.as_json(), "dry_run": True, "promoted": False}, as_json, show)
    if plan.refused:
        raise typer.Exit(3)


def _report_built(plan: Plan, work: Promotion, as_json: bool) -> None:
    built = work.build(plan)

    def show() -> None:
        stdout.print(f"{built.collection} is built and checked; production is what it was.")
        stdout.print(f"Try it on live searches: vitrine shadow start {plan.ref}")

    emit({**plan.as_json(), "built": True, "promoted": False}, as_json, show)
