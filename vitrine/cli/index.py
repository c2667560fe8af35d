"""`vitrine index`: embedded catalogues: list them, bring them up to date, verify them, clear away what is not needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.home import Home, find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.collection_audit import Summary
    from vitrine.collection_gc import Removal
    from vitrine.index_sync import CatalogueSynced

app = typer.Typer(help="List, synchronise, verify and clear away embedded catalogues.", no_args_is_help=True)

Index = Annotated[
    str | None,
    typer.Option("--index", envvar="VITRINE_INDEX", help="exact or qdrant; by default qdrant where QDRANT_URL is set."),
]
Backend = Annotated[
    str,
    typer.Option("--backend", envvar="VITRINE_BACKEND", help="The engine that serves; auto for the quickest here."),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", envvar="VITRINE_PRECISION", help="fp32, fp16, bf16 or int8; the backend's own without it."
    ),
]
_UNITS = ("B", "kB", "MB", "GB")


@app.command()
def sync(
    catalogue: Annotated[
        str | None, typer.Argument(metavar="[CATALOGUE]", help="One catalogue; all that are searched without it.")
    ] = None,
    index: Index = None,
    backend: Backend = "onnxruntime",
    precision: Precision = "",
    as_json: Json = False,
) -> None:
    """Take over what changed in the dataset, and bring every live and rollback collection up to date.

    Items that a client added, changed or deleted stay as they are unless the dataset's own record of them changed.
    """
    from vitrine.gates import GateSettings
    from vitrine.index_sync import searched_catalogues, sync_catalogue
    from vitrine.promotion_tools import Tools
    from vitrine.registry import open_registry

    home = find_home()
    tools = Tools(
        open_registry(home),
        home,
        GateSettings(),
        index=_kind(index, home),
        track=bar,
        backend=backend,
        precision=precision,
    )
    names = [catalogue] if catalogue else searched_catalogues(tools.registry, home)
    done = [sync_catalogue(tools, name) for name in names]

    def show() -> None:
        for one in done:
            _show_synced(one)
        if not done:
            stdout.print("No catalogue is searched yet. Next: vitrine promote NAME@N")

    emit({"catalogues": [asdict(one) for one in done]}, as_json, show)


@app.command()
def ls(as_json: Json = False) -> None:
    """List collections: version, what they are needed for, items, changes that they have not taken over, size."""
    from vitrine.collection_audit import summaries
    from vitrine.registry import open_registry

    home = find_home()
    found = summaries(open_registry(home), home)
    emit({"collections": [asdict(one) for one in found]}, as_json, lambda: _show_summaries(found))


@app.command()
def verify(
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all of them without it.")
    ] = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Read collections again: digests, vectors, the catalogue's items, the index. Exit code 1: something is wrong."""
    from vitrine.collection_audit import verify_collections
    from vitrine.registry import open_registry

    home = find_home()
    checked, problems = verify_collections(open_registry(home), home, collection, _kind(index, home), track=bar)

    def show() -> None:
        for problem in problems:
            stdout.print(problem, markup=False)
        if not problems:
            stdout.print(f"{len(checked)} collections are as they should be.")

    emit({"collections": checked, "problems": problems}, as_json, show)
    if problems:
        raise typer.Exit(1)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, change nothing.")] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, help="Hours after which leftovers and old segments go.")
    ] = 24.0,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Remove collections that are neither live, kept for a rollback, tried beside it nor being promoted, and leftovers."""
    from vitrine.collection_gc import carry_out, plan_gc
    from vitrine.index_choice import index_settings
    from vitrine.registry import open_registry

    home = find_home()
    registry, kind = open_registry(home), _kind(index, home)
    plan = plan_gc(registry, home, old_s=older_than * 3600)
    if not dry_run:
        plan = carry_out(registry, home, plan, index=kind, settings=index_settings(home, kind), track=bar)
    emit(
        {"removed": [removal.as_json() for removal in plan], "dry_run": dry_run},
        as_json,
        lambda: _show_removals(plan, dry_run=dry_run),
    )


def _kind(index: str | None, home: Home) -> str:
    from vitrine.index_choice import index_kind

    return index or index_kind(home)


def _show_synced(one: CatalogueSynced) -> None:
    changes = ", ".join(f"{count} {outcome}" for outcome, count in one.changes.items()) or "nothing new in the dataset"
    stdout.print(f"{one.catalogue} (change {one.seq}): {changes}", markup=False)
    for collection in one.collections:
        done = collection.caught_up
        folded = ", files written anew" if collection.compacted else ""
        stdout.print(
            f"  {collection.collection} ({collection.role}): {done.embedded} embedded, {done.payload_only} with a new "
            f"payload, {done.deleted} deleted{folded}",
            markup=False,
        )


def _show_summaries(found: list[Summary]) -> None:
    if not found:
        stdout.print("No collections yet. Next: vitrine promote NAME@N")
        return
    columns = ("collection", "version", "for", "items", "change", "behind", "deltas", "size")
    rows = [
        (
            one.collection,
            f"{one.model}@{one.version}",
            one.role,
            one.items,
            one.seq,
            "?" if one.lag is None else one.lag,
            one.deltas,
            _size(one.size),
        )
        for one in found
    ]
    table(columns, rows)
    for one in found:
        if one.problem:
            stdout.print(f"{one.collection}: {one.problem}", markup=False)


def _show_removals(plan: list[Removal], *, dry_run: bool) -> None:
    if plan:
        table(("what", "name", "why", "size"), [(r.kind, r.name, r.why, _size(r.size)) for r in plan])
    total = _size(sum(removal.size for removal in plan))
    word = "would go" if dry_run else "went"
    stdout.print(f"{len(plan)} things {word}, {total}." if plan else "Nothing to remove.")


def _size(size: float) -> str:
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError  # pragma: no cover
