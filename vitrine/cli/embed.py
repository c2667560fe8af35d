"""`vitrine embed`: photos of files and folders, or texts, through a running server over one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitrine.cli.call import DEFAULT, Server, connect, version_of
from vitrine.cli.output import Json, emit, stderr, stdout, table
from vitrine.errors import BadInput
from vitrine.progress import bar

app = typer.Typer()

_SHOWN = 10  # failures, by name


@app.command()
def embed(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, or folders of them: JPEG, PNG or WebP.", show_default=False),
    ] = None,
    server: Server = DEFAULT,
    text: Annotated[list[str] | None, typer.Option(help="Embed this text instead of photos; repeatable.")] = None,
    npy: Annotated[
        Path | None,
        typer.Option(help="Write float32 (photos, D) here, and the files' names beside it as .txt; repeat to resume."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Embed photos, or texts where the version reads them: one unit vector each, all by one version.

    A photo that cannot be embedded is named at the end, has a row of zeros, and makes the exit code 2.
    """
    if bool(files) == bool(text):
        raise BadInput(
            "give either photos or --text; a search takes both: vitrine search PHOTO --text TEXT", field="FILES"
        )
    if npy is not None and npy.suffix != ".npy":
        raise BadInput(f"--npy {npy} must end in .npy", field="npy")
    if text:
        _embed_texts(server, text, npy, as_json)
    elif npy is not None:
        _embed_to(server, files or [], npy, as_json)
    else:
        _embed_shown(server, files or [], as_json)


def _embed_to(server: str, paths: list[Path], npy: Path, as_json: bool) -> None:
    from vitrine.embed_files import embed_to, photos_in

    files = photos_in(paths)
    with connect(server) as client:
        done = embed_to(client, files, npy, bar)
    value = {"version": done.version, "dim": done.dim, "files": list(map(str, files)), "npy": str(npy)}
    value |= {"resumed": done.resumed, "failed": done.failed}

    def show() -> None:
        stdout.print(f"{done.count - len(done.failed)} photos embedded by {done.version}, {done.dim} numbers each")
        if done.resumed:
            stdout.print(f"{done.resumed} of them by an earlier run")
        stdout.print(f"written to {npy}, names in {npy.with_suffix('.txt')}")

    emit(value, as_json, show)
    _refuse_failed(done.failed, done.count)


def _embed_shown(server: str, paths: list[Path], as_json: bool) -> None:
    from vitrine.embed_files import Photos, photos_in

    files = photos_in(paths)
    photos = Photos(files)
    with connect(server) as client:
        chunks = list(bar(client.embed_stream(photos), "embedding"))
    failed = {
        str(files[place]): photos.unread.get(place, str(why)) for chunk in chunks for place, why in chunk.failed.items()
    }
    _show("file", [str(path) for path in files], chunks, failed, as_json)
    _refuse_failed(failed, len(files))


def _embed_texts(server: str, texts: list[str], npy: Path | None, as_json: bool) -> None:
    from vitrine.client import Listing

    with connect(server) as client:
        chunks = list(client.embed_stream(Listing(title=text) for text in texts))
    failures = [why for chunk in chunks for why in chunk.failed.values()]
    if failures:
        raise failures[0]
    _show("text", texts, chunks, {}, as_json, npy)


def _show(
    kind: str, names: list[str], chunks: list[Any], failed: dict[str, str], as_json: bool, npy: Path | None = None
) -> None:
    import numpy as np

    vectors, version = np.concatenate([chunk.vectors for chunk in chunks]), chunks[0].version
    value: dict[str, Any] = {"version": version_of(version), f"{kind}s": names, "dim": version.dim, "failed": failed}
    if npy is not None:
        _save(npy, vectors)
    value |= {"npy": str(npy)} if npy else {"embeddings": vectors.tolist()}

    def show() -> None:
        what = "texts" if kind == "text" else "photos"
        stdout.print(f"{len(vectors) - len(failed)} {what} embedded by {version}, {version.dim} numbers each")
        if npy:
            stdout.print(f"written to {npy}")
        else:
            rows = [
                [Path(name).name if kind == "file" else name, _begin(row)]
                for name, row in zip(names, vectors, strict=True)
            ]
            table([kind, "vector"], rows)

    emit(value, as_json, show)


def _refuse_failed(failed: dict[str, str], count: int) -> None:
    if not failed:
        return
    for path, why in list(failed.items())[:_SHOWN]:
        stderr.print(f"{path}: {why}", markup=False)
    if len(failed) > _SHOWN:
        stderr.print(f"… and {len(failed) - _SHOWN} more; all of them: --json")
    raise BadInput(f"{len(failed)} of {count} photos could not be embedded; their rows are zero", field="FILES")


def _save(path: Path, vectors: Any) -> None:
    import io

    import numpy as np

    from vitrine.files import write_atomic

    buffer = io.BytesIO()
    np.save(buffer, vectors)
    write_atomic(path, buffer.getvalue())


def _begin(vector: Any) -> str:
    return " ".join(f"{x:+.3f}" for x in vector[:6]) + " …"
