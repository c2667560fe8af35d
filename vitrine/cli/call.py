"""`vitrine classify`, `search`: ask a running server; and what all commands that ask one share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.output import Json, emit, table
from vitrine.errors import BadInput, Conflict, NotFound
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.client import Version, VitrineClient
    from vitrine.ports import Condition

app = typer.Typer()

_PEMS = ("CA", "CERT", "KEY")
_BATCH = 32
_BATCH_BYTES = 48_000_000  # a message holds 64 MiB

Server = Annotated[
    str,
    typer.Option(help="HOST:PORT of the gRPC server; VITRINE_CA, VITRINE_CERT and VITRINE_KEY name PEM files for TLS."),
]
Files = Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG or WebP.", show_default=False)]

DEFAULT = "127.0.0.1:50051"


@app.command()
def classify(
    files: Files,
    server: Server = DEFAULT,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Labels a photo.")] = 3,
    abstain_below: Annotated[
        float | None, typer.Option(help="A top probability below this means no label; the version's own if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Label photos, with calibrated probabilities."""
    with connect(server) as client:
        answers = [
            client.classify([_read(path) for path in chunk], top_k=top_k, abstain_below=abstain_below)
            for chunk in bar(_chunks(files), "classifying")
        ]
    found = [item for answer in answers for item in answer.items]
    version = _one_version([answer.version for answer in answers])
    value = {
        "version": version_of(version),
        "items": [
            {
                "file": str(path),
                "labels": [{"label": name, "probability": share} for name, share in item.labels],
                "abstained": item.abstained,
            }
            for path, item in zip(files, found, strict=True)
        ],
    }

    def show() -> None:
        rows = [
            [path.name, "not sure" if item.abstained else item.labels[0][0], _shares(item.labels)]
            for path, item in zip(files, found, strict=True)
        ]
        table(["file", "label", "best"], rows, title=f"answered by {version}")

    emit(value, as_json, show)


@app.command()
def search(
    file: Annotated[Path | None, typer.Argument(help="A photo.", show_default=False)] = None,
    server: Server = DEFAULT,
    text: Annotated[str, typer.Option(help="Search by a text, alone or together with the photo.")] = "",
    item_id: Annotated[str | None, typer.Option(help="Search by an item of the catalogue instead.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Hits wanted.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option("--filter", help="field=value, field=one,other or field=low..high; all must hold."),
    ] = None,
    exact: Annotated[bool, typer.Option(help="Compare with every item.")] = False,
    by_product: Annotated[bool, typer.Option("--by-product", help="Only the best item of each product.")] = False,
    as_json: Json = False,
) -> None:
    """Find the items of the live catalogue nearest to a photo, a text, or both."""
    if (file is None and not text) == (item_id is None):
        raise BadInput("give a photo, --text TEXT or both, or else --item-id ID", field="FILE")
    conditions = tuple(parse_filter(one) for one in where or [])
    with connect(server) as client:
        photo = _read(file) if file else None
        result = client.search(
            photo, text=text, item_id=item_id, k=k, where=conditions, exact=exact, by_product=by_product
        )
    value = {
        "version": version_of(result.version),
        "collection": result.collection,
        "hits": [{"item_id": hit.item_id, "score": hit.score, "payload": dict(hit.payload)} for hit in result.hits],
    }

    def show() -> None:
        rows = [
            [hit.item_id, hit.score, str(hit.payload.get("label", "")), str(hit.payload.get("title", ""))]
            for hit in result.hits
        ]
        table(["item", "similarity", "label", "title"], rows, title=f"{result.version}, {result.collection}")

    emit(value, as_json, show)


def connect(server: str) -> VitrineClient:
    """A client, over TLS where the environment names certificates."""
    import os

    from vitrine.client import Tls, VitrineClient

    ca, cert, key = (Path(found) if (found := os.environ.get(f"VITRINE_{name}")) else None for name in _PEMS)
    return VitrineClient(server, tls=Tls(ca, cert, key) if ca or cert or key else None)


def parse_filter(text: str) -> Condition:
    """One `--filter`.

    Raises:
        BadInput: neither `field=value` nor `field=low..high`.

    >>> parse_filter("price=10..50")
    Condition(field='price', any_of=(), low=10.0, high=50.0)
    """
    from vitrine.ports import Condition

    field, equals, value = text.partition("=")
    if not field or not equals or not value:
        raise BadInput(f"--filter {text!r} is not field=value or field=low..high", field="filter")
    low, dots, high = value.partition("..")
    if not dots:
        return Condition(field, any_of=tuple(value.split(",")))
    try:
        ends = [float(end) if end else None for end in (low, high)]
    except ValueError as error:
        raise BadInput(
            f"--filter {text!r}: the ends of a range are numbers, such as price=10..50", field="filter"
        ) from error
    if ends == [None, None]:
        raise BadInput(f"--filter {text!r}: a range needs at least one end, such as price=10..", field="filter")
    return Condition(field, low=ends[0], high=ends[1])


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise NotFound(f"there is no photo at {path}")
    return path.read_bytes()


def _chunks(files: list[Path]) -> list[list[Path]]:
    for path in files:  # a missing last file is said before the first is sent
        if not path.is_file():
            raise NotFound(f"there is no photo at {path}")
    chunks: list[list[Path]] = []
    room = 0
    for path in files:
        size = path.stat().st_size
        if not chunks or len(chunks[-1]) == _BATCH or size > room:
            chunks.append([])
            room = _BATCH_BYTES
        chunks[-1].append(path)
        room -= size
    return chunks


def _one_version(versions: list[Version]) -> Version:
    """The version that gave all answers."""
    names = list(dict.fromkeys(map(str, versions)))
    if len(set(versions)) > 1:
        raise Conflict(
            f"the server went from {' to '.join(names)} meanwhile, and answers of two versions cannot be mixed; "
            "run the command again"
        )
    return versions[0]


def version_of(version: Version) -> dict[str, Any]:
    """A version as JSON."""
    return asdict(version)


def _shares(labels: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in labels)
