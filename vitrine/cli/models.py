"""`vitrine models`: list versions, look at them, register, name, verify and retire them; `models_files` has the rest."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.errors import BadInput, NotFound
from vitrine.home import find_home
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.bundle import Bundle
    from vitrine.events import Event

app = typer.Typer(help="List, show, register, verify, export and retire model versions.", no_args_is_help=True)

_USELESS = {".onnx": ("family", "architecture", "image_size"), ".safetensors": ("preprocessing", "labels")}

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name, such as `homeware-search`.")]
RefArgument = Annotated[str, typer.Argument(metavar="REF", help="NAME@7, NAME@alias, or NAME for what is live.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept in the history.")]


@app.command()
def ls(
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="Only these: pretrained, top, full, cross, ...")
    ] = None,
    as_json: Json = False,
) -> None:
    """List every version with its aliases, its origin and its default figure."""
    from vitrine.modelview import summaries
    from vitrine.registry import open_registry

    found = summaries(open_registry(find_home()).state(), strategy)

    def show() -> None:
        if not found and strategy:
            stdout.print(f"No version has the strategy {strategy}. All there are: vitrine models ls", markup=False)
            return
        if not found:
            stdout.print("No versions yet. Next: dvc repro, or vitrine models register PATH --name NAME")
            return
        columns = ("name", "version", "aliases", "digest", "strategy", "backbone", "dataset", "mmp@5")
        rows = [row | {"aliases": row["aliases"] + ["(retired)"] * row["retired"]} for row in found]
        table(columns, [[_shown(row[column]) for column in columns] for row in rows])

    emit({"models": found}, as_json, show)


@app.command()
def show(ref: RefArgument, as_json: Json = False) -> None:
    """Show one version: what it is, where it came from, how it was measured."""
    from vitrine.modelview import describe
    from vitrine.registry import open_registry

    found = describe(open_registry(find_home()), ref)
    emit(found, as_json, lambda: _show_version(found))


@app.command()
def history(name: Name, as_json: Json = False) -> None:
    """Everything that happened to a model, oldest first: what, when, who and why."""
    from vitrine.registry import open_registry

    events = open_registry(find_home()).history(name)

    def show() -> None:
        for event in events:
            stdout.print(_line(event), markup=False)

    emit({"model": name, "events": [_event(event) for event in events]}, as_json, show)


@app.command()
def verify(
    ref: Annotated[str | None, typer.Argument(metavar="[REF]", help="One version; everything without it.")] = None,
    as_json: Json = False,
) -> None:
    """Read every file and event again and compare digests. Exit code 1: something is damaged."""
    from vitrine.registry import open_registry

    problems = open_registry(find_home()).verify(ref)

    def show() -> None:
        for problem in problems:
            stdout.print(problem, markup=False)
        if not problems:
            stdout.print(f"{ref or 'The registry'} is as it was registered.")

    emit({"ref": ref, "problems": problems}, as_json, show)
    if problems:
        raise typer.Exit(1)


@app.command()
def register(
    path: Annotated[Path, typer.Argument(help="An .onnx or .safetensors file, or a bundle folder.")],
    name: Annotated[str, typer.Option("--name", help="The model that gets a version, such as `shop-search`.")],
    version: Annotated[int | None, typer.Option("--version", help="Its number; by default the next one.")] = None,
    preprocess: Annotated[
        Path | None, typer.Option("--preprocess", help="JSON or YAML: height, width, resize, ..., mean and std.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON list of the classifier's labels in logit order.")
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="Of safetensors: timm, open-clip, ...")] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="Of safetensors: the family's name for the network.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Of safetensors: pixels a side, by default the network's own.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of the weights, such as MIT.")] = None,
    data_licence: Annotated[
        str | None, typer.Option("--data-licence", help="Licence of the data it was trained on.")
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Make a version of a bundle folder, an ONNX file or a safetensors file.

    The same content again under the same name is the same version. Pickled files are refused.
    """
    given = {
        "preprocessing": preprocess,
        "labels": labels,
        "architecture": architecture,
        "family": family,
        "image_size": image_size,
        "licence_weights": licence,
        "licence_data": data_licence,
    }
    with tempfile.TemporaryDirectory() as work:
        bundle = _bundle(path, given, Path(work))
        _register(name, bundle, version, why, as_json)


@app.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="A word such as `stable`.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version that it shall mean.")],
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Point an alias of your own at a version. `production` is moved by promotion alone."""
    from vitrine.registry import open_registry

    event = open_registry(find_home()).set_alias(name, alias, version, why=why)

    def show() -> None:
        stdout.print(f"{name}@{alias} is version {event.version} now. Next: vitrine models show {name}@{alias}")

    emit(_event(event), as_json, show)


@app.command()
def sync(
    root: Annotated[Path, typer.Option("--root", help="The folder with bundles/ and work/.")] = Path(),
    as_json: Json = False,
) -> None:
    """Take in what the pipeline made and the registry lacks; safe to repeat. Exit code 1: something was skipped."""
    from dataclasses import asdict

    from vitrine.registry import open_registry
    from vitrine.sync import sync as synchronise

    report = synchronise(open_registry(find_home()), root, track=bar)

    def show() -> None:
        for done, things in (("registered", report.registered), ("recorded", report.recorded)):
            for thing in things:
                stdout.print(f"{done} {thing}", markup=False)
        for sentence in report.skipped:
            stdout.print(f"skipped {sentence}", markup=False)
        stdout.print(
            f"{len(report.registered)} versions registered, {len(report.recorded)} evaluations recorded, "
            f"{report.present} there already, {len(report.skipped)} skipped. Next: vitrine models ls"
        )

    emit(asdict(report), as_json, show)
    if report.skipped:
        raise typer.Exit(1)


@app.command()
def retire(
    ref: RefArgument, why: Annotated[str, typer.Option("--why", help="The reason; needed.")], as_json: Json = False
) -> None:
    """Keep a version from being promoted from now on; its files stay."""
    from vitrine.registry import open_registry

    event = open_registry(find_home()).retire(ref, why=why)

    def show() -> None:
        stdout.print(f"Retired {event.model}@{event.version}. Next: vitrine models ls")

    emit(_event(event), as_json, show)


def _bundle(path: Path, given: dict[str, Any], work: Path) -> Bundle:
    from vitrine.bundle import MANIFEST, read_bundle

    if not path.exists():
        raise NotFound(f"there is no file or folder {path} to register")
    if path.is_dir():
        if extra := [key for key, value in given.items() if value is not None]:
            raise BadInput(
                f"{path} is a folder, and a bundle says these itself: {', '.join(extra)}; leave those options out"
            )
        if not (path / MANIFEST).is_file():
            raise BadInput(f"{path} is a folder without {MANIFEST}, so no bundle; give an .onnx or .safetensors file")
        return read_bundle(path)
    from vitrine.intake import intake

    useless = _USELESS.get(path.suffix.lower(), ())
    if extra := [name for name in useless if given[name] is not None]:
        raise BadInput(f"{path.name} has no use for {', '.join(extra)}; leave out what is not for this kind of file")
    licences = {key: given[key] or "unknown" for key in ("licence_weights", "licence_data")}
    return intake(path, **{**given, **licences}, work=work)


def _register(name: str, bundle: Bundle, version: int | None, why: str, as_json: bool) -> None:
    from vitrine.lineage import collect_lineage
    from vitrine.registry import open_registry
    from vitrine.sync import recorded_numbers

    registry = open_registry(find_home())
    before = registry.state().seq
    # What the bundle says of its own making counts more than where it is registered from.
    lineage, above = {**collect_lineage(), **bundle.lineage}, recorded_numbers().get(name, 0)
    event = registry.register(name, bundle, version=version, above=above, lineage=lineage, why=why)
    ref, new = f"{event.model}@{event.version}", event.seq > before

    def show() -> None:
        stdout.print(f"Registered {ref}." if new else f"This content is {ref} already; nothing was changed.")
        stdout.print(f"Next: vitrine evaluate {ref} --dataset NAME", markup=False)

    emit({**_event(event), "ref": ref, "new": new}, as_json, show)


def _event(event: Event) -> dict[str, Any]:
    from vitrine.modelview import event_json

    return event_json(event)


def _line(event: Event) -> str:
    because = f" -- {event.why}" if event.why else ""
    return f"{event.at[:19].replace('T', ' ')}Z  {event.actor}  {event.sentence()}{because}"


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(value)
    return "-" if value in {None, ""} else value


def _show_version(found: dict[str, Any]) -> None:
    stdout.print(f"{found['ref']}  {found['digest']}", markup=False)
    facts = [(key, _shown(found[key])) for key in ("aliases", "registered", "retired", "dim", "modalities")]
    facts += [
        (f"{group}.{key}", value)
        for group in ("licences", "image", "classifier", "parity", "lineage")
        for key, value in (found[group] or {}).items()
    ]
    facts += [(file["path"], f"{file['size']} bytes, sha256 {file['sha256'][:12]}") for file in found["files"]]
    table(("fact", "value"), [(key, str(value)) for key, value in facts])
    for collection in found["collections"]:
        at = f" at {collection['precision']}" if collection["precision"] else ""
        stdout.print(f"{collection['collection']}: {collection['items']} items{at}, {collection['at']}", markup=False)
    for evaluation in found["evaluations"]:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in evaluation["metrics"].items())
        stdout.print(
            f"\n{evaluation['dataset']}/{evaluation['protocol']} via {evaluation['via']}, "
            f"{evaluation['queries']} queries, gallery of {evaluation['gallery']}: {figures}",
            markup=False,
        )
    if not found["evaluations"]:
        stdout.print(f"\nNot measured yet. Next: vitrine evaluate {found['ref']} --dataset NAME", markup=False)
