"""`vitrine items`: change the living catalogue through a running server."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine.cli.call import DEFAULT, Server, connect
from vitrine.cli.output import Json, emit, stdout
from vitrine.errors import BadInput, NotFound
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.client import CatalogueItem, ChangeResult

app = typer.Typer(help="Add, change and delete items of the catalogue that a server searches.", no_args_is_help=True)

_BATCH, _BATCH_BYTES = 32, 32_000_000
_TEXTS = ("title", "product_id", "brand", "seller", "time")
_KNOWN = {"id", "images", "category", "attributes", "numbers", "price", *_TEXTS}

Catalogue = Annotated[str, typer.Option("--catalogue", help="Refuse unless the server searches this catalogue.")]


@app.command()
def upsert(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, an item each: id and images (a list of files, relative to this one); if wanted title, "
            "product_id, category (a list of texts), price, brand, seller, time, attributes, numbers."
        ),
    ],
    server: Server = DEFAULT,
    catalogue: Catalogue = "",
    as_json: Json = False,
) -> None:
    """Add items or change them; searches see them when this ends. Equal ones change nothing, so it can be repeated."""
    items = read_items(file)
    batches = list(_batches(items))
    with connect(server) as client:
        answers = [
            _named([items[place][0]["id"] for place in batch], client.upsert, _loaded(items, batch), catalogue)
            for batch in bar(batches, "upserting")
        ]
    _report(answers, as_json)


@app.command()
def delete(
    item_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Items to take out.")],
    server: Server = DEFAULT,
    catalogue: Catalogue = "",
    as_json: Json = False,
) -> None:
    """Take items out of the catalogue; one that is not there is no error."""
    batches = [item_ids[start : start + _BATCH] for start in range(0, len(item_ids), _BATCH)]
    with connect(server) as client:
        answers = [client.delete(batch, catalogue=catalogue) for batch in bar(batches, "deleting")]
    _report(answers, as_json)


def read_items(file: Path) -> list[tuple[dict[str, Any], list[Path]]]:
    """The lines of a file and the photos that they name, all checked before anything is sent.

    Raises:
        NotFound: no such file, or a photo that is not there.
        BadInput: a line that is no item; the message names it.
    """
    if not file.is_file():
        raise NotFound(f"there is no file at {file}")
    lines = file.read_text(encoding="utf-8").splitlines()
    items = [
        _line(line, f"{file.name} line {number}", file.parent) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not items:
        raise BadInput(f"{file} holds no item", field="FILE")
    twice = [item_id for item_id, count in Counter(record["id"] for record, _ in items).items() if count > 1]
    if twice:
        raise BadInput(f"{file.name} has the id {twice[0]!r} twice; an id names one item", field="id")
    return items


def _line(line: str, where: str, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where} is no JSON: {error}", field="FILE") from error
    if not isinstance(record, dict) or not isinstance(record.get("id"), str) or not record["id"]:
        raise BadInput(f'{where} must be an object with an "id"', field="id")
    for key in sorted(record.keys() - _KNOWN):
        raise BadInput(f"{where}: {key!r} is no field; there are: {', '.join(sorted(_KNOWN))}", field=key)
    _check_kinds(record, where)
    photos = [folder / name for name in record.get("images", [])]
    for photo in photos:
        if not photo.is_file():
            raise NotFound(f"{where}: there is no photo at {photo}")
    return record, photos


def _check_kinds(record: Mapping[str, Any], where: str) -> None:
    kinds: dict[str, tuple[type | tuple[type, ...], str]] = {
        **dict.fromkeys(_TEXTS, (str, "a text")),
        **dict.fromkeys(("images", "category"), (list, "a list of texts")),
        **dict.fromkeys(("attributes", "numbers"), (dict, "an object")),
        "price": ((int, float), "a number"),
    }
    for key, (kind, name) in kinds.items():
        if key in record and not isinstance(record[key], kind):
            raise BadInput(f"{where}: {key} is {record[key]!r}, it must be {name}", field=key)
    for key in ("images", "category"):
        if not all(isinstance(part, str) for part in record.get(key, [])):
            raise BadInput(f"{where}: {key} must hold texts alone", field=key)


def _batches(items: Sequence[tuple[dict[str, Any], list[Path]]]) -> Iterator[list[int]]:
    """Places of items, in groups that fit a message."""
    batch: list[int] = []
    size = 0
    for place, (_, photos) in enumerate(items):
        own = sum(photo.stat().st_size for photo in photos)
        if batch and (len(batch) == _BATCH or size + own > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += own
    yield batch


def _named(
    item_ids: Sequence[str],
    upsert: Callable[..., ChangeResult],
    items: Sequence[CatalogueItem],
    catalogue: str,
) -> ChangeResult:
    """Upsert, and say of which item a refusal is: the server knows but its place in the request."""
    try:
        return upsert(items, catalogue=catalogue)
    except BadInput as error:
        place = re.match(r"items\[(\d+)\]", error.field)
        if place is None:
            raise
        raise BadInput(f"item {item_ids[int(place[1])]!r}: {error}", field=error.field) from error


def _loaded(items: Sequence[tuple[dict[str, Any], list[Path]]], places: Sequence[int]) -> list[CatalogueItem]:
    return [_with_photos(items[place]) for place in places]


def _with_photos(item: tuple[dict[str, Any], list[Path]]) -> CatalogueItem:
    from vitrine.client import CatalogueItem

    record, photos = item
    rest = {key: value for key, value in record.items() if key not in ("id", "images", "category")}
    images = tuple(photo.read_bytes() for photo in photos)
    return CatalogueItem(record["id"], images, category=tuple(record.get("category", ())), **rest)


def _report(answers: Sequence[ChangeResult], as_json: bool) -> None:
    last = answers[-1]
    outcomes = [pair for answer in answers for pair in answer.outcomes]
    counts = Counter(outcome for _, outcome in outcomes)
    value = {
        "catalogue": last.catalogue,
        "seq": last.seq,
        "collection": last.collection,
        "counts": dict(counts),
        "outcomes": [{"id": item_id, "outcome": outcome} for item_id, outcome in outcomes],
    }

    def show() -> None:
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items()))
        stdout.print(f"{last.catalogue}: {said}; change {last.seq}, searched in {last.collection}")

    emit(value, as_json, show)
