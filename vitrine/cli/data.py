"""`vitrine data`: bring a catalogue in, list what is there, look for trouble in it, erase an item."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import plugins, rowreport
from vitrine.cli.index import Index
from vitrine.cli.output import Json, emit, stdout, table
from vitrine.errors import BadInput
from vitrine.home import find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.checking import CheckReport
    from vitrine.dataset import Dataset
    from vitrine.importing import ImportReport
    from vitrine.rowreport import RowSummary

app = typer.Typer(help="Import, list and check datasets; erase an item.", no_args_is_help=True)

_SHOWN = 5


@app.command(name="import")
def import_(
    fmt: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of: {', '.join(plugins.names('datasets'))}.")],
    path: Annotated[Path, typer.Argument(help="The folder or table to read; `-` for demo, which needs none.")],
    name: Annotated[str, typer.Option("--name", help="What the dataset shall be called, such as `my-shop`.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="KEY=VALUE", help="An option of the format; may be given several times."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Import about so many items: short for `-o sample=N` (table).")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Import nothing if any row is rejected: short for `-o strict=true` (table)."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a dataset of that name that has other content.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read photos and labels into the one canonical form, `data/NAME`.

    Broken photos are left out and listed. Importing the same content again changes nothing.
    What became of each row of a table is said in `data/NAME/import-report.csv`.
    """
    from vitrine.importing import import_dataset

    target = find_home().datasets / name
    options = _options(option or [])
    options |= {"sample": str(sample)} if sample else {}
    options |= {"strict": "true"} if strict else {}
    report = import_dataset(fmt, path, name, target, options, track=bar, replace=force)
    emit(
        {**asdict(report), "folder": str(target)},
        as_json,
        lambda: _show_import(report, target, _pipeline(name, fmt, path, options)),
    )


@app.command()
def formats(as_json: Json = False) -> None:
    """List the formats that can be imported, with their options."""
    options = {fmt: dict(plugins.load("datasets", fmt).OPTIONS) for fmt in plugins.names("datasets")}

    def show() -> None:
        for fmt, known in options.items():
            stdout.print(fmt, *(f"  -o {key}=…  {text}" for key, text in known.items()), sep="\n", markup=False)

    emit({"formats": options}, as_json, show)


@app.command()
def ls(as_json: Json = False) -> None:
    """List the imported datasets with their splits."""
    from vitrine.dataset import dataset_names, load_dataset

    home = find_home()
    rows = [_row(load_dataset(home.datasets / name)) for name in dataset_names(home)]

    def show() -> None:
        if not rows:
            stdout.print(f"No dataset in {home.datasets} yet. Make one: vitrine data import demo - --name demo")
            return
        cells = [
            (
                row["name"],
                row["items"],
                _counts(row["splits"]),
                row["labels"],
                ", ".join(row["protocols"]),
                row["licence"],
            )
            for row in rows
        ]
        table(("name", "items", "splits", "classes", "protocols", "licence"), cells)

    emit({"datasets": rows}, as_json, show)


@app.command()
def check(name: Annotated[str, typer.Argument(help="An imported dataset.")], as_json: Json = False) -> None:
    """Look for broken, changed and duplicate photos, leakage between splits, and classes that cannot be found.

    Exit code 2: there are errors. Warnings alone leave it at 0.
    """
    from vitrine.checking import check_dataset
    from vitrine.dataset import find_dataset

    report = check_dataset(find_dataset(find_home(), name), track=bar)
    emit({**asdict(report), "ok": report.ok}, as_json, lambda: _show_check(report))
    if not report.ok:
        raise typer.Exit(BadInput.exit_code)


@app.command()
def forget(
    item_id: Annotated[str, typer.Argument(metavar="ITEM_ID", help="The item to erase.")],
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", help="Whose item; needed where several catalogues have the id.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the history.")] = "",
    index: Index = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Erase an item: photos, features, vectors in every collection, its name in stored results. It cannot be undone.

    Repeat the command if it was interrupted. What this installation cannot reach is listed at the end.
    """
    from vitrine.forgetting import eraser
    from vitrine.registry import open_registry

    home = find_home()
    found = eraser(open_registry(home), home, item_id, catalogue, index=index, why=reason)
    done = found.plan() if dry_run else found.erase(bar)

    def show() -> None:
        stdout.print(f"{'Would erase' if dry_run else 'Erased'} {item_id} of {done.catalogue}:", markup=False)
        stdout.print(*(f"  {line}" for line in done.erased), sep="\n", markup=False)
        stdout.print("Not reached by this command:")
        stdout.print(*(f"  {line}" for line in done.unreached), sep="\n", markup=False)

    emit({**asdict(done), "dry_run": dry_run}, as_json, show)


def _row(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "items": len(dataset.items),
        "splits": dataset.counts(),
        "labels": len(dataset.labels),
        "protocols": [protocol.name for protocol in dataset.protocols],
        "licence": dataset.licence,
        "digest": dataset.digest,
    }


def _options(given: list[str]) -> dict[str, str]:
    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise BadInput(f"option {text!r} is not KEY=VALUE; write for example -o seed=1", field="option")
        options[key] = value
    return options


def _pipeline(name: str, fmt: str, path: Path, options: Mapping[str, str]) -> str:
    """The command that makes the same import a stage of the pipeline."""
    # A generated dataset has no path; the pipeline then watches the generator itself.
    source = path if path.exists() else Path(f"vitrine/datasets/{fmt.replace('-', '_')}.py")
    words = ["vitrine", "pipeline", "add", name, "--format", fmt, "--path", str(source)]
    for key, value in options.items():
        words += ["-o", f"{key}={value}"]
    return shlex.join(words)


def _show_import(report: ImportReport, target: Path, then: str) -> None:
    stdout.print(
        f"{report.name}: {report.items} items ({_counts(report.splits)}), {report.images} photos, "
        f"{report.labels} classes in {target}, {report.seconds:.1f} s"
    )
    stdout.print(f"digest {report.digest[:12]}, protocols: {', '.join(report.protocols)}")
    for note in report.notes:
        stdout.print(note, markup=False)
    if report.rows:
        _show_rows(report.rows, target / rowreport.FILE)
    if report.broken:
        stdout.print(f"broken and left out: {len(report.broken)} photos, {len(report.dropped)} whole items")
        _show_some([f"{photo}: {reason}" for photo, reason in report.broken])
    for split, count in report.duplicates_in_split.items():
        stdout.print(f"copies of another item's photo in {split}: {count}")
    stdout.print(f"Next: vitrine data check {report.name}")
    stdout.print(f"Then: {then}", markup=False)


def _show_rows(rows: RowSummary, path: Path) -> None:
    outside = f", {rows.not_sampled} not in the sample" if rows.not_sampled else ""
    stdout.print(
        f"{rows.read} rows: {rows.imported} imported, {rows.remarked} imported with a remark, "
        f"{rows.merged} merged into another row, {rows.rejected} rejected{outside}; each remark is in {path}"
    )
    if rows.reasons:
        table(("reason", "rows"), list(rows.reasons.items()))


def _show_check(report: CheckReport) -> None:
    sizes = sorted(report.classes.values())
    stdout.print(f"{report.name}: {_counts(report.splits)}, licence {report.licence}")
    if sizes:
        middle = sizes[len(sizes) // 2]
        stdout.print(f"{len(sizes)} classes with {sizes[0]} to {sizes[-1]} items, {middle} in the middle")
    for finding in report.findings:
        stdout.print(f"{finding.level}: {finding.message}")
        _show_some(finding.examples, finding.count)
    stdout.print("No trouble found." if not report.findings else f"Usable: {'yes' if report.ok else 'no'}")


def _show_some(lines: list[str] | tuple[str, ...], total: int = 0) -> None:
    for line in lines[:_SHOWN]:
        stdout.print(f"  {line}", markup=False)
    if max(total, len(lines)) > _SHOWN:
        stdout.print("  …")


def _counts(splits: Any) -> str:
    return ", ".join(f"{split} {count}" for split, count in splits.items())
