"""`vitrine models export|import|card|gc`: versions as files, and what may go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.errors import BadInput
from vitrine.home import find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.registry_gc import Removal

app = typer.Typer()

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="NAME@7, NAME@alias, or NAME for what is live.")]


@app.command("export")
def export_(
    ref: RefArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as shop-search-7.tar.")],
    history: Annotated[
        bool, typer.Option("--history", help="With its newest measurements and everything that happened to it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a version to one verified file, to import it into another registry."""
    from vitrine.registry import open_registry
    from vitrine.transfer import export_version

    header = export_version(open_registry(find_home()), ref, path, history=history)
    name, size = f"{header.model}@{header.version}", path.stat().st_size

    def show() -> None:
        stdout.print(f"Wrote {name} to {path}: {size} bytes. Next, elsewhere: vitrine models import {path.name}")

    emit({"ref": name, "digest": header.digest, "file": str(path), "bytes": size}, as_json, show)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `vitrine models export` wrote.")],
    name: Annotated[str, typer.Option("--name", help="Another model's name; by default the one in the file.")] = "",
    version: Annotated[
        int | None, typer.Option("--version", help="Its number; by default the one in the file, or the next one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Register the version that an exported file holds. A file that is not whole or was altered registers nothing."""
    from vitrine.modelview import event_json
    from vitrine.registry import open_registry
    from vitrine.transfer import import_version

    done = import_version(open_registry(find_home()), path, name=name, version=version)
    ref = f"{done.event.model}@{done.event.version}"

    def show() -> None:
        stdout.print(f"Imported {ref}." if done.new else f"This content is {ref} already.")
        stdout.print(f"{done.evaluations} measurements came along. Next: vitrine models card {ref}", markup=False)

    emit({**event_json(done.event), "ref": ref, "new": done.new, "evaluations": done.evaluations}, as_json, show)


@app.command()
def card(
    ref: RefArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file; by default it is printed.")] = None,
    as_json: Json = False,
) -> None:
    """Print a version's card in Markdown: what it is, data, figures with intervals, gates, licences, limits, overrides."""
    from vitrine.files import write_atomic
    from vitrine.model_card import model_card
    from vitrine.registry import open_registry

    text = model_card(open_registry(find_home()), ref)
    if out is not None:
        write_atomic(out, text)

    def show() -> None:
        stdout.print(f"Wrote the card of {ref} to {out}." if out else text, markup=False)

    emit({"ref": ref, "card": text, "file": str(out) if out else None}, as_json, show)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    retired: Annotated[
        bool, typer.Option("--retired", help="The graphs and engines of retired versions too; cards and figures stay.")
    ] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, help="Hours; what was stored since then stays, named or not.")
    ] = 24.0,
    as_json: Json = False,
) -> None:
    """Remove artifacts that no event and no catalogue names, engines of no version, and what interrupted writes left.

    Shows its plan and asks.
    """
    from vitrine.registry import open_registry
    from vitrine.registry_gc import carry_out_gc, plan_gc

    home = find_home()
    registry = open_registry(home)
    plan = plan_gc(registry, home, retired=retired, recent_s=older_than * 3600)
    if not as_json:
        _show_plan(plan)
    if dry_run or not plan or not _agreed(plan, yes=yes, as_json=as_json):
        emit({"plan": _rows(plan), "removed": 0, "bytes": 0}, as_json, lambda: None)
        return
    gone = carry_out_gc(registry, plan, track=bar)
    size = sum(removal.file.size for removal in gone)
    emit(
        {"plan": _rows(plan), "removed": len(gone), "bytes": size},
        as_json,
        lambda: stdout.print(f"Removed {len(gone)} files, {size} bytes. Next: vitrine models verify"),
    )


def _agreed(plan: list[Removal], *, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise BadInput(f"{len(plan)} files would go and nobody can be asked; say --yes, or --dry-run to see them only")
    return typer.confirm(f"Remove these {len(plan)} files?")


def _rows(plan: list[Removal]) -> list[dict[str, Any]]:
    return [
        {"kind": removal.kind, "file": removal.file.name, "bytes": removal.file.size, "why": removal.why}
        for removal in plan
    ]


def _show_plan(plan: list[Removal]) -> None:
    if not plan:
        stdout.print("Nothing to remove.")
        return
    table(
        ("kind", "file", "bytes", "why"),
        [(row["kind"], row["file"][:12], row["bytes"], row["why"]) for row in _rows(plan)],
    )
